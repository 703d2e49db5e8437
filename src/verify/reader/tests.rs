//! Answers in pieces, of several chunks, and such as break off.

use super::*;
use crate::connect::Stream;
use crate::wire::capability::Capabilities;

/// A reader whose server has said these bytes, in pieces of this length.
fn reader(bytes: Vec<u8>, piece: usize) -> Reader {
    let (near, mut far) = tokio::io::duplex(piece);
    drop(crate::task::spawn("far", async move {
        let _ = far.write_all(&bytes).await;
    }));
    Reader {
        connection: Connection {
            stream: Stream::Memory(near),
            capabilities: Capabilities::PROTOCOL_41,
            thread_id: 1,
            server_version: "8.0.0".into(),
            status: Status::default(),
        },
        name: "legacy".into(),
        is_vitess: false,
        identity: None,
        tells: false,
        buffer: Vec::new(),
        taken: 0,
        end: 0,
        columns: 1,
        under_way: false,
        viewing: false,
        given_up: GivenUp::default(),
    }
}

fn packets(payloads: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut seq = 1;
    for payload in payloads {
        seq = write_packet(&mut out, seq, payload);
    }
    out
}

const EOF: &[u8] = &[0xFE, 0, 0, 2, 0];

#[tokio::test]
async fn rows_are_read_one_by_one_in_whatever_pieces_they_come() {
    for piece in [1, 3, 1000] {
        let mut reader = reader(packets(&[b"\x01a", b"\xFB", b"\x02bc", EOF]), piece);
        let mut seen = Vec::new();
        while let Some(cells) = reader.next().await.unwrap() {
            seen.push(cells[0].map(<[u8]>::to_vec));
        }
        assert_eq!(seen, [Some(b"a".to_vec()), None, Some(b"bc".to_vec())]);
        assert_eq!(reader.next().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_row_of_several_chunks_is_one() {
    let value = vec![7; 2 * CHUNK_MAX];
    let mut row = Vec::new();
    crate::wire::packet::write_lenenc_bytes(&mut row, &value);
    let mut reader = reader(packets(&[&row, b"\x01b", EOF]), 1 << 20);
    assert_eq!(
        reader.next().await.unwrap().unwrap()[0].unwrap().len(),
        value.len()
    );
    assert_eq!(reader.next().await.unwrap().unwrap()[0], Some(&b"b"[..]));
    assert!(reader.next().await.unwrap().is_none());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_end() {
    let mut cut = packets(&[b"\x01a", b"\x05bcdef"]);
    cut.truncate(cut.len() - 2);
    let mut reader = reader(cut, 64);
    assert!(reader.next().await.unwrap().is_some());
    assert!(matches!(reader.next().await, Err(ReadError::Broken(..))));
}

#[tokio::test]
async fn an_error_behind_rows_is_no_end() {
    let mut reader = reader(packets(&[b"\x01a", b"\xFF\x25\x05#70100killed"]), 64);
    assert!(reader.next().await.unwrap().is_some());
    let fault = reader.next().await.unwrap_err();
    assert!(fault.may_pass());
    assert_eq!(fault.to_string(), "legacy: killed (1317)");
}

/// Finding: what a server says of a row was told, and kept, whatever the config says of literals.
#[tokio::test]
async fn what_a_server_refuses_is_told_without_values() {
    let said = "#HY000target: app.-80.primary: vttablet: Duplicate entry 'alice@x' for key 't.a' (errno 1062) (sqlstate 23000) (CallerID: app): Sql: \"select 1 from t where a = 'alice@x'\", BindVars: {a: \"alice@x\"}";
    let refusal = [&b"\xFF\x51\x04"[..], said.as_bytes()].concat();
    for tells in [false, true] {
        let mut reader = reader(packets(&[&refusal]), 64);
        reader.tells = tells;
        let fault = reader.next().await.unwrap_err().to_string();
        assert_eq!(fault.contains("alice"), tells, "{fault}");
        assert!(
            fault.contains("for key 't.a'") && fault.ends_with("(1105)"),
            "{fault}"
        );
    }
}

#[test]
fn what_a_view_was_not_opened_on_is_not_read_in_it() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let mut reader = reader(Vec::new(), 16);
    let sight = view::Sight::default();
    assert!(reader.must_show(&sight, "app").is_ok());
    reader.is_vitess = true;
    let refused = reader.must_show(&sight, "app").unwrap_err();
    assert!(matches!(refused, ReadError::NoView(..)) && !refused.ends_view());
    // A pool without room, an idle connection's end, a statement's time: these pass.
    for code in [1203, 4031, 1969] {
        let message = String::new();
        let server = "legacy".to_owned();
        let refused = ReadError::Refused {
            server,
            code,
            message,
        };
        assert!(refused.may_pass(), "{code}");
    }
}
