//! Clients that leave before their login, as load balancers' probes do, would count against the
//! proxy's address at the primary (`max_connect_errors`) and in the end block it. The proxy
//! finishes such a login with its own account and quits; detached from the session, a few at a
//! time, each within the server's connect time-out. Where the server has given that connection up
//! already, a new one makes up for it: a login that succeeds sets the count back. Without an
//! account nothing can be done.

use super::Shared;
use super::login::Greeted;
use crate::config::Server;
use crate::connect::{self, Connection, Login, write_one};
use crate::task;
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Logins finished at a time.
const AT_A_TIME: usize = 16;

/// Logins that may wait for theirs; those beyond are left alone, and a later one makes up for them.
const WAITING_MAX: usize = 2048;

/// Leave to finish logins.
#[derive(Debug)]
pub(super) struct Probes {
    at_a_time: Semaphore,
    waiting: Arc<Semaphore>,
}

impl Default for Probes {
    fn default() -> Self {
        Self {
            at_a_time: Semaphore::new(AT_A_TIME),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }
}

/// Finishes a login of which the primary has heard nothing.
pub(super) fn finish(shared: &Arc<Shared>, greeted: Greeted) {
    let Some(login) = own_login(&greeted.server) else {
        return;
    };
    let dial = Arc::clone(&shared.dial);
    spawn(shared, async move {
        let Greeted {
            server,
            tls,
            stream,
            greeting,
        } = greeted;
        let logging_in = connect::log_in(stream, &greeting, &server, &tls, &login);
        match timeout(server.connect_timeout, logging_in).await {
            Ok(Ok(connection)) => Some(connection),
            Ok(Err(_)) | Err(_) => connect::open(&*dial, &server, &tls, &login).await.ok(),
        }
    });
}

/// Makes up for a login that broke off in the middle, with one that succeeds.
pub(super) fn soothe(shared: &Arc<Shared>, server: &Arc<Server>) {
    let Some(login) = own_login(server) else {
        return;
    };
    let Ok(tls) = shared.tls(server) else { return };
    let (dial, server) = (Arc::clone(&shared.dial), Arc::clone(server));
    spawn(shared, async move {
        connect::open(&*dial, &server, &tls, &login).await.ok()
    });
}

fn spawn(
    shared: &Arc<Shared>,
    logging_in: impl Future<Output = Option<Connection>> + Send + 'static,
) {
    let Ok(place) = Arc::clone(&shared.probes.waiting).try_acquire_owned() else {
        return;
    };
    let shared = Arc::clone(shared);
    // Its end is its time-out; nobody waits for it.
    drop(task::spawn("probe", async move {
        let Ok(_turn) = shared.probes.at_a_time.acquire().await else {
            return;
        };
        if let Some(mut connection) = logging_in.await {
            let quit = connect::Packet::new(0, &[Command::QUIT.0]);
            let _ = write_one(&mut connection.stream, &quit).await;
            shared.counters.probes_finished.add(1);
        }
        drop(place);
    }));
}

fn own_login(server: &Server) -> Option<Login> {
    let account = server.account.as_ref()?;
    Some(Login {
        user: account.user.clone(),
        password: account.password.clone(),
        database: None,
        capabilities: Capabilities::default(),
        collation: 45,
        client: None,
    })
}
