//! `GET /api/v1/divergences/{id}/repro`: a self-contained script for bash and the `mysql` command
//! line that brings a session's state about, runs the statement on both servers, and prints both
//! answers and their difference.
//!
//! The script holds no password. Nothing that a client wrote can leave the place where it stands:
//! texts are quoted for the shell piece by piece, and the client takes no commands of its own
//! (`--binary-mode`).

use crate::sql::{Class, Dialect, analyze, between_parameters, dialect_of};
use serde_json::Value;
use std::fmt::Write;

/// One server as the script reaches it unless its user says otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// Its name in the config.
    pub(super) name: &'a str,
    /// Host or address.
    pub(super) host: &'a str,
    /// TCP port.
    pub(super) port: u16,
    /// The user that the session has there.
    pub(super) user: &'a str,
    /// The session's database there; empty for none.
    pub(super) database: &'a str,
}

/// Literals that are to be filled in at most.
const ARGUMENTS_MAX: usize = 500;

/// The script of a divergence (an item of the API), or why there is none.
pub(super) fn script(
    item: &Value,
    primary: Place<'_>,
    shadow: Place<'_>,
) -> Result<String, String> {
    let statement = text(item, "/statement");
    if statement.is_empty() {
        return Err(format!(
            "divergence {} has no statement to run: {} is a command of the protocol",
            item["id"],
            text(item, "/fingerprint")
        ));
    }
    if statement.contains('…') {
        let id = &item["id"];
        return Err(format!(
            "the statement of divergence {id} was not kept whole (8 KiB are), so it cannot be run again"
        ));
    }
    let mut script = Script::new(item, statement);
    script.session(item);
    script.transaction(item, statement);
    if script.arguments.len() > ARGUMENTS_MAX {
        return Err(format!(
            "{} literals would have to be filled in; ledger.literals = \"keep\" keeps them",
            script.arguments.len()
        ));
    }
    Ok(script.written(item, primary, shadow))
}

fn text<'a>(item: &'a Value, path: &str) -> &'a str {
    item.pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn is(item: &Value, path: &str) -> bool {
    item.pointer(path).and_then(Value::as_bool).unwrap_or(false)
}

/// A word of the shell that means exactly this text.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A text on one line, for a comment.
fn line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// What is written so far.
struct Script {
    dialect: Dialect,
    /// The commands that print what is said to a server.
    body: String,
    /// What each `?` stands for, and its literal where it is known.
    arguments: Vec<(String, Option<String>)>,
    /// Whether the statement is wrapped so that it leaves nothing behind.
    wrapped: bool,
    /// It may commit, so that it cannot be taken back.
    commits: Option<Commits>,
}

/// Why a rollback at the end is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commits {
    /// It is a DDL statement.
    Ddl,
    /// It is several statements, or one that steers a transaction.
    Itself,
}

impl Commits {
    /// Whether a statement may commit. What of its text is a string hangs on the session's modes, and
    /// the client that runs the script reads it in a way of its own: where any way of reading finds
    /// several statements, they are.
    fn of(item: &Value, statement: &str) -> Option<Self> {
        let classes = [Class::Transaction, Class::Ddl, Class::Unmirrored];
        let ways = [(false, false), (false, true), (true, false), (true, true)];
        let steers = ways.iter().any(|(ansi_quotes, no_backslash_escapes)| {
            let dialect = Dialect {
                ansi_quotes: *ansi_quotes,
                no_backslash_escapes: *no_backslash_escapes,
            };
            let analysis = analyze(statement.as_bytes(), dialect);
            analysis.statements.len() > 1 || classes.contains(&analysis.class)
        });
        match text(item, "/class") {
            "ddl"
                if analyze(statement.as_bytes(), Dialect::default())
                    .statements
                    .len()
                    < 2 =>
            {
                Some(Self::Ddl)
            }
            "ddl" | "transaction" | "unmirrored" => Some(Self::Itself),
            _ => steers.then_some(Self::Itself),
        }
    }

    /// The variable that lets it run.
    const fn consent(self) -> &'static str {
        match self {
            Self::Ddl => "RUN_DDL",
            Self::Itself => "RUN_COMMIT",
        }
    }

    const fn why(self) -> &'static str {
        match self {
            Self::Ddl => "it commits implicitly",
            Self::Itself => {
                "it is several statements or steers a transaction, so it may commit, and no rollback would take it back"
            }
        }
    }
}

impl Script {
    fn new(item: &Value, statement: &str) -> Self {
        let dialect = dialect_of(text(item, "/session/sql_mode"));
        Self {
            dialect: Dialect {
                no_backslash_escapes: dialect.no_backslash_escapes
                    || is(item, "/session/no_backslash_escapes"),
                ..dialect
            },
            body: String::new(),
            arguments: Vec::new(),
            wrapped: false,
            commits: Commits::of(item, statement),
        }
    }

    /// Prints a statement, with the arguments in the places of its `?`.
    fn say(&mut self, statement: &str, what: &str, known: &[String]) {
        let mut known = known.iter();
        self.body.push_str("  printf '%s'");
        for (at, piece) in between_parameters(statement, self.dialect)
            .into_iter()
            .enumerate()
        {
            if at > 0 {
                self.arguments
                    .push((format!("{what}, ? number {at}"), known.next().cloned()));
                let _ = write!(self.body, " \"$ARG{}\"", self.arguments.len());
            }
            if !piece.is_empty() {
                let _ = write!(self.body, " {}", quoted(piece));
            }
        }
        // On a line of its own, for a comment may end the statement.
        self.body.push_str(" $'\\n;\\n'\n");
    }

    fn session(&mut self, item: &Value) {
        let settings = item.pointer("/session/settings").and_then(Value::as_array);
        for setting in settings.into_iter().flatten().filter_map(Value::as_str) {
            if setting == "?" {
                self.say("?", "a SET of the session", &[]);
            } else {
                self.say(
                    &format!("SET {setting}"),
                    &format!("SET {}", line(setting)),
                    &[],
                );
            }
        }
    }

    fn transaction(&mut self, item: &Value, statement: &str) {
        let class = text(item, "/class");
        let writes = matches!(class, "write" | "locking_read");
        self.wrapped = writes || class == "read" && is(item, "/session/in_transaction");
        if self.wrapped {
            self.body
                .push_str("  printf '%s\\n' 'START TRANSACTION;'\n");
        }
        let known: Vec<String> = item
            .get("parameters")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|literal| literal.as_str().map(str::to_owned))
            .collect();
        let statement = statement.trim_end().trim_end_matches(';');
        self.say(statement, "the statement", &known);
        if writes {
            self.body
                .push_str("  printf '%s\\n' 'SELECT ROW_COUNT() AS changed;'\n");
        }
        if self.wrapped {
            self.body.push_str("  printf '%s;\\n' \"$ENDS_WITH\"\n");
        }
    }

    fn written(&self, item: &Value, primary: Place<'_>, shadow: Place<'_>) -> String {
        let mut out = String::from("#!/usr/bin/env bash\n");
        self.introduction(item, &mut out);
        let charset = match text(item, "/session/charset") {
            "" => "utf8mb4",
            charset => charset,
        };
        let _ = writeln!(
            out,
            "set -uo pipefail\nMYSQL=${{MYSQL:-$(command -v mysql || command -v mariadb || echo mysql)}}\nCHARSET=${{CHARSET:-{}}}",
            quoted(charset)
        );
        for (role, place) in [("PRIMARY", primary), ("SHADOW", shadow)] {
            let port = place.port.to_string();
            for (what, value) in [
                ("HOST", place.host),
                ("PORT", port.as_str()),
                ("USER", place.user),
                ("DATABASE", place.database),
                ("PASSWORD", ""),
                ("DEFAULTS", ""),
            ] {
                let value = quoted(value);
                let _ = writeln!(
                    out,
                    "[ -n \"${{{role}_{what}+set}}\" ] || {role}_{what}={value}"
                );
            }
        }
        self.values(&mut out);
        let _ = write!(out, "\nstatements() {{\n{}}}\n{ASK}", self.body);
        let sides = [("PRIMARY", primary), ("SHADOW", shadow)];
        let options = |role: &str| {
            ["DEFAULTS", "PASSWORD", "HOST", "PORT", "USER", "DATABASE"]
                .map(|what| format!("\"${role}_{what}\""))
                .join(" ")
        };
        // Two clients that fail alike are no two answers that are alike.
        for (role, place) in sides {
            let name = quoted(&line(place.name));
            let _ = writeln!(
                out,
                "echo 'SELECT 1;' | ask '' {} >/dev/null 2>\"$OUT/why\" || no_answer {name} {role}",
                options(role)
            );
        }
        for (role, place) in sides {
            let title = quoted(&format!(
                "== {} ({})",
                line(place.name),
                role.to_lowercase()
            ));
            let _ = writeln!(
                out,
                "echo {title}\nstatements | ask --force {} >\"$OUT/{role}\" 2>&1\ncat \"$OUT/{role}\"",
                options(role)
            );
        }
        out.push_str(DIFF);
        out
    }

    /// What it is, and what its user should know before it is run.
    fn introduction(&self, item: &Value, out: &mut String) {
        let _ = writeln!(
            out,
            "# understudy: divergence {} of finding {}, {}, seen {}",
            item["id"],
            item["finding_id"],
            line(text(item, "/kind")),
            line(text(item, "/at")),
        );
        let mut notes = vec![format!("  {}", line(text(item, "/fingerprint")))];
        if let Some(cause) = item.pointer("/cause/text").and_then(Value::as_str) {
            notes.push(format!("Known cause: {}.", line(cause)));
        }
        notes.push("It runs the statement on both servers, in the session's state, and prints both answers and their difference.".to_owned());
        notes.push("PRIMARY_HOST, _PORT, _USER, _DATABASE, _PASSWORD (or _DEFAULTS, a file for --defaults-extra-file), and the same for".to_owned());
        notes.push("SHADOW_, say where; MYSQL is the client, MYSQL_OPTIONS more options for it (such as --skip-ssl). Exit code: 0 alike, 1 different, 2 not run.".to_owned());
        if self.wrapped {
            notes.push("It runs in a transaction that is rolled back (ENDS_WITH=COMMIT keeps it); tables without transactions keep what is written.".to_owned());
        }
        if let Some(commits) = self.commits {
            notes.push(format!(
                "Nothing takes the statement back ({}): it runs only with {}=1.",
                commits.why(),
                commits.consent()
            ));
        }
        let before = item
            .pointer("/session/commands_before")
            .and_then(Value::as_u64);
        if let Some(before) = before.filter(|before| *before > 0) {
            notes.push(format!("{before} commands ran before it in its transaction; what they changed is not part of this script."));
        }
        if is(item, "/session/rewritten") {
            notes.push("The shadow was sent another text (database names mapped, values pinned) than stands here.".to_owned());
        }
        if text(item, "/protocol") == "prepared" {
            notes.push("The client prepared it; here it is sent as text.".to_owned());
        }
        if item.pointer("/session/known").and_then(Value::as_bool) == Some(false) {
            notes
                .push("The session's state was not known: what it set is not all here.".to_owned());
        }
        for note in notes {
            let _ = writeln!(out, "# {note}");
        }
    }

    /// The literals that the ledger does not keep.
    fn values(&self, out: &mut String) {
        if self.arguments.is_empty() {
            return self.guard(out);
        }
        if self.arguments.iter().any(|(_, known)| known.is_none()) {
            out.push_str("\n# Literals that are not kept (ledger.literals = \"keep\" would): fill them in as SQL, such as ARG1=\"'text'\" or ARG1=5.\n");
        }
        for (at, (what, known)) in self.arguments.iter().enumerate() {
            let n = at + 1;
            let value = known.as_deref().map_or_else(String::new, quoted);
            let _ = writeln!(
                out,
                "[ -n \"${{ARG{n}+set}}\" ] || ARG{n}={value}  # {}",
                line(what)
            );
        }
        let _ = writeln!(
            out,
            "for n in $(seq {}); do\n  name=ARG$n\n  [ -n \"${{!name}}\" ] || {{ echo \"$name has no value: fill it in at the top of this script\" >&2; exit 2; }}\ndone",
            self.arguments.len()
        );
        self.guard(out);
    }

    fn guard(&self, out: &mut String) {
        if self.wrapped {
            out.push_str("ENDS_WITH=${ENDS_WITH:-ROLLBACK}\n");
        }
        if let Some(commits) = self.commits {
            let (consent, why) = (commits.consent(), commits.why());
            let _ = writeln!(
                out,
                "[ \"${{{consent}:-}}\" = 1 ] || {{ echo '{why}: run it with {consent}=1' >&2; exit 2; }}"
            );
        }
    }
}

/// Says something to a server, on past errors where the first word is `--force`, and has its answers
/// and errors printed.
const ASK: &str = r#"
ask() {
  local own=() force=$1
  shift
  [ -z "$1" ] || own=("--defaults-extra-file=$1")
  [ -z "$2" ] || export MYSQL_PWD="$2"
  # shellcheck disable=SC2086
  "$MYSQL" "${own[@]}" --binary-mode --batch $force --unbuffered ${MYSQL_OPTIONS:-} --default-character-set="$CHARSET" \
    --host="$3" --port="$4" --user="$5" ${6:+--database="$6"}
}
no_answer() {
  echo "$1 does not answer SELECT 1 at ${2}_HOST, ${2}_PORT as ${2}_USER: nothing was run" >&2
  cat "$OUT/why" >&2
  exit 2
}
command -v "$MYSQL" >/dev/null || { echo "there is no $MYSQL here: set MYSQL" >&2; exit 2; }
OUT=$(mktemp -d) || exit 2
trap 'rm -rf "$OUT"' EXIT

"#;

const DIFF: &str = r#"echo '== difference'
diff -u --label primary --label shadow "$OUT/PRIMARY" "$OUT/SHADOW" && echo none
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::process::Command;

    fn place(name: &'static str) -> Place<'static> {
        Place {
            name,
            host: "127.0.0.1",
            port: 3306,
            user: "app",
            database: "shop",
        }
    }

    fn item(statement: &str) -> Value {
        json!({
            "id": 12, "finding_id": 3, "at": "2026-01-01T00:00:00Z", "kind": "value", "class": "read", "protocol": "text",
            "fingerprint": statement, "statement": statement, "database": "shop",
            "session": {"known": true, "charset": "utf8", "in_transaction": false, "commands_before": 0,
                        "settings": ["sql_mode = 'ANSI_QUOTES'", "@a = ?"]},
        })
    }

    /// Runs the script with a client that only shows what it is told.
    fn run(script: &str, environment: &[(&str, &str)]) -> (Option<i32>, String) {
        run_with("#!/bin/bash\necho \"$@\"; cat\n", script, environment)
    }

    fn run_with(
        program: &str,
        script: &str,
        environment: &[(&str, &str)],
    ) -> (Option<i32>, String) {
        let dir = tempfile::tempdir().unwrap();
        let client = dir.path().join("client");
        std::fs::write(&client, program).unwrap();
        let file = dir.path().join("script");
        std::fs::write(&file, script).unwrap();
        let mut command = Command::new("bash");
        command.arg(&file).current_dir(dir.path());
        let made = Command::new("chmod").arg("+x").arg(&client).status();
        assert!(made.unwrap().success());
        command.env("MYSQL", &client);
        command.envs(environment.iter().copied());
        let output = command.output().unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "the script made something");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    #[test]
    fn the_state_and_the_statement_reach_both_clients() {
        let script = script(
            &item("SELECT a FROM t WHERE b = ?"),
            place("legacy"),
            place("vitess"),
        )
        .unwrap();
        let (code, said) = run(&script, &[("ARG1", "1"), ("ARG2", "'it''s'")]);
        assert_eq!(code, Some(0), "{said}");
        for words in [
            "== legacy (primary)",
            "--default-character-set=utf8",
            "--database=shop",
            "SET sql_mode = 'ANSI_QUOTES'\n;\nSET @a = 1\n;\nSELECT a FROM t WHERE b = 'it''s'\n;",
            "== difference\nnone",
        ] {
            assert!(said.contains(words), "{words}:\n{said}");
        }
    }

    #[test]
    fn what_is_not_filled_in_is_asked_for() {
        let script = script(&item("SELECT ?"), place("legacy"), place("vitess")).unwrap();
        let (code, said) = run(&script, &[("ARG1", "1")]);
        assert_eq!(code, Some(2));
        assert!(said.contains("ARG2 has no value"), "{said}");
    }

    #[test]
    fn a_difference_is_an_exit_code_of_its_own() {
        let script = script(&item("SELECT 1"), place("legacy"), place("vitess")).unwrap();
        let (code, said) = run(&script, &[("ARG1", "1"), ("SHADOW_USER", "other")]);
        assert_eq!(code, Some(1));
        assert!(said.contains("+--binary-mode"), "{said}");
    }

    #[test]
    fn nothing_that_a_client_wrote_leaves_its_place() {
        let evil = "SELECT '$(touch made)' /* `touch made` */ , \"'; touch made; '\"\n# \\! touch made\n-- '\nEOF\ntouch made\n%s %n \\n";
        let mut item = item(evil);
        for field in ["fingerprint", "kind", "at", "protocol"] {
            item[field] = json!("x\ntouch made\r$(touch made)");
        }
        item["cause"] = json!({"text": "\ntouch made\n"});
        item["session"]["charset"] = json!("utf8'; touch made; '");
        item["session"]["settings"] = json!(["NAMES utf8'; touch made #\n$(touch made)"]);
        let evil_place = Place {
            host: "h'; touch made; '",
            user: "$(touch made)",
            database: "`touch made`",
            ..place("l\ntouch made")
        };
        let script = script(&item, evil_place, evil_place).unwrap();
        let (code, said) = run(&script, &[]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(evil), "{said}");
    }

    #[test]
    fn a_write_is_rolled_back_unless_told_otherwise() {
        let mut item = item("UPDATE t SET a = 1;");
        item["class"] = json!("write");
        let script = script(&item, place("legacy"), place("vitess")).unwrap();
        let (_, said) = run(&script, &[("ARG1", "1")]);
        let wanted =
            "START TRANSACTION;\nUPDATE t SET a = 1\n;\nSELECT ROW_COUNT() AS changed;\nROLLBACK;";
        assert!(said.contains(wanted), "{said}");
        let (_, said) = run(&script, &[("ARG1", "1"), ("ENDS_WITH", "COMMIT")]);
        assert!(
            said.contains("COMMIT;") && !said.contains("ROLLBACK;"),
            "{said}"
        );
    }

    #[test]
    fn what_commits_by_itself_runs_only_when_told_to() {
        let mut item = item("DROP TABLE t");
        item["class"] = json!("ddl");
        let script = script(&item, place("legacy"), place("vitess")).unwrap();
        assert_eq!(run(&script, &[("ARG1", "1")]).0, Some(2));
        assert_eq!(run(&script, &[("ARG1", "1"), ("RUN_DDL", "1")]).0, Some(0));
    }

    #[test]
    fn a_text_that_may_commit_runs_only_when_told_to() {
        for statement in [
            "UPDATE t SET a = 1; COMMIT",
            "UPDATE t SET a = 'x\\'; COMMIT; -- '",
            "UPDATE t SET a = \"x\\\"; COMMIT; -- \"",
            "UPDATE t SET a = 1 /* ; */ ; SET autocommit = 1",
            "COMMIT",
        ] {
            let mut item = item(statement);
            item["class"] = json!("write");
            item["session"]["settings"] = json!([]);
            let script = script(&item, place("legacy"), place("vitess")).unwrap();
            let (code, said) = run(&script, &[]);
            assert_eq!(code, Some(2), "{statement}: {said}");
            assert!(said.contains("RUN_COMMIT=1"), "{said}");
            assert!(!said.contains("START TRANSACTION"), "{said}");
            assert_eq!(run(&script, &[("RUN_COMMIT", "1")]).0, Some(0));
        }
        let mut one = item("UPDATE t SET a = 'x; COMMIT';");
        one["class"] = json!("write");
        one["session"]["settings"] = json!([]);
        let script = script(&one, place("legacy"), place("vitess")).unwrap();
        assert_eq!(run(&script, &[]).0, Some(0));
    }

    #[test]
    fn a_server_that_does_not_answer_is_not_alike() {
        let mut item = item("SELECT 1");
        item["session"]["settings"] = json!([]);
        let script = script(&item, place("legacy"), place("vitess")).unwrap();
        // A client that cannot connect: it fails alike on both sides.
        let client = "#!/bin/bash\necho \"ERROR 2003 (HY000): Can't connect\" >&2\nexit 1\n";
        let (code, said) = run_with(client, &script, &[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("legacy does not answer"), "{said}");
        assert!(said.contains("Can't connect"), "{said}");
    }

    #[test]
    fn every_mode_that_implies_ansi_quotes_is_one() {
        for mode in ["ORACLE", "MSSQL", "DB2", "MAXDB", "POSTGRESQL", "ansi"] {
            let mut item = item("SELECT \"?\", ?");
            item["session"]["sql_mode"] = json!(format!("PIPES_AS_CONCAT,{mode}"));
            let script = Script::new(&item, "SELECT 1");
            assert!(script.dialect.ansi_quotes, "{mode}");
        }
    }

    #[test]
    fn parameters_that_are_kept_are_in_their_places() {
        let mut item = item("SELECT a FROM t WHERE b = ? AND c = ?");
        item["session"]["settings"] = json!([]);
        item["parameters"] = json!(["5", "'it''s $HOME'"]);
        let script = script(&item, place("legacy"), place("vitess")).unwrap();
        let (_, said) = run(&script, &[]);
        assert!(
            said.contains("WHERE b = 5 AND c = 'it''s $HOME'\n;"),
            "{said}"
        );
    }

    #[test]
    fn what_was_not_kept_whole_cannot_be_repeated() {
        let cut = script(&item("SELECT 1 …"), place("legacy"), place("vitess"));
        assert!(cut.unwrap_err().contains("not kept whole"));
        let mut bare = item("");
        bare["fingerprint"] = json!("COM_INIT_DB");
        let bare = script(&bare, place("legacy"), place("vitess"));
        assert!(bare.unwrap_err().contains("COM_INIT_DB"));
    }
}
