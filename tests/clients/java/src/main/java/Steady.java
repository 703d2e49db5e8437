import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** The steady client of ../README.md with MySQL Connector/J. */
public final class Steady implements Runnable {
    private static final CountDownLatch STOP = new CountDownLatch(1);
    private static final int REST_MS = number("STEADY_REST_MS");

    private interface Command {
        void run() throws SQLException;
    }

    private final int client;
    private final Connection connection;
    private final PreparedStatement insert;
    private final List<String> lines = new ArrayList<>();

    private Steady(int client) throws SQLException {
        var options = new Properties();
        options.setProperty("user", System.getenv("CLIENT_USER"));
        options.setProperty("password", System.getenv("CLIENT_PASSWORD"));
        options.setProperty("useServerPrepStmts", "true");
        options.setProperty("connectionTimeZone", "UTC");
        options.setProperty("sslMode", "DISABLED");
        options.setProperty("allowPublicKeyRetrieval", "true");
        // Otherwise it asks a server that it took for a 5.6 for @@tx_read_only, which vtgate does not have.
        options.setProperty("readOnlyPropagatesToServer", "false");
        String url = "jdbc:mysql://" + System.getenv("CLIENT_HOST") + ":" + System.getenv("CLIENT_PORT") + "/scratch";
        this.client = client;
        connection = DriverManager.getConnection(url, options);
        insert = connection.prepareStatement("INSERT INTO checker_marks (client, n) VALUES (?, ?)");
        say("SET @mark = " + client);
    }

    private static int number(String name) {
        return Integer.parseInt(System.getenv(name));
    }

    private void timed(Command command) throws SQLException {
        long began = System.currentTimeMillis() * 1000, clock = System.nanoTime();
        try {
            command.run();
        } finally {
            lines.add("took " + client + " " + began + " " + (System.nanoTime() - clock) / 1000);
        }
    }

    private void say(String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            timed(() -> statement.execute(sql));
        }
    }

    private void mark(int n) throws SQLException {
        if (n % 2 == 0) {
            say("INSERT INTO checker_marks (client, n) VALUES (" + client + ", " + n + ")");
            return;
        }
        insert.setInt(1, client);
        insert.setInt(2, n);
        timed(insert::executeUpdate);
    }

    private void count() throws SQLException {
        say("UPDATE checker_counters SET n = n + 1 WHERE client = " + client);
    }

    private void act(int n) throws SQLException {
        boolean marks = n % 4 != 2, counts = n % 4 > 1;
        String told = "unknown";
        try {
            if (marks && counts) {
                told = "refused";
                connection.setAutoCommit(false);
                mark(n);
                count();
                told = "unknown";
                timed(connection::commit);
                told = "acknowledged";
                connection.setAutoCommit(true);
            } else if (marks) {
                mark(n);
            } else {
                count();
            }
            told = "acknowledged";
        } finally {
            if (marks) {
                lines.add("mark " + client + " " + n + " " + told);
            }
            if (counts) {
                lines.add("count " + client + " " + told);
            }
        }
        if (n % 5 == 0) {
            check();
        }
    }

    private void check() throws SQLException {
        try (Statement statement = connection.createStatement()) {
            timed(() -> {
                try (var said = statement.executeQuery("SELECT @mark")) {
                    if (!said.next() || said.getInt(1) != client) {
                        lines.add("wrong " + client + " @mark is another");
                    }
                }
            });
        }
    }

    @Override
    public void run() {
        try {
            for (int n = 1; !STOP.await(REST_MS, TimeUnit.MILLISECONDS); n++) {
                act(n);
            }
            connection.close();
        } catch (SQLException | InterruptedException fault) {
            lines.add("error " + client + " " + fault.toString().replace('\n', ' '));
        }
    }

    public static void main(String[] arguments) throws Exception {
        List<Steady> clients = new ArrayList<>();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < number("STEADY_CONNECTIONS"); i++) {
            clients.add(new Steady(number("STEADY_FIRST") + i));
        }
        for (Steady client : clients) {
            Thread thread = new Thread(client);
            threads.add(thread);
            thread.start();
        }
        System.out.println("ready");
        System.out.flush();
        System.in.readAllBytes();
        STOP.countDown();
        for (Thread thread : threads) {
            thread.join();
        }
        for (Steady client : clients) {
            System.out.println(String.join("\n", client.lines));
        }
    }
}
