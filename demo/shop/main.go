// A small shop, written the way applications are: joins, transactions, prepared statements, text
// statements, a report now and then. It makes its own keys and takes the time from its own clock,
// so that both servers can hold the same rows.
//
// With -known it also says, once a second, one of the statements of known.go, which are known to
// differ behind vtgate.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
)

// A shop is what the workers share.
type shop struct {
	text     *sql.DB // statements as text
	prepared *sql.DB // statements prepared on the server
	next     atomic.Int64
	done     atomic.Int64
	failed   atomic.Int64
	first    int64    // orders are numbered from here
	moving   sync.Map // orders that a worker is moving
	times    *os.File
}

const (
	customers = 400
	products  = 120
)

func open(address, user, password, database string, text bool) *sql.DB {
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", address
	config.User, config.Passwd, config.DBName = user, password, database
	config.ParseTime, config.InterpolateParams = true, text
	config.Timeout = 30 * time.Second
	db, err := sql.Open("mysql", config.FormatDSN())
	if err != nil {
		log.Fatal(err)
	}
	return db
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

// seed fills the tables that the workers read, in transactions of fifty rows.
func (s *shop) seed(ctx context.Context) error {
	fill := func(count int, statement string, row func(id int) []any) error {
		for from := 1; from <= count; from += 50 {
			err := s.transaction(ctx, s.text, func(tx *sql.Tx) error {
				for id := from; id < from+50 && id <= count; id++ {
					if _, err := tx.ExecContext(ctx, statement, row(id)...); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	err := fill(customers, "INSERT INTO customers (id, email, name, created_at) VALUES (?, ?, ?, ?)", func(id int) []any {
		return []any{id, fmt.Sprintf("customer%d@example.test", id), fmt.Sprintf("Customer %d", id), now()}
	})
	if err != nil {
		return err
	}
	return fill(products, "INSERT INTO products (id, sku, title, price, stock) VALUES (?, ?, ?, ?, ?)", func(id int) []any {
		return []any{id, fmt.Sprintf("SKU-%04d", id), fmt.Sprintf("Thing number %d", id), fmt.Sprintf("%d.%02d", 1+id%90, id%100), 1_000_000}
	})
}

func (s *shop) transaction(ctx context.Context, db *sql.DB, work func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := work(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

// browse reads the way a visitor does.
func (s *shop) browse(ctx context.Context, random *rand.Rand) error {
	id := 1 + random.IntN(products)
	var title, price string
	if err := s.prepared.QueryRowContext(ctx, "SELECT title, price FROM products WHERE id = ?", id).Scan(&title, &price); err != nil {
		return err
	}
	return drain(s.text.QueryContext(ctx, "SELECT id, sku, title FROM products WHERE id BETWEEN ? AND ? ORDER BY id", id, id+10))
}

// order writes one order with its lines and its payment, in one transaction.
func (s *shop) order(ctx context.Context, random *rand.Rand) error {
	db := s.text
	if random.IntN(2) == 0 {
		db = s.prepared
	}
	order, customer := s.next.Add(1), 1+random.IntN(customers)
	return s.transaction(ctx, db, func(tx *sql.Tx) error {
		total := 0
		statements := func(sql string, arguments ...any) error {
			_, err := tx.ExecContext(ctx, sql, arguments...)
			return err
		}
		if err := statements("INSERT INTO orders (id, customer_id, status, total, placed_at) VALUES (?, ?, 'new', 0, ?)", order, customer, now()); err != nil {
			return err
		}
		for line := range 1 + random.IntN(3) {
			product, quantity := 1+random.IntN(products), 1+random.IntN(4)
			total += quantity * 10
			if err := statements("INSERT INTO order_lines (id, order_id, product_id, qty, price) VALUES (?, ?, ?, ?, 10.00)", order*10+int64(line), order, product, quantity); err != nil {
				return err
			}
		}
		if err := statements("UPDATE orders SET total = ?, status = 'paid' WHERE id = ?", total, order); err != nil {
			return err
		}
		return statements("INSERT INTO payments (id, order_id, method, amount, paid_at) VALUES (?, ?, 'card', ?, ?)", order, order, total, now())
	})
}

// history joins a customer's orders with their lines.
func (s *shop) history(ctx context.Context, random *rand.Rand) error {
	customer := 1 + random.IntN(customers)
	return drain(s.text.QueryContext(ctx, `SELECT c.name, o.id, o.status, l.product_id, l.qty
		FROM customers c JOIN orders o ON o.customer_id = c.id JOIN order_lines l ON l.order_id = o.id
		WHERE c.id = ? ORDER BY o.id, l.id`, customer))
}

// report counts, the way a dashboard does.
func (s *shop) report(ctx context.Context, _ *rand.Rand) error {
	return drain(s.text.QueryContext(ctx, "SELECT status, COUNT(*) AS orders, SUM(total) AS total FROM orders GROUP BY status ORDER BY status"))
}

// move changes an order by its key: one that was placed a while ago, and that nobody else is moving. Of two
// writes to one row at the same moment nobody can say in which order another server should do them.
func (s *shop) move(ctx context.Context, random *rand.Rand) error {
	placed := s.next.Load() - s.first - recent
	if placed < 1 {
		return nil
	}
	id := s.first + 1 + random.Int64N(placed)
	if _, busy := s.moving.LoadOrStore(id, true); busy {
		return nil
	}
	defer s.moving.Delete(id)
	_, err := s.prepared.ExecContext(ctx, "UPDATE orders SET status = ? WHERE id = ?", []string{"sent", "returned", "paid"}[random.IntN(3)], id)
	return err
}

// recent orders may still be in their transactions.
const recent = 50

func drain(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}

func (s *shop) work(ctx context.Context, seed uint64, pace time.Duration) {
	random := rand.New(rand.NewPCG(seed, 1))
	acts := []func(context.Context, *rand.Rand) error{s.browse, s.browse, s.browse, s.order, s.order, s.history, s.history, s.move, s.report}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		began := time.Now()
		err := acts[random.IntN(len(acts))](context.WithoutCancel(ctx), random)
		s.done.Add(1)
		if s.times != nil {
			// One write a line: the workers' lines do not mix.
			fmt.Fprintf(s.times, "%d %d\n", began.UnixMicro(), time.Since(began).Microseconds())
		}
		if err != nil {
			s.failed.Add(1)
			fmt.Fprintln(os.Stderr, "shop:", err)
		}
	}
}

func main() {
	address := flag.String("address", "127.0.0.1:3306", "host:port")
	user, password := flag.String("user", "app", "user"), flag.String("password", "app", "password")
	database := flag.String("database", "app", "database")
	seconds, workers := flag.Int("seconds", 30, "how long"), flag.Int("workers", 4, "how many at once")
	rate := flag.Int("rate", 40, "acts a second, all workers together")
	from := flag.Int64("from", 1_000_000, "the number before the first order's")
	again := flag.Bool("again", false, "its customers and products are there already")
	times := flag.String("times", "", "a file for when each act began and how long it took, in microseconds")
	known := flag.Bool("known", false, "also say the statements that are known to differ")
	flag.Parse()
	log.SetFlags(0)

	s := &shop{text: open(*address, *user, *password, *database, true), prepared: open(*address, *user, *password, *database, false)}
	s.first = *from
	s.next.Store(*from)
	if *times != "" {
		file, err := os.Create(*times)
		if err != nil {
			log.Fatal("shop: ", err)
		}
		defer file.Close()
		s.times = file
	}
	if !*again {
		if err := s.seed(context.Background()); err != nil {
			log.Fatal("shop: seeding: ", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(*seconds)*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for worker := range *workers {
		all.Go(func() { s.work(ctx, uint64(worker), time.Second*time.Duration(*workers)/time.Duration(*rate)) })
	}
	if *known {
		all.Go(func() { s.sayKnown(ctx) })
	}
	all.Wait()
	fmt.Printf("shop: %d acts, %d failed\n", s.done.Load(), s.failed.Load())
	if s.failed.Load() > 0 {
		os.Exit(1)
	}
}

// refused says whether a server answered with an error, as opposed to not at all.
func refused(err error) bool {
	var fault *mysql.MySQLError
	return errors.As(err, &fault)
}
