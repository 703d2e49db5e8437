"""The checklist of ../README.md with PyMySQL or mysqlclient: `client.py pymysql|mysqlclient`."""

import os
import sys
from datetime import datetime

DRIVER = sys.argv[1]
if DRIVER == "pymysql":
    import pymysql as driver
else:
    import MySQLdb as driver

TABLE = f"{os.environ['CLIENT_DATABASE']}.client_{DRIVER}"
BLOB = os.urandom(1 << 16) * 320


def connect(password=None):
    options = {
        "host": os.environ["CLIENT_HOST"],
        "port": int(os.environ["CLIENT_PORT"]),
        "user": os.environ["CLIENT_USER"],
        "password": password or os.environ["CLIENT_PASSWORD"],
        "database": os.environ["CLIENT_DATABASE"],
        "charset": "utf8mb4",
    }
    ca = os.environ.get("CLIENT_CA")
    if DRIVER == "pymysql":
        options["max_allowed_packet"] = 64 << 20
        if ca:
            options.update(ssl_ca=ca, ssl_verify_cert=True, ssl_verify_identity=False)
        else:
            options["ssl_disabled"] = True
    elif ca:
        options["ssl"] = {"ca": ca}
    return driver.connect(**options)


def one(cursor, sql, arguments=None):
    cursor.execute(sql, arguments)
    return cursor.fetchone()


def expect_error(number, action):
    try:
        action()
    except driver.Error as error:
        assert error.args[0] == number, f"error {error.args}, not {number}"
        return
    raise AssertionError(f"no error, {number} expected")


def login(_):
    expect_error(1045, lambda: connect("wrong"))


def text(connection):
    cursor = connection.cursor()
    cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")
    cursor.execute(
        f"CREATE TABLE {TABLE} (id INT PRIMARY KEY, name VARCHAR(100), at DATETIME, big LONGBLOB) DEFAULT CHARSET utf8mb4"
    )
    at = datetime(2024, 2, 29, 12, 34, 56)
    cursor.execute(f"INSERT INTO {TABLE} VALUES (1, %s, %s, NULL)", ("Zoë 漢字 🐬", at))
    assert one(cursor, f"SELECT name, at, big FROM {TABLE} WHERE id = 1") == ("Zoë 漢字 🐬", at, None)
    assert one(cursor, "SELECT 1, 'a', NULL") == (1, "a", None)
    connection.commit()


def prepared(connection):
    cursor = connection.cursor()
    cursor.execute("PREPARE p FROM 'SELECT ? + 1'")
    for number in range(5):
        cursor.execute(f"SET @n = {number}")
        assert int(one(cursor, "EXECUTE p USING @n")[0]) == number + 1
    cursor.execute("DEALLOCATE PREPARE p")


def transaction(connection):
    cursor = connection.cursor()
    cursor.execute(f"INSERT INTO {TABLE} (id) VALUES (2)")
    connection.rollback()
    cursor.execute(f"INSERT INTO {TABLE} (id) VALUES (3)")
    connection.commit()
    assert one(cursor, f"SELECT COUNT(*) FROM {TABLE} WHERE id IN (2, 3)") == (1,)
    connection.commit()


def blob(connection):
    cursor = connection.cursor()
    cursor.execute(f"INSERT INTO {TABLE} (id, big) VALUES (4, _binary %s)", (BLOB,))
    connection.commit()
    assert one(cursor, f"SELECT big FROM {TABLE} WHERE id = 4")[0] == BLOB
    connection.commit()


def error(connection):
    cursor = connection.cursor()
    expect_error(1064, lambda: cursor.execute("SELEKT 1"))
    expect_error(1146, lambda: cursor.execute("SELECT * FROM no_such_table"))
    expect_error(1062, lambda: cursor.execute(f"INSERT INTO {TABLE} (id) VALUES (1)"))
    assert one(cursor, "SELECT 1") == (1,)


def reset(connection):
    cursor = connection.cursor()
    cursor.execute("SET @kept = 1")
    if DRIVER == "mysqlclient":
        connection.change_user(
            os.environ["CLIENT_USER"], os.environ["CLIENT_PASSWORD"], os.environ["CLIENT_DATABASE"]
        )
        assert one(connection.cursor(), "SELECT @kept") == (None,)
    else:
        connection.ping(reconnect=False)
        connection.select_db(os.environ["CLIENT_DATABASE"])
        assert one(cursor, "SELECT @kept") == (1,)
        connection.close()
        connection.connect()
        assert one(connection.cursor(), "SELECT @kept") == (None,)


def main():
    connection = connect()
    for step in (login, text, prepared, transaction, blob, error, reset):
        try:
            step(connection)
        except Exception as fault:
            sys.exit(f"failed {DRIVER} {step.__name__}: {fault!r:.500}")
        print(f"ok {step.__name__}", flush=True)
    connection.close()


main()
