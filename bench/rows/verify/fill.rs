//! The tables that are compared: sysbench's, with the same rows on every server, but for three that are planted
//! on the second ones.

use crate::lab::Lab;
use anyhow::{Context, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};

/// Rows of one INSERT.
const BATCH: u32 = 1000;

/// Sessions that fill a server.
const SESSIONS: u32 = 2;

/// A table, and where in it something is planted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    number: u32,
    pub(super) rows: u32,
}

impl Table {
    pub(super) const fn new(number: u32, rows: u32) -> Self {
        Self { number, rows }
    }

    pub(super) fn name(&self) -> String {
        format!("sbtest{}", self.number)
    }

    /// The ids of the row that is missing, of the one that has another value, and of the one that is too many.
    pub(super) const fn planted(&self) -> [(&'static str, u32); 3] {
        [
            ("missing", self.rows / 3),
            ("changed", self.rows / 2),
            ("extra", self.rows + 7),
        ]
    }

    fn row(&self, id: u32) -> String {
        let mix = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(13) ^ self.number;
        let word = |n: u32| format!("{:011}", mix(id.wrapping_add(n)));
        let c: Vec<String> = (0..10).map(word).collect();
        let pad: Vec<String> = (20..25).map(word).collect();
        let k = mix(id) % self.rows + 1;
        format!("({id},{k},'{}','{}')", c.join("-"), pad.join("-"))
    }

    fn insert(&self, from: u32, to: u32) -> String {
        let rows: Vec<String> = (from..to).map(|id| self.row(id)).collect();
        let name = self.name();
        format!(
            "INSERT INTO {name} (id, k, c, pad) VALUES {}",
            rows.join(",")
        )
    }
}

/// MySQL 5.6, the vtgate beside it, and MySQL 9.7.
pub(super) fn all(lab: &Lab, modern: &Lab, tables: &[Table]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let legacy = fill(lab, "LEGACY", tables);
        let (vtgate, modern) = (fill(lab, "SHADOW", tables), fill(modern, "LEGACY", tables));
        tokio::try_join!(legacy, vtgate, modern)
    })?;
    runtime.block_on(async {
        plant(lab, "SHADOW", tables).await?;
        plant(modern, "LEGACY", tables).await
    })
}

async fn connect(lab: &Lab, of: &str) -> Result<Conn> {
    let (user, password) = lab.account(of)?;
    let opts = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(lab.port(&format!("{of}_PORT"))?)
        .user(Some(user))
        .pass(Some(password))
        .db_name(Some("app"))
        .prefer_socket(false);
    Ok(Conn::new(opts).await?)
}

async fn fill(lab: &Lab, of: &str, tables: &[Table]) -> Result<()> {
    for table in tables {
        let name = table.name();
        let mut one = connect(lab, of).await?;
        one.query_drop(format!("DROP TABLE IF EXISTS {name}"))
            .await?;
        one.query_drop(format!(
            "CREATE TABLE {name} (id INTEGER NOT NULL, k INTEGER DEFAULT '0' NOT NULL, \
             c CHAR(120) DEFAULT '' NOT NULL, pad CHAR(60) DEFAULT '' NOT NULL, PRIMARY KEY (id)) \
             DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_bin"
        ))
        .await?;
        one.disconnect().await?;
        let session = async |nth: u32| {
            let mut conn = connect(lab, of).await?;
            let each = table.rows.div_ceil(SESSIONS);
            let (mut from, end) = (nth * each + 1, (nth * each + each).min(table.rows) + 1);
            while from < end {
                let to = (from + BATCH).min(end);
                conn.query_drop(table.insert(from, to))
                    .await
                    .with_context(|| format!("{of}, {name} from {from}"))?;
                from = to;
            }
            conn.disconnect().await?;
            anyhow::Ok(())
        };
        tokio::try_join!(session(0), session(1))?;
    }
    Ok(())
}

async fn plant(lab: &Lab, of: &str, tables: &[Table]) -> Result<()> {
    let mut conn = connect(lab, of).await?;
    for table in tables {
        let name = table.name();
        let [(_, missing), (_, changed), (_, extra)] = table.planted();
        for statement in [
            format!("DELETE FROM {name} WHERE id = {missing}"),
            format!("UPDATE {name} SET pad = 'planted' WHERE id = {changed}"),
            table.insert(extra, extra + 1),
        ] {
            conn.query_drop(statement).await?;
        }
    }
    Ok(conn.disconnect().await?)
}
