"""The steady client of ../README.md with PyMySQL, which sends everything as text."""

import os
import sys
import threading
import time

import pymysql

FIRST, CONNECTIONS = int(os.environ["STEADY_FIRST"]), int(os.environ["STEADY_CONNECTIONS"])
REST = int(os.environ["STEADY_REST_MS"]) / 1000
STOP = threading.Event()


class Client:
    def __init__(self, number):
        self.number, self.lines = number, []
        self.connection = pymysql.connect(
            host=os.environ["CLIENT_HOST"],
            port=int(os.environ["CLIENT_PORT"]),
            user=os.environ["CLIENT_USER"],
            password=os.environ["CLIENT_PASSWORD"],
            database="scratch",
            charset="utf8mb4",
            autocommit=True,
            ssl_disabled=True,
        )
        self.say(f"SET @mark = {number}")

    def say(self, sql, arguments=None):
        began = time.time()
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(sql, arguments)
                return cursor.fetchall()
        finally:
            self.lines.append(f"took {self.number} {int(began * 1e6)} {int((time.time() - began) * 1e6)}")

    def mark(self, n):
        self.say("INSERT INTO checker_marks (client, n) VALUES (%s, %s)", (self.number, n))

    def count(self):
        self.say(f"UPDATE checker_counters SET n = n + 1 WHERE client = {self.number}")

    def act(self, n):
        marks, counts = n % 4 != 2, n % 4 > 1
        told = "unknown"
        try:
            if marks and counts:
                told = "refused"
                self.say("BEGIN")
                self.mark(n)
                self.count()
                told = "unknown"
                self.say("COMMIT")
            elif marks:
                self.mark(n)
            else:
                self.count()
            told = "acknowledged"
        finally:
            if marks:
                self.lines.append(f"mark {self.number} {n} {told}")
            if counts:
                self.lines.append(f"count {self.number} {told}")
        if n % 5 == 0:
            said = self.say("SELECT @mark")
            if int(said[0][0]) != self.number:
                self.lines.append(f"wrong {self.number} @mark is {said}")

    def run(self):
        n = 0
        try:
            while not STOP.wait(REST):
                n += 1
                self.act(n)
            self.connection.close()
        except Exception as fault:
            self.lines.append(f"error {self.number} {fault!r}")


clients = [Client(FIRST + number) for number in range(CONNECTIONS)]
threads = [threading.Thread(target=client.run) for client in clients]
for thread in threads:
    thread.start()
print("ready", flush=True)
sys.stdin.read()
STOP.set()
for thread in threads:
    thread.join()
for client in clients:
    print("\n".join(client.lines))
