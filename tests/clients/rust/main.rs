//! The checklist of ../README.md with mysql_async, its pool included.

#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a checklist says each step on its standard output, and fails where it stands"
)]

use anyhow::{Context, Result, ensure};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder, Pool, SslOpts, Value};
use std::path::PathBuf;

const TABLE: &str = "client_mysql_async";

/// The blob's bytes: more than one packet of 16 MiB.
const BLOB_BYTES: usize = 20_000_000;

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: see tests/clients/README.md"))
}

fn options(password: Option<&str>) -> Result<OptsBuilder> {
    let password = match password {
        Some(password) => password.to_owned(),
        None => variable("CLIENT_PASSWORD")?,
    };
    let ca = std::env::var("CLIENT_CA")
        .ok()
        .filter(|path| !path.is_empty());
    let tls = ca.map(|path| SslOpts::default().with_root_certs(vec![PathBuf::from(path).into()]));
    Ok(OptsBuilder::default()
        .ip_or_hostname(variable("CLIENT_HOST")?)
        .tcp_port(variable("CLIENT_PORT")?.parse()?)
        .user(Some(variable("CLIENT_USER")?))
        .pass(Some(password))
        .db_name(Some(variable("CLIENT_DATABASE")?))
        .prefer_socket(false)
        .max_allowed_packet(Some(64 << 20))
        .ssl_opts(tls))
}

/// The statement, or login, must be refused with this number.
fn refused<T>(number: u16, outcome: mysql_async::Result<T>) -> Result<()> {
    match outcome {
        Err(Error::Server(error)) if error.code == number => Ok(()),
        Err(other) => anyhow::bail!("{other}, and not error {number}"),
        Ok(_) => anyhow::bail!("no error, and not error {number}"),
    }
}

async fn login(connection: &mut Conn) -> Result<()> {
    refused(1045, Conn::new(options(Some("wrong"))?).await)?;
    let one: Option<i32> = connection.query_first("SELECT 1").await?;
    ensure!(one == Some(1), "SELECT 1 is {one:?}");
    Ok(())
}

async fn text(connection: &mut Conn) -> Result<()> {
    connection
        .query_drop(format!("DROP TABLE IF EXISTS {TABLE}"))
        .await?;
    connection
        .query_drop(format!(
            "CREATE TABLE {TABLE} (id INT PRIMARY KEY, name VARCHAR(100), at DATETIME, big LONGBLOB) DEFAULT CHARSET utf8mb4"
        ))
        .await?;
    connection
        .query_drop(format!(
            "INSERT INTO {TABLE} VALUES (1, 'Zoë 漢字 🐬', '2024-02-29 12:34:56', NULL)"
        ))
        .await?;
    let row: Option<(i32, String, String, Option<Vec<u8>>)> = connection
        .query_first(format!(
            "SELECT id, name, CAST(at AS CHAR), big FROM {TABLE}"
        ))
        .await?;
    let wanted = (
        1,
        "Zoë 漢字 🐬".to_owned(),
        "2024-02-29 12:34:56".to_owned(),
        None,
    );
    ensure!(row.as_ref() == Some(&wanted), "{row:?} came back");
    Ok(())
}

async fn prepared(connection: &mut Conn) -> Result<()> {
    let statement = connection
        .prep(format!("SELECT name, ? + 1 FROM {TABLE} WHERE id = ?"))
        .await?;
    for number in 0..5 {
        let row: Option<(String, i64)> = connection.exec_first(&statement, (number, 1)).await?;
        let wanted = ("Zoë 漢字 🐬".to_owned(), number + 1);
        ensure!(row.as_ref() == Some(&wanted), "{row:?} came back");
    }
    connection.close(statement).await?;
    Ok(())
}

async fn transaction(connection: &mut Conn) -> Result<()> {
    let mut gone = connection.start_transaction(Default::default()).await?;
    gone.query_drop(format!("INSERT INTO {TABLE} (id) VALUES (2)"))
        .await?;
    gone.rollback().await?;
    let mut kept = connection.start_transaction(Default::default()).await?;
    kept.exec_drop(format!("INSERT INTO {TABLE} (id) VALUES (?)"), (3,))
        .await?;
    kept.commit().await?;
    let ids: Vec<i32> = connection
        .query(format!("SELECT id FROM {TABLE} ORDER BY id"))
        .await?;
    ensure!(ids == [1, 3], "{ids:?} are there");
    Ok(())
}

async fn blob(connection: &mut Conn) -> Result<()> {
    let big: Vec<u8> = (0..=250).cycle().take(BLOB_BYTES).collect();
    connection
        .exec_drop(
            format!("INSERT INTO {TABLE} (id, big) VALUES (4, ?)"),
            (Value::Bytes(big.clone()),),
        )
        .await?;
    let read: Option<Vec<u8>> = connection
        .exec_first(format!("SELECT big FROM {TABLE} WHERE id = ?"), (4,))
        .await?;
    ensure!(read.as_ref() == Some(&big), "the blob came back changed");
    Ok(())
}

async fn error(connection: &mut Conn) -> Result<()> {
    refused(1064, connection.query_drop("SELEKT 1").await)?;
    refused(
        1146,
        connection.query_drop("SELECT * FROM no_such_table").await,
    )?;
    let again = format!("INSERT INTO {TABLE} (id) VALUES (1)");
    refused(1062, connection.query_drop(again).await)?;
    let one: Option<i32> = connection.query_first("SELECT 1").await?;
    ensure!(one == Some(1), "SELECT 1 is {one:?}");
    Ok(())
}

/// A pool of one connection gives it out again, reset: by COM_RESET_CONNECTION, or by
/// COM_CHANGE_USER where the server is too old for that.
async fn reset(connection: &mut Conn) -> Result<()> {
    let kept: &str = "SELECT @kept";
    connection.query_drop("SET @kept = 1").await?;
    if !connection.reset().await? {
        connection.change_user(Default::default()).await?;
    }
    let value: Option<Option<String>> = connection.query_first(kept).await?;
    ensure!(value == Some(None), "@kept is {value:?}");
    let one = mysql_async::PoolConstraints::new(1, 1).context("one connection")?;
    let pool =
        Pool::new(options(None)?.pool_opts(mysql_async::PoolOpts::default().with_constraints(one)));
    for _ in 0..3 {
        let mut pooled = pool.get_conn().await?;
        let value: Option<Option<String>> = pooled.query_first(kept).await?;
        ensure!(value == Some(None), "@kept is {value:?} in the pool");
        pooled.query_drop("SET @kept = 1").await?;
    }
    pool.disconnect().await?;
    Ok(())
}

async fn run() -> Result<()> {
    let mut connection = Conn::new(options(None)?).await?;
    macro_rules! steps {
        ($($step:ident),*) => {
            $(
                $step(&mut connection).await.context(stringify!($step))?;
                println!("ok {}", stringify!($step));
            )*
        };
    }
    steps!(login, text, prepared, transaction, blob, error, reset);
    connection.disconnect().await?;
    Ok(())
}

fn main() -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run())
        .context("failed mysql_async")
}
