//! HAProxy in TCP mode.

use super::{Peer, started};
use crate::workplace::{Workplace, free_port};
use anyhow::Result;

pub fn start(workplace: &Workplace, threads: usize, backend: u16) -> Result<Option<Peer>> {
    let Some(mut command) = workplace.peer("HAPROXY") else {
        return Ok(None);
    };
    let port = free_port()?;
    let config = format!(
        "global\n  nbthread {threads}\n  maxconn 9900\n\
         defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
         listen bench\n  bind 127.0.0.1:{port} backlog 4096\n  server canned 127.0.0.1:{backend}\n"
    );
    let file = workplace.file(&format!("haproxy-{port}.cfg"));
    std::fs::write(&file, config)?;
    command.extend(["-db", "-f"].map(str::to_owned));
    command.push(file.display().to_string());
    let process = started(workplace, "haproxy", workplace.of_proxy(), &command, port)?;
    Ok(Some(Peer {
        port,
        process: Some(process),
        admin: None,
    }))
}
