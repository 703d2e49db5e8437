// The checklist of ../README.md with go-sql-driver/mysql.
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-sql-driver/mysql"
)

const table = "client_go"

func config(password string) *mysql.Config {
	config := mysql.NewConfig()
	config.Net = "tcp"
	config.Addr = os.Getenv("CLIENT_HOST") + ":" + os.Getenv("CLIENT_PORT")
	config.User = os.Getenv("CLIENT_USER")
	config.Passwd = password
	config.DBName = os.Getenv("CLIENT_DATABASE")
	config.ParseTime = true
	config.MaxAllowedPacket = 64 << 20
	config.Timeout = time.Minute
	if ca := os.Getenv("CLIENT_CA"); ca != "" {
		pem, err := os.ReadFile(ca)
		check(err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		check(mysql.RegisterTLSConfig("lab", &tls.Config{RootCAs: roots, ServerName: "localhost"}))
		config.TLSConfig = "lab"
	}
	return config
}

func open(password string) *sql.DB {
	db, err := sql.Open("mysql", config(password).FormatDSN())
	check(err)
	return db
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal[T comparable](got, want T) {
	if got != want {
		panic(fmt.Sprintf("got %v, want %v", got, want))
	}
}

func number(err error) uint16 {
	var fault *mysql.MySQLError
	if errors.As(err, &fault) {
		return fault.Number
	}
	panic(fmt.Sprintf("not a MySQL error: %v", err))
}

func login(_ *sql.DB) {
	wrong := open("wrong")
	defer wrong.Close()
	equal(number(wrong.Ping()), 1045)
}

func text(db *sql.DB) {
	_, err := db.Exec("DROP TABLE IF EXISTS " + table)
	check(err)
	_, err = db.Exec("CREATE TABLE " + table + " (id INT PRIMARY KEY, name VARCHAR(100), at DATETIME, big LONGBLOB) DEFAULT CHARSET utf8mb4")
	check(err)
	_, err = db.Exec("INSERT INTO " + table + " VALUES (1, 'Zoë 漢字 🐬', '2024-02-29 12:34:56', NULL)")
	check(err)
	var name string
	var at time.Time
	var big []byte
	check(db.QueryRow("SELECT name, at, big FROM "+table+" WHERE id = 1").Scan(&name, &at, &big))
	equal(name, "Zoë 漢字 🐬")
	equal(at, time.Date(2024, 2, 29, 12, 34, 56, 0, time.UTC))
	equal(big == nil, true)
}

func prepared(db *sql.DB) {
	statement, err := db.Prepare("SELECT id, ? FROM " + table + " WHERE id = ?")
	check(err)
	defer statement.Close()
	for n := range 5 {
		var id, back int
		check(statement.QueryRow(n, 1).Scan(&id, &back))
		equal(back, n)
	}
}

func transaction(db *sql.DB) {
	for id, keep := range map[int]bool{2: false, 3: true} {
		tx, err := db.Begin()
		check(err)
		_, err = tx.Exec("INSERT INTO "+table+" (id) VALUES (?)", id)
		check(err)
		if keep {
			check(tx.Commit())
		} else {
			check(tx.Rollback())
		}
	}
	var count int
	check(db.QueryRow("SELECT COUNT(*) FROM " + table + " WHERE id IN (2, 3)").Scan(&count))
	equal(count, 1)
}

func blob(db *sql.DB) {
	big := make([]byte, 20_000_000)
	_, err := rand.Read(big)
	check(err)
	_, err = db.Exec("INSERT INTO "+table+" (id, big) VALUES (4, ?)", big)
	check(err)
	var back []byte
	check(db.QueryRow("SELECT big FROM " + table + " WHERE id = 4").Scan(&back))
	equal(bytes.Equal(back, big), true)
}

func errorNumbers(db *sql.DB) {
	for statement, want := range map[string]uint16{
		"SELEKT 1":                    1064,
		"SELECT * FROM no_such_table": 1146,
		"INSERT INTO " + table + " (id) VALUES (1)": 1062,
	} {
		_, err := db.Exec(statement)
		equal(number(err), want)
	}
	check(db.Ping())
}

// reset: this driver resets nothing between two uses of a pooled connection, and closes it instead.
func reset(db *sql.DB) {
	db.SetMaxOpenConns(1)
	_, err := db.Exec("SET @kept = 1")
	check(err)
	equal(kept(db), sql.NullInt64{Int64: 1, Valid: true})
	db.SetMaxIdleConns(-1)
	equal(kept(db), sql.NullInt64{})
}

func kept(db *sql.DB) (value sql.NullInt64) {
	check(db.QueryRow("SELECT @kept").Scan(&value))
	return value
}

func main() {
	db := open(os.Getenv("CLIENT_PASSWORD"))
	db.SetMaxOpenConns(2)
	steps := []struct {
		name string
		run  func(*sql.DB)
	}{{"login", login}, {"text", text}, {"prepared", prepared}, {"transaction", transaction}, {"blob", blob}, {"error", errorNumbers}, {"reset", reset}}
	for _, step := range steps {
		func() {
			defer func() {
				if fault := recover(); fault != nil {
					fmt.Fprintf(os.Stderr, "failed go-sql-driver %s: %.500v\n", step.name, fault)
					os.Exit(1)
				}
			}()
			step.run(db)
		}()
		fmt.Println("ok", step.name)
	}
	check(db.Close())
}
