package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// known are statements whose answers differ between MySQL 5.6 and vtgate over two shards, and why.
// Each is said as it stands; an error from the primary is part of the demonstration. Those that write
// touch `events` alone: a write that only one side takes taints its whole table.
var known = []struct{ why, statement string }{
	{"the server's version", "SELECT VERSION()"},
	{"GROUP BY … WITH ROLLUP across shards is unsupported", "SELECT status, COUNT(*) FROM orders GROUP BY status WITH ROLLUP"},
	{"a correlated subquery across shards is unsupported", "SELECT c.id FROM customers c WHERE c.id = (SELECT MAX(o.customer_id) FROM orders o WHERE o.total > c.id)"},
	{"REPLACE INTO a sharded table is unsupported", "REPLACE INTO events (id, kind, payload, at) VALUES (1, 'login', 'again', '2024-01-01 00:00:00')"},
	{"the sharding column cannot be updated", "UPDATE events SET id = id + 0 WHERE id = 1"},
	{"5.6 takes a column outside of GROUP BY, 8 and later refuse it", "SELECT customer_id, status, COUNT(*) FROM orders GROUP BY customer_id ORDER BY customer_id LIMIT 5"},
	{"5.6 cuts a string that is too long, a strict server refuses it", "UPDATE events SET kind = 'a kind of event whose name is longer than its column' WHERE id = 1"},
	{"a generated key comes from a sequence", "INSERT INTO events (kind, payload, at) VALUES ('login', 'by the demo', '2024-01-01 00:00:00')"},
	{"SET with := is a syntax error to vtgate", "SET @a := 41"},
	{"temporary tables are refused in a sharded keyspace", "CREATE TEMPORARY TABLE scratch_pad (id INT)"},
	{"found_rows() differs", "SELECT FOUND_ROWS()"},
	{"an unknown table has another error number", "SELECT * FROM no_such_table"},
	{"a zero date is refused by a strict server", "UPDATE events SET at = '0000-00-00 00:00:00' WHERE id = 1"},
	{"INTO OUTFILE is never replayed", "SELECT 1 INTO OUTFILE '/nonexistent/folder/file'"},
}

// sayKnown says each statement in turn, over and over, about one a second.
func (s *shop) sayKnown(ctx context.Context) {
	tick := time.NewTicker(900 * time.Millisecond)
	defer tick.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		rows, err := s.text.QueryContext(context.WithoutCancel(ctx), known[turn%len(known)].statement)
		if err := drain(rows, err); err != nil && !refused(err) {
			s.failed.Add(1)
			fmt.Fprintln(os.Stderr, "shop: ", known[turn%len(known)].why, ": ", err)
		}
	}
}
