//! A connection to the shadow: opened as the session's journal says, and asked one command at a
//! time, within bounds.

use super::journal::{Entry, Journal, Untold};
use super::likeness::{Fate, Likeness};
use super::shared::Shared;
use super::talk::{Reply, Talk};
use crate::ask::rows;
use crate::compare::verdict::Reason;
use crate::config::Account;
use crate::connect::{self, ConnectError, Connection, Login, Stream};
use crate::tee::Facts;
use crate::wire::answer::Answer;
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use crate::wire::execute;
use crate::wire::status::Status;
use std::collections::HashMap;
use tokio::sync::OwnedSemaphorePermit;
use xxhash_rust::xxh3::xxh3_64;

/// Texts that are made of one prepared statement, kept at most: which columns are added depends on
/// which values are NULL.
const OTHERS_MAX: usize = 4;

/// Statements that a transaction has closed and that wait for its end.
const RETIRED_MAX: usize = 1024;

/// ER_DBACCESS_DENIED_ERROR and ER_BAD_DB_ERROR: the shadow lacks the session's database.
const NO_DATABASE: [u16; 2] = [1044, 1049];

/// What is refused to the session's account alone: ER_DBACCESS_DENIED_ERROR,
/// ER_ACCESS_DENIED_ERROR, ER_BAD_DB_ERROR, ER_USER_LIMIT_REACHED, ER_ACCESS_DENIED_NO_PASSWORD,
/// ER_MUST_CHANGE_PASSWORD_LOGIN, ER_ACCOUNT_HAS_BEEN_LOCKED.
const REFUSED_TO_ACCOUNT: [u16; 7] = [1044, 1045, 1049, 1226, 1698, 1862, 3118];

/// Why the shadow gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The shadow, or the way to it, is at fault.
    #[error("{0}")]
    Down(String),
    /// The shadow is there, but not for this session's account.
    #[error("{0}")]
    Refused(String),
    /// It is too early to open the connection again, which failed for this reason.
    #[error("the connection to the shadow could not be opened ({})", .0.name())]
    Waits(Reason),
    /// The session speaks a dialect that the shadow has not, so no connection can be like it.
    #[error("{0}")]
    Dialect(String),
    /// It did not answer in time.
    #[error("no answer within mirror.timeout_ms")]
    Timeout,
    /// Its answer is longer than `mirror.answer_bytes_max`.
    #[error("its answer is longer than mirror.answer_bytes_max")]
    TooLarge,
    /// No connection may be opened now.
    #[error("mirror.connections_max connections are open")]
    Full,
    /// The session's state cannot be told, so no connection can be like it.
    #[error("the session's state is not known")]
    Unknown,
    /// The connection is not like the session.
    #[error("the shadow has not the session's state ({})", .0.name())]
    Unlike(Reason),
    /// The session is in a transaction that is not open on the shadow.
    #[error("the transaction is not open on the shadow")]
    OutOfStep,
    /// Run again, the transaction took another course.
    #[error("run again, the transaction took another course")]
    Changed,
    /// The command cannot be written for the shadow.
    #[error("the command cannot be read")]
    Unreadable,
    /// The mirror was suspended meanwhile.
    #[error("the mirror was suspended")]
    Suspended,
}

impl Trouble {
    /// Why the command was not compared.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::Down(_) | Self::Refused(_) | Self::Timeout => Reason::ShadowDown,
            Self::Waits(reason) | Self::Unlike(reason) => *reason,
            Self::Dialect(_) => Reason::NotMirrored,
            Self::TooLarge => Reason::TooLarge,
            Self::Full | Self::Unknown | Self::Unreadable => Reason::Dropped,
            Self::OutOfStep => Reason::Internal,
            Self::Changed => Reason::Race,
            Self::Suspended => Reason::Suspended,
        }
    }

    /// Whether it speaks against the shadow, and so for suspending the mirror.
    pub(super) const fn is_the_shadows(&self) -> bool {
        matches!(self, Self::Down(_) | Self::Timeout)
    }

    /// Whether the connection, if there is one, is still good.
    pub(super) const fn keeps_link(&self) -> bool {
        match self {
            Self::Waits(_)
            | Self::Dialect(_)
            | Self::Full
            | Self::Unknown
            | Self::Unlike(_)
            | Self::OutOfStep
            | Self::Changed
            | Self::Unreadable => true,
            Self::Down(_) | Self::Refused(_) | Self::Timeout | Self::TooLarge | Self::Suspended => {
                false
            }
        }
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Down(format!("the connection to the shadow broke: {error}"))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    talk: Talk,
    thread_id: u32,
    /// The client's statement ids and the shadow's.
    prepared: HashMap<u32, u32>,
    /// What was made of the client's statements: its id, and for each text its digest and the
    /// shadow's id, the oldest first.
    others: HashMap<u32, Vec<(u64, u32)>>,
    /// The shadow's ids of statements that are to be closed after the transaction, which may have to
    /// be run again.
    retired: Vec<u32>,
    vitess: bool,
    /// One of `mirror.connections_max`, or of those that second looks have; none where the session
    /// itself moves to it.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Link {
    /// Opens a connection that is like the session, as far as the shadow lets it be.
    pub(super) async fn open(
        shared: &Shared,
        facts: &Facts,
        journal: &Journal,
    ) -> Result<(Self, Likeness), Trouble> {
        if journal.is_unknown() || facts.share.journal_unknown() {
            return Err(Trouble::Unknown);
        }
        let permit = shared.permit().await.ok_or(Trouble::Full)?;
        Self::open_with(shared, facts, journal, permit).await
    }

    /// The same for a second look, which takes no connection from a replay.
    pub(super) async fn open_spare(
        shared: &Shared,
        facts: &Facts,
        journal: &Journal,
    ) -> Result<(Self, Likeness), Trouble> {
        if journal.is_unknown() || facts.share.journal_unknown() {
            return Err(Trouble::Unknown);
        }
        let permit = shared.spare().await.ok_or(Trouble::Full)?;
        Self::open_with(shared, facts, journal, permit).await
    }

    fn new(shared: &Shared, connection: Connection) -> Self {
        Self {
            thread_id: connection.thread_id,
            vitess: connection.is_vitess(),
            talk: Talk::new(&shared.config, connection),
            prepared: HashMap::new(),
            others: HashMap::new(),
            retired: Vec::new(),
            _permit: None,
        }
    }

    /// A connection for the session itself, under its own user's name: nothing is set on it yet but
    /// what the config asks for. Says whether it is in the session's database.
    pub(super) async fn open_bare(
        shared: &Shared,
        facts: &Facts,
        journal: &Journal,
    ) -> Result<(Self, bool), Trouble> {
        let server = &shared.server;
        let named = server.users.get(&facts.user).or(server.account.as_ref());
        let Some(account) = named.filter(|account| account.user == facts.user) else {
            return Err(Trouble::Refused(format!(
                "there is no password for the user {} on {}: set it in [shadow.users] or [primary.users], under the same name",
                facts.user, server.name
            )));
        };
        let (connection, has_database) = log_in(shared, facts, journal, account).await?;
        let mut link = Self::new(shared, connection);
        link.init(shared).await?;
        Ok((link, has_database))
    }

    async fn open_with(
        shared: &Shared,
        facts: &Facts,
        journal: &Journal,
        permit: OwnedSemaphorePermit,
    ) -> Result<(Self, Likeness), Trouble> {
        let server = &shared.server;
        let Some(account) = server.users.get(&facts.user).or(server.account.as_ref()) else {
            return Err(Trouble::Refused(format!(
                "no login to the shadow for the user {}: set [shadow] user and password, or [shadow.users]",
                facts.user
            )));
        };
        let (connection, mut has_database) = log_in(shared, facts, journal, account).await?;
        let mut link = Self::new(shared, connection);
        if let Some(own) = own_account(shared, account)
            && link.is_fenced().await?
        {
            let again = log_in(shared, facts, journal, own).await?;
            link = Self::new(shared, again.0);
            has_database = again.1;
        }
        link._permit = Some(permit);
        let mut likeness = Likeness::opened(has_database);
        if journal.lacks_something() {
            likeness.missed(Untold::Variables);
        }
        link.prepare_session(shared, journal, &mut likeness).await?;
        Ok((link, likeness))
    }

    /// Whether it takes writes only of who has SUPER: a cutover has fenced it. vtgate cannot be.
    async fn is_fenced(&mut self) -> Result<bool, Trouble> {
        if self.vitess {
            return Ok(false);
        }
        let reply = self.query(b"SELECT @@global.read_only").await?;
        let rows = rows(&reply.answer).map_err(|error| Trouble::Down(error.to_string()))?;
        let said = rows.first().and_then(|row| row.first()?.as_deref());
        Ok(said.is_some_and(|said| said != "0" && said != "OFF"))
    }

    /// Runs what the config asks for, then what the client had set. What the shadow refuses now it
    /// refused when the client sent it, too, and was found then.
    async fn prepare_session(
        &mut self,
        shared: &Shared,
        journal: &Journal,
        likeness: &mut Likeness,
    ) -> Result<(), Trouble> {
        self.init(shared).await?;
        for (name, set) in journal.assignments() {
            let reply = self.query(set.as_bytes()).await?;
            if reply.answer.error().is_some() {
                likeness.refused(name);
            }
        }
        if let Some(on) = journal.multi_statements() {
            let option = [Command::SET_OPTION.0, u8::from(!on), 0];
            if self.ask(&option).await?.answer.error().is_some() {
                likeness.take_in(&Entry::MultiStatements(on), Fate::Refused);
            }
        }
        Ok(())
    }

    /// `[shadow] init`.
    pub(super) async fn init(&mut self, shared: &Shared) -> Result<(), Trouble> {
        for statement in &shared.server.init {
            let reply = self.query(statement.as_bytes()).await?;
            if let Some(failure) = reply.answer.error() {
                return Err(Trouble::Down(format!(
                    "[shadow] init: {statement:?} was refused with error {}",
                    failure.code
                )));
            }
        }
        Ok(())
    }

    /// Whether a transaction is open.
    pub(super) const fn in_transaction(&self) -> bool {
        self.talk.status().in_transaction()
    }

    /// Whether no transaction is open and a write would be committed at once.
    pub(super) const fn commits_each(&self) -> bool {
        !self.talk.status().in_transaction() && self.talk.status().has(Status::AUTOCOMMIT)
    }

    /// Whether it is a vtgate.
    pub(super) const fn is_vitess(&self) -> bool {
        self.vitess
    }

    /// What was agreed on.
    pub(super) const fn capabilities(&self) -> Capabilities {
        self.talk.capabilities()
    }

    /// Runs a text.
    pub(super) async fn query(&mut self, text: &[u8]) -> Result<Reply, Trouble> {
        self.talk.query(text).await
    }

    /// The command that runs a text here.
    pub(super) fn query_payload(&self, text: &[u8]) -> Vec<u8> {
        self.talk.query_payload(text)
    }

    /// The shadow's id of a statement that the client prepared under `id`, if it is prepared.
    pub(super) fn statement(&self, id: u32) -> Option<u32> {
        self.prepared.get(&id).copied()
    }

    /// Prepares what the client prepared under `id`.
    pub(super) async fn prepare(&mut self, id: u32, text: &[u8]) -> Result<Reply, Trouble> {
        self.close(id).await?;
        let reply = self
            .ask(&[&[Command::STMT_PREPARE.0], text].concat())
            .await?;
        if let Some((own, _)) = reply.answer.prepared() {
            self.prepared.insert(id, own);
        }
        Ok(reply)
    }

    /// The shadow's id of another text of what the client prepared under `id`, prepared now if need
    /// be; or why it refuses to.
    pub(super) async fn prepare_other(
        &mut self,
        id: u32,
        text: &[u8],
    ) -> Result<Result<u32, Reply>, Trouble> {
        if let Some(own) = self.other(id, text) {
            return Ok(Ok(own));
        }
        let oldest = self
            .others
            .get_mut(&id)
            .filter(|all| all.len() >= OTHERS_MAX)
            .map(|all| all.remove(0));
        if let Some((_, own)) = oldest {
            self.retire(own).await?;
        }
        let reply = self
            .ask(&[&[Command::STMT_PREPARE.0], text].concat())
            .await?;
        let Some((own, _)) = reply.answer.prepared() else {
            return Ok(Err(reply));
        };
        let of_statement = self.others.entry(id).or_default();
        of_statement.push((xxh3_64(text), own));
        Ok(Ok(own))
    }

    /// The shadow's id of another text of what the client prepared under `id`, if it is prepared.
    pub(super) fn other(&self, id: u32, text: &[u8]) -> Option<u32> {
        let digest = xxh3_64(text);
        let all = self.others.get(&id)?.iter();
        let mut of_text = all.filter(|(of, _)| *of == digest);
        of_text.next().map(|(_, own)| *own)
    }

    /// Goes to a database by the primary's name for it; whether the shadow has it.
    pub(super) async fn enter(&mut self, shared: &Shared, database: &str) -> Result<bool, Trouble> {
        let databases = &shared.server.databases;
        let name = databases.get(database).map_or(database, String::as_str);
        let payload = [&[Command::INIT_DB.0], name.as_bytes()].concat();
        Ok(self.ask(&payload).await?.answer.error().is_none())
    }

    /// Closes what the client prepared under `id`, if it is prepared here.
    pub(super) async fn close(&mut self, id: u32) -> Result<(), Trouble> {
        for (_, own) in self.others.remove(&id).unwrap_or_default() {
            self.retire(own).await?;
        }
        let Some(own) = self.prepared.remove(&id) else {
            return Ok(());
        };
        self.retire(own).await
    }

    /// Closes a statement, within a transaction only after its end. Where too many wait for that, it
    /// is closed at once: a transaction that is run again then misses it, and is given up.
    async fn retire(&mut self, own: u32) -> Result<(), Trouble> {
        if self.in_transaction() && self.retired.len() < RETIRED_MAX {
            self.retired.push(own);
            return Ok(());
        }
        self.close_own(own).await
    }

    /// Closes what was to be closed after the transaction, if none is open.
    pub(super) async fn close_retired(&mut self) -> Result<(), Trouble> {
        if self.in_transaction() {
            return Ok(());
        }
        for own in std::mem::take(&mut self.retired) {
            self.close_own(own).await?;
        }
        Ok(())
    }

    async fn close_own(&mut self, own: u32) -> Result<(), Trouble> {
        let mut payload = vec![Command::STMT_CLOSE.0, 0, 0, 0, 0];
        let _ = execute::set_statement_id(&mut payload, own);
        self.tell(&payload).await
    }

    /// The connection was reset: its statements are gone.
    pub(super) fn forget_statements(&mut self) {
        self.prepared.clear();
        self.others.clear();
        self.retired.clear();
    }

    /// Sends a command that has no answer.
    pub(super) async fn tell(&mut self, payload: &[u8]) -> Result<(), Trouble> {
        self.talk.tell(payload).await
    }

    /// Sends a command and reads its whole answer.
    pub(super) async fn ask(&mut self, payload: &[u8]) -> Result<Reply, Trouble> {
        self.talk.ask(payload).await
    }

    /// Takes an answer back that nobody needs any more.
    pub(super) fn recycle(&mut self, answer: Answer) {
        self.talk.recycle(answer);
    }

    /// What it is made of, once it stands for the session no more but is the session's: the stream,
    /// the server's id for it, and the last status flags.
    pub(super) fn into_parts(self) -> (Stream, u32, Status) {
        let status = self.talk.status();
        (self.talk.into_stream(), self.thread_id, status)
    }
}

/// The proxy's own account at the shadow, where a fence may hold back the one that a user's commands are
/// replayed with.
fn own_account<'a>(shared: &'a Shared, account: &Account) -> Option<&'a Account> {
    let own = shared.server.account.as_ref();
    own.filter(|own| shared.config.cutover.fence && own.user != account.user)
}

/// Logs in with the account, in the session's database; or in none, where
/// the shadow lacks it, and says so.
async fn log_in(
    shared: &Shared,
    facts: &Facts,
    journal: &Journal,
    account: &Account,
) -> Result<(Connection, bool), Trouble> {
    let server = &shared.server;
    let database = journal.database();
    let database = server
        .databases
        .get(database)
        .map_or(database, String::as_str);
    let mut login = Login {
        user: account.user.clone(),
        password: account.password.clone(),
        database: (!database.is_empty()).then(|| database.to_owned()),
        capabilities: facts.capabilities,
        collation: facts.collation,
        // Told as it would be if the server were the primary: a cutover makes this the client's own.
        client: facts.client.as_deref().copied(),
    };
    let open = || connect::open(&*shared.dial, server, &shared.tls, &login);
    match open().await {
        Err(ConnectError::Refused(failure)) if NO_DATABASE.contains(&failure.code) => {
            // It goes on without, so that a USE of another database finds a connection.
            login.database = None;
            let open = connect::open(&*shared.dial, server, &shared.tls, &login);
            Ok((open.await.map_err(refused)?, false))
        }
        other => Ok((other.map_err(refused)?, true)),
    }
}

/// A session that logged in before the shadow was seen may have been offered more than it can.
fn refused(error: ConnectError) -> Trouble {
    match error {
        ConnectError::Capability(_) => Trouble::Dialect(error.to_string()),
        ConnectError::Refused(ref failure) if REFUSED_TO_ACCOUNT.contains(&failure.code) => {
            Trouble::Refused(error.to_string())
        }
        _ => Trouble::Down(error.to_string()),
    }
}
