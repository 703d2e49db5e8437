//! The config's files as a process that runs with them reads them again: whole, or not at all.

use sha2::Digest as _;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Of a file whose content is compared, bytes at most.
const DIGESTED_MAX: u64 = 4 << 20;

/// What is wrong, and what would be right.
pub(super) type Wrong = (String, &'static str);

const RENAMED: &str = "write it elsewhere, with a newline at its end, and rename it over";

/// The file's text, where it is no half of one: a key that is missing would have its default.
pub(super) fn settled(path: &Path) -> Result<String, Wrong> {
    let unreadable = |error: std::io::Error| {
        (
            format!("the file cannot be read: {error}"),
            "put it back, for this user to read",
        )
    };
    let before = std::fs::metadata(path).map_err(unreadable)?;
    if !before.is_file() {
        return Err((
            "this is no regular file: what was read from it once may be gone".to_owned(),
            "start it with a regular file to have that read again",
        ));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let after = std::fs::metadata(path).map_err(unreadable)?;
    if stamp(&before) != stamp(&after) || before.len() != text.len() as u64 {
        let wrong = "the file changed while it was read".to_owned();
        return Err((wrong, "ask again once it is written"));
    }
    if text.is_empty() {
        return Err((
            "the file is empty: it may be half written".to_owned(),
            RENAMED,
        ));
    }
    if !text.ends_with('\n') {
        let wrong = "the file does not end with a newline: it may be half written".to_owned();
        return Err((wrong, RENAMED));
    }
    Ok(text)
}

/// What a file is known by: how long it is, when it was written, and which one it is.
fn stamp(file: &Metadata) -> (u64, i64, i64, u64) {
    (file.len(), file.mtime(), file.mtime_nsec(), file.ino())
}

/// What a file's content is known by; nothing where it cannot be read, or is no regular file: a pipe can be read only
/// once.
pub(super) fn digest(path: &Path) -> Option<[u8; 32]> {
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut content = Vec::new();
    let file = File::open(path).ok()?;
    file.take(DIGESTED_MAX).read_to_end(&mut content).ok()?;
    Some(sha2::Sha256::digest(&content).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("understudy.toml");
        let said = |path: &Path| settled(path).map_err(|(wrong, _)| wrong);
        assert!(said(&path).unwrap_err().contains("cannot be read"));
        for (text, wrong) in [
            ("", "is empty"),
            ("[mirror]", "does not end with a newline"),
            ("[mirror]\nreads = false\n[listen", "does not end"),
        ] {
            std::fs::write(&path, text).unwrap();
            let told = said(&path).unwrap_err();
            assert!(told.contains(wrong), "{text:?}: {told}");
        }
        std::fs::write(&path, "[mirror]\n").unwrap();
        assert_eq!(said(&path), Ok("[mirror]\n".to_owned()));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(said(&link).is_ok(), "as a mounted ConfigMap has it");
        for none in [Path::new("/dev/null"), dir.path()] {
            let told = said(none).unwrap_err();
            assert!(told.contains("no regular file"), "{told}");
        }
    }

    #[test]
    fn a_content_is_known_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let of = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            digest(file.path())
        };
        assert_eq!(of("one"), of("one"));
        assert_ne!(of("one"), of("two"));
        assert_eq!(digest(Path::new("/dev/null")), None);
        assert_eq!(digest(Path::new("/nowhere/at-all")), None);
    }
}
