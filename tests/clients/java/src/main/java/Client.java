import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.Random;

/** The checklist of ../README.md with MySQL Connector/J. */
public final class Client {
    private static final String TABLE = "client_java";

    private interface Step {
        void run(Connection connection) throws Exception;
    }

    private static Connection connect(String password) throws SQLException {
        var env = System.getenv();
        var options = new Properties();
        options.setProperty("user", env.get("CLIENT_USER"));
        options.setProperty("password", password);
        options.setProperty("useServerPrepStmts", "true");
        options.setProperty("maxAllowedPacket", String.valueOf(64 << 20));
        options.setProperty("connectionTimeZone", "UTC");
        options.setProperty("allowPublicKeyRetrieval", "true");
        String ca = env.get("CLIENT_CA");
        if (ca == null || ca.isEmpty()) {
            options.setProperty("sslMode", "DISABLED");
        } else {
            options.setProperty("sslMode", "VERIFY_CA");
            options.setProperty("trustCertificateKeyStoreType", "PKCS12");
            options.setProperty("trustCertificateKeyStoreUrl", "file:" + env.get("CLIENT_TRUSTSTORE"));
            options.setProperty("trustCertificateKeyStorePassword", "lab-only");
        }
        String url = "jdbc:mysql://" + env.get("CLIENT_HOST") + ":" + env.get("CLIENT_PORT") + "/" + env.get("CLIENT_DATABASE");
        return DriverManager.getConnection(url, options);
    }

    private static void equal(Object got, Object want) {
        if (!want.equals(got)) {
            throw new AssertionError("got " + got + ", want " + want);
        }
    }

    private static void rejects(int number, Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        } catch (SQLException fault) {
            equal(fault.getErrorCode(), number);
            return;
        }
        throw new AssertionError("no error, " + number + " expected");
    }

    private static void run(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    private static void login(Connection ignored) throws SQLException {
        try {
            connect("wrong").close();
        } catch (SQLException fault) {
            equal(fault.getErrorCode(), 1045);
            return;
        }
        throw new AssertionError("a wrong password logged in");
    }

    private static void text(Connection connection) throws SQLException {
        run(connection, "DROP TABLE IF EXISTS " + TABLE);
        run(connection, "CREATE TABLE " + TABLE + " (id INT PRIMARY KEY, name VARCHAR(100), at DATETIME, big LONGBLOB) DEFAULT CHARSET utf8mb4");
        run(connection, "INSERT INTO " + TABLE + " VALUES (1, 'Zoë 漢字 🐬', '2024-02-29 12:34:56', NULL)");
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("SELECT name, at, big FROM " + TABLE)) {
            equal(rows.next(), true);
            equal(rows.getString(1), "Zoë 漢字 🐬");
            equal(rows.getString(2), "2024-02-29 12:34:56");
            equal(rows.getBytes(3) == null, true);
        }
    }

    private static void prepared(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("SELECT id, name FROM " + TABLE + " WHERE id = ?")) {
            for (int time = 0; time < 5; time++) {
                statement.setInt(1, 1);
                try (ResultSet rows = statement.executeQuery()) {
                    equal(rows.next(), true);
                    equal(rows.getInt(1), 1);
                }
            }
        }
    }

    private static void transaction(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        run(connection, "INSERT INTO " + TABLE + " (id) VALUES (2)");
        connection.rollback();
        run(connection, "INSERT INTO " + TABLE + " (id) VALUES (3)");
        connection.commit();
        connection.setAutoCommit(true);
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("SELECT COUNT(*) FROM " + TABLE + " WHERE id IN (2, 3)")) {
            rows.next();
            equal(rows.getInt(1), 1);
        }
    }

    private static void blob(Connection connection) throws SQLException {
        byte[] big = new byte[20_000_000];
        new Random(7).nextBytes(big);
        try (PreparedStatement statement = connection.prepareStatement("INSERT INTO " + TABLE + " (id, big) VALUES (4, ?)")) {
            statement.setBytes(1, big);
            equal(statement.executeUpdate(), 1);
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT big FROM " + TABLE + " WHERE id = 4");
                ResultSet rows = statement.executeQuery()) {
            rows.next();
            equal(Arrays.equals(rows.getBytes(1), big), true);
        }
    }

    private static void error(Connection connection) throws SQLException {
        rejects(1064, connection, "SELEKT 1");
        rejects(1146, connection, "SELECT * FROM no_such_table");
        rejects(1062, connection, "INSERT INTO " + TABLE + " (id) VALUES (1)");
        equal(connection.isValid(30), true);
    }

    private static void reset(Connection connection) throws SQLException {
        run(connection, "SET @kept = 1");
        var jdbc = connection.unwrap(com.mysql.cj.jdbc.JdbcConnection.class);
        jdbc.changeUser(System.getenv("CLIENT_USER"), System.getenv("CLIENT_PASSWORD"));
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery("SELECT @kept")) {
            rows.next();
            equal(rows.getString(1) == null, true);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Step> steps = new LinkedHashMap<>();
        steps.put("login", Client::login);
        steps.put("text", Client::text);
        steps.put("prepared", Client::prepared);
        steps.put("transaction", Client::transaction);
        steps.put("blob", Client::blob);
        steps.put("error", Client::error);
        steps.put("reset", Client::reset);
        try (Connection connection = connect(System.getenv("CLIENT_PASSWORD"))) {
            for (var step : steps.entrySet()) {
                try {
                    step.getValue().run(connection);
                } catch (Exception | AssertionError fault) {
                    System.err.println("failed connector-j " + step.getKey() + ": " + fault);
                    System.exit(1);
                }
                System.out.println("ok " + step.getKey());
            }
        }
    }
}
