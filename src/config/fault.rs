//! What is wrong with a config: where, which key, what, and what would be right.
//!
//! Never shows a secret's value: a fault carries words, not the source line.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: the default holds, or a key is missing.
    #[default]
    Absent,
    /// A line of the file, from 1.
    Line(usize),
    /// An environment variable.
    Variable(String),
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// The key with its section (`mirror.queue_bytes`); empty where the file is no TOML at all.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl Fault {
    /// By which faults are told in the order of the file; those that stand nowhere come last.
    pub(super) const fn line(&self) -> usize {
        match self.place {
            Place::Line(line) => line,
            Place::Absent | Place::Variable(_) => usize::MAX,
        }
    }

    /// Where it is, and what is wrong, in words.
    pub(super) fn told(&self, file: &Path) -> String {
        let place = match &self.place {
            Place::Absent => file.display().to_string(),
            Place::Line(line) => format!("{}:{line}", file.display()),
            Place::Variable(name) => format!("environment {name}"),
        };
        match self.key.as_str() {
            "" => format!("{place}: {}", self.wrong),
            key => format!("{place}: {key}: {}", self.wrong),
        }
    }
}

/// All that is wrong with a config, in the order of the file.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong; never empty.
    pub faults: Vec<Fault>,
}

impl ConfigError {
    pub(super) fn one(file: &Path, wrong: String, right: &str) -> Self {
        let fault = Fault {
            place: Place::Absent,
            key: String::new(),
            wrong,
            right: right.to_owned(),
        };
        Self {
            file: file.to_owned(),
            faults: vec![fault],
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.faults.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}; {}", fault.told(&self.file), fault.right)?;
        }
        Ok(())
    }
}

/// The nearest of `known` to what was written, where it is near enough to be meant.
pub(super) fn did_you_mean<'a>(
    written: &str,
    known: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let near = 1 + written.chars().count() / 4;
    known
        .map(|one| (distance(&written.to_lowercase(), one), one))
        .filter(|(far, _)| *far <= near)
        .min_by_key(|(far, _)| *far)
        .map(|(_, one)| one)
}

/// Insertions, deletions and replacements between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        let mut row = vec![left];
        for (j, y) in b.iter().enumerate() {
            let up = above.get(j + 1).copied().unwrap_or(usize::MAX - 1);
            left = (corner + usize::from(x != *y)).min(left + 1).min(up + 1);
            corner = up;
            row.push(left);
        }
        above = row;
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_single_edits() {
        for (a, b, far) in [
            ("", "abc", 3),
            ("reads", "reads", 0),
            ("adress", "address", 1),
            ("raeds", "reads", 2),
        ] {
            assert_eq!(distance(a, b), far, "{a} {b}");
        }
    }

    #[test]
    fn only_a_near_key_is_proposed() {
        let known = ["reads", "writes", "sample"];
        assert_eq!(did_you_mean("write", known.into_iter()), Some("writes"));
        assert_eq!(did_you_mean("colour", known.into_iter()), None);
    }
}
