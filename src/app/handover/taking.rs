//! The new process' side.

use super::beat::Beats;
use super::letters::{self, FromNew, FromOld, Hello, Offer};
use super::post::Post;
use super::{LETTER, MARGIN};
use crate::app::AppError;
use crate::app::doors::Given;
use crate::config::Config;
use crate::ledger;
use crate::shadow::{Switched, Written};
use crate::wire::capability::Capabilities;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

/// Between two looks at whether the ledger is free.
const LOOK: Duration = Duration::from_millis(20);

/// What the old process has offered.
#[derive(Debug)]
pub(in crate::app) struct Taken {
    post: Post,
    offer: Offer,
    given: Option<Given>,
    /// How the old process' mirror is switched otherwise than its config says, by its word.
    switched: Switched,
    beats: Beats,
    /// It has said that it ended.
    ended: Option<Written>,
}

/// What the old process says once clients are served here.
#[derive(Debug)]
pub(in crate::app) enum Word {
    /// It has ended its last session, with what its sessions wrote.
    Ended(Written),
    /// It has closed the connection: it is gone, and any table may have been written; or it serves again.
    Gone,
    /// It was told to end, and this one is to end too.
    End,
}

/// Asks the process that serves with this config to hand over. `None` where none does.
///
/// # Errors
/// There is one, and it does not hand over: it goes on.
pub(in crate::app) async fn ask(config: &Config) -> Result<Option<Taken>, AppError> {
    let failed = |why: String| AppError::Failed(format!("--take-over: {why}"));
    let Some(path) = &config.listen.handover else {
        let why = "--take-over: listen.handover is \"\", so no process can be asked to hand over";
        return Err(AppError::Config(why.to_owned()));
    };
    if !config.fleet.etcd.is_empty() {
        return Err(failed(
            "a proxy of a fleet does not hand over: stop one at a time, and start it".to_owned(),
        ));
    }
    let at = path.display();
    let connecting = tokio::time::timeout(LETTER, UnixStream::connect(path)).await;
    let stream = match connecting {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if is_nobody(&error) => {
            tracing::info!(
                "--take-over: no process hands over at {at}, and this one starts as ever. Should one serve already, its listen.handover or ledger.path is another"
            );
            return Ok(None);
        }
        Ok(Err(error)) => return Err(failed(format!("{at} cannot be asked: {error}"))),
        Err(_) => return Err(failed(format!("the process at {at} does not answer"))),
    };
    let post = Post::new(stream);
    if !post.is_trusted() {
        return Err(failed(format!(
            "the process at {at} is another user's: start this one as that user"
        )));
    }
    // What this one could not open is found out while the other one serves.
    ledger::inspect(&config.ledger.path).map_err(|fault| failed(fault.to_string()))?;
    Taken::offered(post, config).await.map(Some).map_err(failed)
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

impl Taken {
    pub(super) async fn offered(mut post: Post, config: &Config) -> Result<Self, String> {
        let silent = |error: io::Error| {
            format!("the process that serves says nothing of use ({error}), and goes on")
        };
        let hello = FromNew::Hello(Hello::of(config));
        // Where it did not wait for that, it has said why.
        let _sent = post.send(&hello, &[], LETTER).await;
        let offer = match post.read_within(LETTER).await.map_err(silent)? {
            Some(FromOld::Offer(offer)) => offer,
            Some(FromOld::Refused(why)) => {
                return Err(format!(
                    "the process that serves does not hand over, and goes on: {why}"
                ));
            }
            Some(FromOld::Yours(_) | FromOld::End | FromOld::Ended(_)) | None => {
                return Err("the process that serves has not answered the question".to_owned());
            }
        };
        let mut doors = post.doors().into_iter();
        let (Some(clients), Some(admin)) = (doors.next(), doors.next()) else {
            return Err("the process that serves has sent no listeners, and goes on".to_owned());
        };
        let console = doors.next().filter(|_| offer.console);
        Ok(Self {
            post,
            offer,
            given: Some(Given {
                clients,
                admin,
                console,
            }),
            switched: Switched::default(),
            beats: Beats::new(),
            ended: None,
        })
    }

    /// The listeners; once.
    pub(in crate::app) fn doors(&mut self) -> Option<Given> {
        self.given.take()
    }

    /// Who is primary.
    pub(in crate::app) fn primary(&self) -> &str {
        &self.offer.primary
    }

    /// What clients are offered.
    pub(in crate::app) const fn dialect(&self) -> Capabilities {
        Capabilities(self.offer.dialect)
    }

    /// How the old process' mirror is switched otherwise than its config says, once it has given its word.
    pub(in crate::app) const fn switched(&self) -> &Switched {
        &self.switched
    }

    /// So long the old process' sessions drain at most.
    pub(in crate::app) fn drain(&self) -> Duration {
        letters::drain(self.offer.drain_s)
    }

    /// The old process' number.
    pub(in crate::app) const fn process(&self) -> u32 {
        self.offer.process
    }

    /// Whether the old process speaks to a supervisor, which is this one's, too.
    pub(in crate::app) const fn is_supervised(&self) -> bool {
        self.offer.supervised
    }

    /// By which the ledger knows this process.
    pub(in crate::app) fn token(&self) -> &str {
        &self.offer.token
    }

    /// When the old process must have ended.
    pub(in crate::app) fn deadline(&self) -> Instant {
        let ends = Duration::from_secs(self.offer.ends_s).saturating_add(MARGIN);
        let now = Instant::now();
        now.checked_add(ends).unwrap_or(now + MARGIN)
    }

    /// Says that this process can serve, and returns once the old one accepts no more.
    ///
    /// # Errors
    /// It has not said so, and may go on: nobody may be served here.
    pub(in crate::app) async fn ready(&mut self) -> Result<(), AppError> {
        let failed = |error: String| {
            AppError::Failed(format!(
                "--take-over: process {} has not left its clients to this one ({error}); if it lives, it goes on",
                self.offer.process
            ))
        };
        let sent = self.post.send(&FromNew::Ready, &[], LETTER).await;
        sent.map_err(|error| failed(error.to_string()))?;
        match self.post.read_within(LETTER).await {
            Ok(Some(FromOld::Yours(switched))) => {
                self.switched = switched;
                Ok(())
            }
            Ok(Some(_)) => Err(failed("it said something else".to_owned())),
            Ok(None) => Err(failed("it has closed the connection".to_owned())),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Has the old process end its sessions at their boundaries, for this one ends, too. Whether it could be told.
    pub(in crate::app) async fn end(&mut self) -> bool {
        let told = self.post.send(&FromNew::End, &[], LETTER).await;
        if let Err(error) = &told {
            let process = self.offer.process;
            tracing::warn!("process {process} could not be told to end its sessions: {error}");
        }
        told.is_ok()
    }

    /// Resolves with what the old process says, and tells it meanwhile that this one lives, by these threads. That it has
    /// ended it says again whenever it is asked.
    ///
    /// Cancel-safe.
    pub(in crate::app) async fn heard(&mut self, relay: &[Handle]) -> Word {
        let process = self.offer.process;
        if let Some(written) = &self.ended {
            return Word::Ended(written.clone());
        }
        loop {
            tokio::select! {
                biased;
                letter = self.post.read() => match letter {
                    Ok(Some(FromOld::Ended(wrote))) => {
                        let written = Written::from(wrote);
                        self.ended = Some(written.clone());
                        return Word::Ended(written);
                    }
                    Ok(Some(FromOld::End)) => return Word::End,
                    Ok(Some(FromOld::Refused(_) | FromOld::Offer(_) | FromOld::Yours(_))) => {}
                    Ok(None) | Err(_) => {
                        tracing::error!(
                            "process {process} has closed the connection without a word: what its sessions wrote meanwhile may have been any table"
                        );
                        return Word::Gone;
                    }
                },
                () = self.beats.due(relay) => self.post.drop_in(&FromNew::Beat),
            }
        }
    }
}

/// Resolves once no process has the ledger: true; or at this moment, where one still has it.
pub(in crate::app) async fn is_freed(path: &Path, deadline: Instant) -> bool {
    while ledger::is_in_use(path) {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}
