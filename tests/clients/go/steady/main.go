// The steady client of ../../README.md with go-sql-driver/mysql.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// A client has one connection for as long as it lives.
type client struct {
	number   int
	conn     *sql.Conn
	prepared *sql.Stmt
	lines    []string
}

func number(name string) int {
	n, err := strconv.Atoi(os.Getenv(name))
	check(err)
	return n
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func open(db *sql.DB, number int) *client {
	conn, err := db.Conn(context.Background())
	check(err)
	prepared, err := conn.PrepareContext(context.Background(), "INSERT INTO checker_marks (client, n) VALUES (?, ?)")
	check(err)
	c := &client{number: number, conn: conn, prepared: prepared}
	check(c.say(fmt.Sprintf("SET @mark = %d", number)))
	return c
}

func (c *client) note(format string, arguments ...any) {
	c.lines = append(c.lines, strings.ReplaceAll(fmt.Sprintf(format, arguments...), "\n", " "))
}

func (c *client) timed(command func() error) error {
	began := time.Now()
	err := command()
	c.note("took %d %d %d", c.number, began.UnixMicro(), time.Since(began).Microseconds())
	return err
}

func (c *client) say(sql string) error {
	return c.timed(func() error {
		_, err := c.conn.ExecContext(context.Background(), sql)
		return err
	})
}

func (c *client) mark(n int) error {
	if n%2 == 0 {
		return c.say(fmt.Sprintf("INSERT INTO checker_marks (client, n) VALUES (%d, %d)", c.number, n))
	}
	return c.timed(func() error {
		_, err := c.prepared.Exec(c.number, n)
		return err
	})
}

func (c *client) count() error {
	return c.say(fmt.Sprintf("UPDATE checker_counters SET n = n + 1 WHERE client = %d", c.number))
}

func (c *client) both(n int) (told string, err error) {
	for _, step := range []func() error{
		func() error { return c.say("BEGIN") },
		func() error { return c.mark(n) },
		c.count,
	} {
		if err := step(); err != nil {
			return "refused", err
		}
	}
	return "unknown", c.say("COMMIT")
}

func (c *client) act(n int) (err error) {
	told := "unknown"
	switch marks, counts := n%4 != 2, n%4 > 1; {
	case marks && counts:
		told, err = c.both(n)
		defer func() { c.note("count %d %s", c.number, told) }()
		defer func() { c.note("mark %d %d %s", c.number, n, told) }()
	case marks:
		err = c.mark(n)
		defer func() { c.note("mark %d %d %s", c.number, n, told) }()
	default:
		err = c.count()
		defer func() { c.note("count %d %s", c.number, told) }()
	}
	if err != nil {
		return err
	}
	told = "acknowledged"
	if n%5 != 0 {
		return nil
	}
	var mark int
	err = c.timed(func() error {
		return c.conn.QueryRowContext(context.Background(), "SELECT @mark").Scan(&mark)
	})
	if err == nil && mark != c.number {
		c.note("wrong %d @mark is %d", c.number, mark)
	}
	return err
}

func (c *client) run(stop <-chan struct{}, rest time.Duration) {
	for n := 1; ; n++ {
		select {
		case <-stop:
			_ = c.conn.Close()
			return
		case <-time.After(rest):
		}
		if err := c.act(n); err != nil {
			c.note("error %d %v", c.number, err)
			return
		}
	}
}

func main() {
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", os.Getenv("CLIENT_HOST")+":"+os.Getenv("CLIENT_PORT")
	config.User, config.Passwd = os.Getenv("CLIENT_USER"), os.Getenv("CLIENT_PASSWORD")
	config.DBName, config.Timeout = "scratch", time.Minute
	db, err := sql.Open("mysql", config.FormatDSN())
	check(err)
	clients := make([]*client, number("STEADY_CONNECTIONS"))
	for i := range clients {
		clients[i] = open(db, number("STEADY_FIRST")+i)
	}
	stop, rest := make(chan struct{}), time.Duration(number("STEADY_REST_MS"))*time.Millisecond
	var all sync.WaitGroup
	for _, c := range clients {
		all.Add(1)
		go func() {
			defer all.Done()
			c.run(stop, rest)
		}()
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	close(stop)
	all.Wait()
	for _, c := range clients {
		fmt.Println(strings.Join(c.lines, "\n"))
	}
}
