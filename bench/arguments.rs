//! The command line: the table, or one of the processes that it is measured with.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// understudy beside its peers, measured.
#[derive(Debug, Parser)]
#[command(name = "side_by_side")]
pub struct Arguments {
    #[command(subcommand)]
    pub work: Option<Work>,
    #[command(flatten)]
    pub table: Table,
}

/// What the table is made of.
#[derive(Debug, Args)]
pub struct Table {
    /// How long all of it may take: short is about 5 minutes, long about 40.
    #[arg(long, env = "BENCH", value_enum, default_value = "long")]
    pub form: Form,
    /// Only the rows whose name begins so; may be given more than once.
    #[arg(long)]
    pub only: Vec<String>,
    /// The names of the rows, and nothing else.
    #[arg(long)]
    pub list: bool,
    /// Another understudy than the one that was just built.
    #[arg(long, env = "BENCH_UNDERSTUDY")]
    pub understudy: Option<PathBuf>,
    /// So many rounds instead of the form's.
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Of so many seconds instead of the form's.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Write the table into bench/RESULTS.md; the whole table does so by itself.
    #[arg(long)]
    pub write: bool,
    /// Leave everything that the servers logged where it is.
    #[arg(long)]
    pub keep: bool,
    /// `cargo bench` adds it.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// How long it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    Short,
    Long,
}

#[derive(Debug, Subcommand)]
pub enum Work {
    /// The canned server.
    Backend(Backend),
    /// The load generator: told on stdin what to run, says on stdout what came of it.
    Load(Load),
    /// A program that ends when the bench does.
    Child(Child),
}

/// The canned server: a fast one, or one that behaves badly.
#[derive(Clone, Debug, Default, Args)]
pub struct Backend {
    /// Where it listens.
    #[arg(long)]
    pub port: u16,
    /// Directory with cert.pem and key.pem; with it, clients may use TLS.
    #[arg(long)]
    pub tls: Option<PathBuf>,
    /// Every statement is answered so much later.
    #[arg(long, default_value_t = 0)]
    pub delay_ms: u64,
    /// Every statement is answered with 1 GB.
    #[arg(long)]
    pub flood: bool,
}

/// The load generator.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// The server's or proxy's port.
    #[arg(long)]
    pub port: u16,
    /// Connections that are open.
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    /// Requests under way at once; the other connections are idle. As many as connections without it.
    #[arg(long)]
    pub workers: Option<usize>,
    /// Each request goes over any connection that is free, instead of the worker's own.
    #[arg(long)]
    pub roam: bool,
    /// What is asked.
    #[arg(long, value_enum, default_value = "b200")]
    pub ask: Ask,
    /// As prepared statements.
    #[arg(long)]
    pub prepared: bool,
    /// TLS, by the CA in this directory's ca.pem.
    #[arg(long)]
    pub tls: Option<PathBuf>,
}

/// What a load asks: reads of one size, or a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Ask {
    /// A read that is answered with about 200 bytes.
    B200,
    /// … 16 KiB, in rows of 1 KiB.
    K16,
    /// … 1 MiB, in rows of 1 KiB.
    M1,
    /// … 1 GiB, in rows of 1 KiB.
    G1,
    /// BEGIN, four reads of 200 bytes, an UPDATE, an INSERT, COMMIT: each a request.
    Transaction,
}

impl Ask {
    pub fn word(self) -> &'static str {
        match self {
            Self::B200 => "b200",
            Self::K16 => "k16",
            Self::M1 => "m1",
            Self::G1 => "g1",
            Self::Transaction => "transaction",
        }
    }
}

/// A program, and how it is run.
#[derive(Clone, Debug, Args)]
pub struct Child {
    /// Only on this processor.
    #[arg(long)]
    pub processor: Option<usize>,
    /// At a lower priority by so much.
    #[arg(long, default_value_t = 0)]
    pub nice: i32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}
