//! The key in an OK packet: which of them a server generated.
//!
//! MySQL's OK carries the key of an INSERT even where the statement names it; vtgate's carries the
//! sequence's alone, and 0 for a key that is named. A named key is not generated and not compared.

use crate::sql::Statement;
use crate::wire::answer::Done;
use crate::wire::command::Command;

/// Bytes of COM_STMT_EXECUTE before its parameters: the command, the statement's id, the flags and
/// the iteration count.
const EXECUTE_HEAD: usize = 10;

/// Whether the two servers generated different keys.
pub(super) fn differs(
    primary: &Done,
    shadow: &Done,
    statement: Option<&Statement>,
    command: &[u8],
) -> bool {
    let (one, other) = (primary.last_insert_id, shadow.last_insert_id);
    let inserts = statement.is_some_and(|statement| statement.insert);
    match (one, other) {
        _ if one == other => false,
        // Not an INSERT, but LAST_INSERT_ID(expression) sets the key as well.
        _ if !inserts => one != 0,
        (named, 0) | (0, named) => !names(command, named),
        _ => true,
    }
}

/// Whether the command holds this number: as digits, or as a parameter of a prepared statement.
fn names(command: &[u8], number: u64) -> bool {
    if has_number(command, number.to_string().as_bytes()) {
        return true;
    }
    let is_execute = command.first() == Some(&Command::STMT_EXECUTE.0);
    let parameters = command
        .get(EXECUTE_HEAD..)
        .filter(|_| is_execute)
        .unwrap_or_default();
    let has = |bytes: &[u8]| {
        parameters
            .windows(bytes.len())
            .any(|window| window == bytes)
    };
    has(&number.to_le_bytes())
        || u32::try_from(number).is_ok_and(|number| has(&number.to_le_bytes()))
        || u16::try_from(number).is_ok_and(|number| number > 0xFF && has(&number.to_le_bytes()))
        || double(number).is_some_and(|number| has(&number.to_le_bytes()))
}

/// The digits, and no other digit or letter beside them.
fn has_number(command: &[u8], digits: &[u8]) -> bool {
    let mut at = 0;
    while let Some(found) = command
        .get(at..)
        .and_then(|rest| rest.windows(digits.len()).position(|it| it == digits))
    {
        let start = at + found;
        let before = start.checked_sub(1).and_then(|before| command.get(before));
        let after = command.get(start + digits.len());
        if ![before, after]
            .into_iter()
            .flatten()
            .any(u8::is_ascii_alphanumeric)
        {
            return true;
        }
        at = start + 1;
    }
    false
}

/// The number as JavaScript's drivers send it.
fn double(number: u64) -> Option<f64> {
    u32::try_from(number).ok().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_as_a_word_of_its_own() {
        for (command, number, found) in [
            ("insert into t values (7, 'a')", 7, true),
            ("insert into t values (77, 'a7')", 7, false),
            ("insert into t values (77, 7)", 7, true),
            ("insert into t values ('990000001')", 990_000_001, true),
            ("", 7, false),
            ("7", 7, true),
        ] {
            assert_eq!(names(command.as_bytes(), number), found, "{command}");
        }
    }

    #[test]
    fn a_number_is_found_among_parameters() {
        let head = [Command::STMT_EXECUTE.0, 1, 0, 0, 0, 0, 1, 0, 0, 0];
        let execute = |parameters: &[u8]| [&head[..], &[0, 1, 8, 0], parameters].concat();
        assert!(names(&execute(&700_000_u64.to_le_bytes()), 700_000));
        assert!(names(&execute(&700_000_u32.to_le_bytes()), 700_000));
        assert!(names(&execute(&7_000_u16.to_le_bytes()), 7_000));
        assert!(names(&execute(&7_000.0_f64.to_le_bytes()), 7_000));
        assert!(!names(&execute(&7_001_u64.to_le_bytes()), 7_000));
        assert!(!names(&head, 1), "the iteration count is no parameter");
    }
}
