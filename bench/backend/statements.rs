//! What a text asks for, told by its first words: a load's statements by a few compares.

use super::answers::Size;

/// What is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A load's read.
    Read(Size),
    /// A row was changed.
    Changed,
    Begin,
    /// COMMIT and ROLLBACK.
    End,
    /// SET, USE and whatever else has no rows.
    Nothing,
    /// A question with an answer of its own.
    Question,
}

/// What a text asks for.
pub fn wish(text: &[u8]) -> Wish {
    if let Some(table) = text.strip_prefix(b"SELECT c FROM ")
        && let Some(size) = size(table)
    {
        return Wish::Read(size);
    }
    let begins = |word: &[u8]| {
        text.get(..word.len())
            .is_some_and(|first| first.eq_ignore_ascii_case(word))
    };
    if begins(b"SELECT") {
        return from(text).and_then(size).map_or(Wish::Question, Wish::Read);
    }
    if begins(b"SHOW") || begins(b"EXPLAIN") || begins(b"VEXPLAIN") {
        return Wish::Question;
    }
    if [&b"INSERT"[..], b"UPDATE", b"DELETE", b"REPLACE"]
        .iter()
        .any(|word| begins(word))
    {
        return Wish::Changed;
    }
    if begins(b"BEGIN") || begins(b"START TRANSACTION") {
        return Wish::Begin;
    }
    if begins(b"COMMIT") || begins(b"ROLLBACK") {
        return Wish::End;
    }
    Wish::Nothing
}

/// What follows the first FROM.
fn from(text: &[u8]) -> Option<&[u8]> {
    const FROM: &[u8] = b" FROM ";
    let at = text.windows(FROM.len()).position(|window| window == FROM)?;
    text.get(at + FROM.len()..)
}

fn size(table: &[u8]) -> Option<Size> {
    // sysbench's own.
    if table.starts_with(b"sbtest") {
        return Some(Size::B200);
    }
    [Size::B200, Size::K16, Size::M1, Size::G1]
        .into_iter()
        .find(|size| {
            table
                .strip_prefix(size.table())
                .is_some_and(|rest| rest.first().is_none_or(|next| *next == b' '))
        })
}
