//! MySQL Router, classic protocol to one server, no connection shared.

use super::{Peer, started};
use crate::workplace::{Workplace, free_port};
use anyhow::Result;
use std::path::Path;

pub fn start(
    workplace: &Workplace,
    threads: usize,
    tls: Option<&Path>,
    backend: u16,
) -> Result<Option<Peer>> {
    let Some(mut command) = workplace.peer("ROUTER") else {
        return Ok(None);
    };
    let port = free_port()?;
    let directory = workplace.file(&format!("router-{port}"));
    std::fs::create_dir_all(&directory)?;
    let place = directory.display();
    let plugins = workplace
        .peer("ROUTER_PLUGINS")
        .map_or_else(String::new, |plugins| {
            format!("plugin_folder={}\n", plugins.join(" "))
        });
    let client = tls.map_or_else(
        || "client_ssl_mode=DISABLED\n".to_owned(),
        |tls| {
            let tls = tls.display();
            format!("client_ssl_mode=PREFERRED\nclient_ssl_cert={tls}/cert.pem\nclient_ssl_key={tls}/key.pem\n")
        },
    );
    let config = format!(
        "[DEFAULT]\nlogging_folder={place}\nruntime_folder={place}\ndata_folder={place}\n{plugins}\
         max_total_connections=10000\n\
         [logger]\nlevel=WARNING\n\
         [io]\nthreads={threads}\n\
         [routing:bench]\nbind_address=127.0.0.1\nbind_port={port}\ndestinations=127.0.0.1:{backend}\n\
         routing_strategy=first-available\nprotocol=classic\nmax_connections=9900\n\
         server_ssl_mode=DISABLED\n{client}"
    );
    let file = directory.join("router.conf");
    std::fs::write(&file, config)?;
    command.push("-c".to_owned());
    command.push(file.display().to_string());
    let process = started(workplace, "router", workplace.of_proxy(), &command, port)?;
    Ok(Some(Peer {
        port,
        process: Some(process),
        admin: None,
    }))
}
