//! A session that has prepared what the other side cannot prepare: vtgate prepares a BEGIN, a MySQL 5.6
//! does not (error 1295). It is carried, and its statement still does what it did.

use super::scene::{flip_unproven, setup};
use crate::lab::mirroring::connect;
use crate::lab::{Lab, Proxy};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

async fn rows(conn: &mut Conn) -> u64 {
    let counted = "SELECT COUNT(*) FROM unprepared";
    let rows: Option<u64> = conn.query_first(counted).await.expect(counted);
    rows.expect("a row")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_begin_that_was_prepared_on_vtgate_begins_on_a_mysql_too() {
    let lab = Lab::get();
    for address in [lab.legacy(), lab.shadow()] {
        let mut direct = connect(&address, "scratch").await;
        for statement in [
            "CREATE TABLE IF NOT EXISTS unprepared (id INT PRIMARY KEY)",
            "DELETE FROM unprepared",
        ] {
            direct.query_drop(statement).await.expect(statement);
        }
    }
    let proxy = Proxy::start_with(&lab, &setup("soak_s = 3600"));
    flip_unproven(&proxy, "vitess").await;
    let mut app = connect(&proxy.address, "scratch").await;
    let begin = app.prep("BEGIN").await.expect("vtgate prepares it");
    let insert = "INSERT INTO unprepared (id) VALUES (?)";
    let insert = app.prep(insert).await.expect("prepared");
    for (turn, to) in ["legacy", "vitess", "legacy"].into_iter().enumerate() {
        flip_unproven(&proxy, to).await;
        let before = rows(&mut app).await;
        app.exec_drop(&begin, ()).await.expect("BEGIN");
        app.exec_drop(&insert, (turn,)).await.expect("INSERT");
        app.query_drop("ROLLBACK").await.expect("ROLLBACK");
        assert_eq!(rows(&mut app).await, before, "on {to} nothing was begun");
        app.exec_drop(&begin, ()).await.expect("BEGIN");
        app.exec_drop(&insert, (turn,)).await.expect("INSERT");
        app.query_drop("COMMIT").await.expect("COMMIT");
        assert_eq!(rows(&mut app).await, before + 1, "on {to}");
        proxy.settled();
    }
    app.close(begin).await.expect("closed");
    for address in [lab.legacy(), lab.shadow()] {
        let mut direct = connect(&address, "scratch").await;
        assert_eq!(rows(&mut direct).await, 3, "{address}");
    }
}
