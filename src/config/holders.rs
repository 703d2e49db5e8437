//! `admin.tokens_file`: who may ask the admin, each by a token of their own, and what they may do.
//!
//! The file may have a token itself, or its SHA-256 alone. It is read at the start, and by the admin again when it
//! has changed.

use super::fault::{ConfigError, Fault, Place};
use super::rules::OURSELVES;
use super::section::{Reading, Section};
use super::{Secret, source};
use sha2::Digest as _;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Holders in one file at most.
const HOLDERS_MAX: usize = 100;

/// Characters of a token in the file at least: with fewer it might be guessed, and its SHA-256 be turned back.
pub const TOKEN_CHARS_MIN: usize = 16;

/// The file's bytes at most.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What `printf %s TOKEN | sha256sum` hashes where nobody puts a token there, or a variable that is not set; and the
/// same with `echo`.
const NO_TOKENS: [&[u8]; 4] = [b"", b"\n", b"TOKEN", b"TOKEN\n"];

/// Bytes of a name at most.
const NAME_BYTES_MAX: usize = 64;

/// How whoever has the one token of `admin.token` is called, and whoever asks where none is needed.
pub const SOMEBODY: &str = "operator";

/// What the holder of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Ask.
    Viewer,
    /// Ask, and change what the admin can change.
    Operator,
}

impl Role {
    /// Its word in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// The SHA-256 of a token, by which it is known again. It is never printed.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Of this token.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(sha2::Sha256::digest(token).into())
    }

    /// Whether both are of one token; in constant time.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Whether it is of no token at all.
    fn is_of_none(&self) -> bool {
        NO_TOKENS.iter().any(|none| self.is(&Self::of(none)))
    }

    /// As `sha256sum` writes it.
    fn written(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let pair = text.get(2 * at..2 * at + 2)?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

/// Somebody who may ask the admin.
#[derive(Clone, Debug)]
pub struct Holder {
    /// How what they do is signed.
    pub name: Arc<str>,
    /// What they may do.
    pub role: Role,
    /// What their token is known by.
    pub digest: TokenDigest,
    /// The token, where it is known: the console's logins need it.
    pub token: Option<Secret>,
}

impl Holder {
    /// Who has the one token of `admin.token`.
    #[must_use]
    pub fn of_the_one(token: &Secret) -> Self {
        Self {
            name: SOMEBODY.into(),
            role: Role::Operator,
            digest: TokenDigest::of(token.0.as_bytes()),
            token: Some(token.clone()),
        }
    }
}

/// `admin.tokens_file`, as it was read at the start.
#[derive(Clone, Debug)]
pub struct TokensFile {
    /// Where it is.
    pub path: PathBuf,
    /// Who stands in it.
    pub holders: Vec<Holder>,
}

impl TokensFile {
    /// Reads the file. `one` is the token of `admin.token`, which must not stand in it too.
    ///
    /// # Errors
    /// It cannot be read, or each thing that is wrong with it, where it stands and what would be right; never a
    /// token.
    pub fn read(path: &Path, one: Option<&Secret>) -> Result<Self, ConfigError> {
        let mut text = String::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
        if let Err(error) = read {
            let wrong = format!("the file cannot be read: {error}");
            return Err(ConfigError::one(
                path,
                wrong,
                "name a file of text that this user may read",
            ));
        }
        if text.len() as u64 > FILE_BYTES_MAX {
            let wrong = format!("the file has more than {FILE_BYTES_MAX} bytes");
            return Err(ConfigError::one(
                path,
                wrong,
                "write a few lines for each token",
            ));
        }
        let path = path.to_owned();
        match parse(&text, one) {
            Ok(holders) => Ok(Self { path, holders }),
            Err(faults) => Err(ConfigError { file: path, faults }),
        }
    }
}

fn parse(text: &str, one: Option<&Secret>) -> Result<Vec<Holder>, Vec<Fault>> {
    let mut root = source::parse(text).map_err(|fault| vec![fault])?;
    let mut reading = Reading::default();
    let mut holders = Vec::new();
    let names: Vec<(String, Place)> = root
        .iter()
        .map(|(name, node)| (name.clone(), node.place.clone()))
        .collect();
    for (name, place) in names {
        let before = reading.faults.len();
        let section = Section::take(&mut root, &name, &mut reading);
        let holder = if section.faults() == before {
            holder(section, &name)
        } else {
            None
        };
        for fault in reading.faults.iter_mut().skip(before) {
            // A key that is missing stands nowhere: its section does.
            if fault.place == Place::Absent {
                fault.place = place.clone();
            }
        }
        holders.extend(holder);
    }
    let mut faults = std::mem::take(&mut reading.faults);
    faults.extend(reading.unknown.iter().map(|(name, key, place)| Fault {
        place: place.clone(),
        key: format!("{name}.{key}"),
        wrong: "unknown key".to_owned(),
        right: "the keys are role, and token or sha256".to_owned(),
    }));
    if faults.is_empty() {
        faults.extend(together(&holders, one));
    }
    faults.sort_by_key(Fault::line);
    if faults.is_empty() {
        Ok(holders)
    } else {
        Err(faults)
    }
}

fn holder(mut section: Section<'_>, name: &str) -> Option<Holder> {
    const ROLES: [(&str, Option<Role>); 2] = [
        ("viewer", Some(Role::Viewer)),
        ("operator", Some(Role::Operator)),
    ];
    let before = section.faults();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    let named = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(plain);
    if !named || name.eq_ignore_ascii_case(OURSELVES) {
        section.fault_of_all(
            format!("{name:?} is no name for who has a token"),
            format!("write up to {NAME_BYTES_MAX} letters, digits and . - _ @, not {OURSELVES:?}"),
        );
    }
    let role = section.choice("role", None, &ROLES);
    let (token, digest) = (section.hidden("token"), section.hidden("sha256"));
    let digest = match (&token, &digest) {
        (Some(token), None) if is_token(&token.0) => Some(TokenDigest::of(token.0.as_bytes())),
        (Some(_), None) => {
            section.fault(
                "token",
                "the token is too short, or has other characters than printable ASCII without blanks",
                format!("write {TOKEN_CHARS_MIN} to 1000 of them, such as what `openssl rand -hex 32` prints"),
            );
            None
        }
        (None, Some(digest)) => {
            let read = TokenDigest::written(&digest.0);
            let wrong = match &read {
                None => Some("this is no SHA-256"),
                Some(read) if read.is_of_none() => Some(
                    "this is the SHA-256 of no token, but of an empty text, a newline or the word TOKEN: anybody could ask",
                ),
                Some(_) => None,
            };
            if let Some(wrong) = wrong {
                let right = "write 64 hexadecimal digits, such as what `printf %s TOKEN | sha256sum` prints with the token in TOKEN's place";
                section.fault("sha256", wrong, right);
            }
            read
        }
        (Some(_), Some(_)) => {
            section.fault(
                "sha256",
                "both token and sha256 are set",
                "keep one of them",
            );
            None
        }
        (None, None) => {
            if section.faults() == before {
                section.fault(
                    "token",
                    "there is none",
                    "write token, or sha256 for a file without secrets",
                );
            }
            None
        }
    };
    if role.is_none() && section.faults() == before {
        section.fault(
            "role",
            "there is none",
            "write role = \"viewer\" or \"operator\"",
        );
    }
    let sound = section.faults() == before;
    section.finish();
    Some(Holder {
        name: name.into(),
        role: role?,
        digest: digest?,
        token,
    })
    .filter(|_| sound)
}

fn is_token(token: &str) -> bool {
    (TOKEN_CHARS_MIN..=1000).contains(&token.len()) && token.chars().all(|c| c.is_ascii_graphic())
}

/// What only all of them together can get wrong.
fn together(holders: &[Holder], one: Option<&Secret>) -> Option<Fault> {
    let fault = |key: &str, wrong: String, right: &str| {
        Some(Fault {
            place: Place::Absent,
            key: key.to_owned(),
            wrong,
            right: right.to_owned(),
        })
    };
    if holders.is_empty() {
        let right = "write [NAME] and below it role and token, or take admin.tokens_file out";
        return fault("", "nobody has a token".to_owned(), right);
    }
    if holders.len() > HOLDERS_MAX {
        let wrong = format!("there are {} tokens", holders.len());
        return fault("", wrong, &format!("write {HOLDERS_MAX} at most"));
    }
    let the_one = one.map(Holder::of_the_one);
    let mut known: Vec<&Holder> = the_one.iter().collect();
    for holder in holders {
        if let Some(other) = known.iter().find(|other| other.digest.is(&holder.digest)) {
            let wrong = format!("it is the token of {} too", other.name);
            return fault(&holder.name, wrong, "give each a token of their own");
        }
        if known.iter().any(|other| other.name == holder.name) {
            let wrong = "this is how who has admin.token_file's token is called".to_owned();
            return fault(
                &holder.name,
                wrong,
                "choose another name, or take admin.token_file out",
            );
        }
        known.push(holder);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "0123456789abcdef";

    fn wrong(text: &str) -> String {
        let faults = parse(text, Some(&Secret("the-one-that-all-have".into()))).expect_err(text);
        let file = "t.toml".into();
        ConfigError { file, faults }.to_string()
    }

    #[test]
    fn a_token_is_known_by_itself_or_by_its_digest() {
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let text = format!(
            "[alice]\nrole = \"operator\"\ntoken = \"{LONG}\"\n[grafana]\nrole = \"viewer\"\nsha256 = \"{digest}\"\n"
        );
        let holders = parse(&text, None).expect("sound");
        let told: Vec<_> = holders
            .iter()
            .map(|one| (&*one.name, one.role, one.token.is_some()))
            .collect();
        assert_eq!(
            told,
            [
                ("alice", Role::Operator, true),
                ("grafana", Role::Viewer, false)
            ]
        );
        let given = TokenDigest::of(LONG.as_bytes());
        assert!(holders[0].digest.is(&given));
        assert!(!holders[1].digest.is(&given));
        assert!(!format!("{holders:?}").contains(LONG));
        let upper = TokenDigest::written(&digest.to_uppercase()).expect("hexadecimal");
        assert!(holders[1].digest.is(&upper));
    }

    #[test]
    fn a_known_digest_is_read_right() {
        // SHA-256 of "abc", FIPS 180-2, appendix B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let read = TokenDigest::written(known).expect("64 digits");
        assert!(read.is(&TokenDigest::of(b"abc")));
        for wrong in [
            "",
            "ba",
            known.trim_start_matches('b'),
            &known.replace('b', "+"),
            &known.replace('b', "ö"),
        ] {
            assert!(TokenDigest::written(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_digest_of_no_token_opens_nothing() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let newline = "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b";
        let hexadecimal = |text: &[u8]| {
            let digest = TokenDigest::of(text).0;
            digest.map(|byte| format!("{byte:02x}")).concat()
        };
        assert_eq!(
            (hexadecimal(b""), hexadecimal(b"\n")),
            (empty.to_owned(), newline.to_owned())
        );
        for digest in NO_TOKENS.map(hexadecimal) {
            for digest in [digest.to_uppercase(), digest] {
                let told = wrong(&format!("[a]\nrole = \"viewer\"\nsha256 = \"{digest}\""));
                assert!(
                    told.starts_with("t.toml:3: a.sha256: this is the SHA-256 of no token"),
                    "{told}"
                );
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_token_is() {
        for (text, said) in [
            ("", "t.toml: nobody has a token;"),
            (
                "alice = \"hush-hush-hush-hush\"",
                "t.toml:1: alice: this is a text, not a section; write [alice]",
            ),
            (
                "[a]\ntoken = \"0123456789abcdef\"",
                "t.toml:1: a.role: there is none;",
            ),
            (
                "[a]\nrole = \"viewer\"",
                "t.toml:1: a.token: there is none;",
            ),
            (
                "[a]\nrole = \"admin\"\ntoken = \"0123456789abcdef\"",
                "t.toml:2: a.role: found \"admin\"; write one of \"viewer\", \"operator\"",
            ),
            (
                "[a]\nrole = \"viewer\"\ntoken = \"hush\"",
                "t.toml:3: a.token: the token is too short",
            ),
            (
                "[a]\nrole = \"viewer\"\ntoken = \"hush hush hush hush\"",
                "t.toml:3: a.token: the token is too short, or has other",
            ),
            (
                "[a]\nrole = \"viewer\"\ntoken = 1234512345123451",
                "t.toml:3: a.token: found an integer",
            ),
            (
                "[a]\nrole = \"viewer\"\nsha256 = \"hush\"",
                "t.toml:3: a.sha256: this is no SHA-256;",
            ),
            (
                "[a]\nrole = \"viewer\"\ntoken = \"0123456789abcdef\"\nsha256 = \"hush\"",
                "t.toml:4: a.sha256: both token and sha256 are set;",
            ),
            (
                "[a]\nrole = \"viewer\"\ntoken = \"0123456789abcdef\"\ncolour = \"red\"",
                "t.toml:4: a.colour: unknown key;",
            ),
            (
                "[understudy]\nrole = \"viewer\"\ntoken = \"0123456789abcdef\"",
                "t.toml:1: understudy: \"understudy\" is no name",
            ),
            (
                "[\"a b\"]\nrole = \"viewer\"\ntoken = \"0123456789abcdef\"",
                "t.toml:1: a b: \"a b\" is no name",
            ),
            (
                "[a]\nrole = \"viewer\"\ntoken = \"0123456789abcdef\"\n[b]\nrole = \"viewer\"\ntoken = \"0123456789abcdef\"",
                "t.toml: b: it is the token of a too;",
            ),
            (
                "[a]\nrole = \"viewer\"\ntoken = \"the-one-that-all-have\"",
                "t.toml: a: it is the token of operator too;",
            ),
            (
                "[operator]\nrole = \"operator\"\ntoken = \"0123456789abcdef\"",
                "t.toml: operator: this is how who has admin.token_file's",
            ),
            ("[a\nrole = 5", "t.toml:1: this is not TOML"),
        ] {
            let told = wrong(text);
            assert!(told.starts_with(said), "{text}\n{told}");
            for secret in ["hush", LONG, "1234512345", "the-one"] {
                assert!(!told.contains(secret), "{told}");
            }
        }
    }

    #[test]
    fn a_file_without_end_is_not_read() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "# long\n".repeat(10_000)).expect("written");
        let error = TokensFile::read(file.path(), None).expect_err("too long");
        assert!(
            error.to_string().contains("more than 65536 bytes"),
            "{error}"
        );
        let gone = TokensFile::read(Path::new("/nowhere/at-all"), None).expect_err("none");
        assert!(gone.to_string().contains("cannot be read"), "{gone}");
    }
}
