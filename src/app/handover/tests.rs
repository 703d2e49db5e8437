//! The new process' side against a scripted old one.

use super::letters::{FromNew, FromOld, Offer};
use super::post::Post;
use super::taking::{Taken, Word};
use crate::config::Config;
use crate::shadow::{Control, Switched, Written};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::Handle;

const SOON: Duration = Duration::from_secs(10);

fn ends() -> (Post, Post) {
    let (one, other) = UnixStream::pair().unwrap();
    (Post::new(one), Post::new(other))
}

fn offer() -> FromOld {
    FromOld::Offer(Offer {
        process: 7,
        primary: "legacy".into(),
        dialect: 5,
        token: "7-1".into(),
        ends_s: 600,
        console: false,
        supervised: false,
        drain_s: 40,
    })
}

/// What an operator had switched.
fn paused() -> Switched {
    let mirror = Config::parse("", &[]).unwrap().mirror;
    let control = Control {
        paused: true,
        ..Control::new(&mirror)
    };
    control.switched(&mirror)
}

/// The old process hears the hello, answers with this, and gives these doors.
async fn answered(letter: Option<FromOld>, doors: &[TcpListener]) -> (Result<Taken, String>, Post) {
    let (new, mut old) = ends();
    let config = Config::parse("", &[]).unwrap();
    let answers = async {
        let hello = old.read::<FromNew>().await.unwrap().unwrap();
        let FromNew::Hello(hello) = hello else {
            panic!("{hello:?}");
        };
        assert_eq!(hello.is_wrong_for(&config), None);
        let doors: Vec<BorrowedFd<'_>> = doors.iter().map(AsFd::as_fd).collect();
        match letter {
            Some(letter) => old.send(&letter, &doors, SOON).await.unwrap(),
            None => drop(old.doors()),
        }
        old
    };
    tokio::join!(Taken::offered(new, &config), answers)
}

fn doors() -> [TcpListener; 2] {
    [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap())
}

#[tokio::test]
async fn what_is_offered_is_taken_and_the_word_is_waited_for() {
    let doors = doors();
    let (taken, mut old) = answered(Some(offer()), &doors).await;
    let mut taken = taken.unwrap();
    assert_eq!((taken.primary(), taken.token()), ("legacy", "7-1"));
    let given = TcpListener::from(taken.doors().unwrap().clients);
    assert_eq!(given.local_addr().unwrap(), doors[0].local_addr().unwrap());
    assert!(taken.doors().is_none(), "they are given once");
    let says = async {
        let ready = old.read::<FromNew>().await.unwrap();
        assert_eq!(ready, Some(FromNew::Ready));
        let yours = FromOld::Yours(paused());
        old.send(&yours, &[], SOON).await.unwrap();
        old
    };
    let (ready, mut old) = tokio::join!(taken.ready(), says);
    ready.unwrap();
    assert_eq!(taken.switched(), &paused());
    assert_eq!(taken.drain(), Duration::from_secs(40));
    // It hears that this one lives, and is told to end; this one is to end as well.
    let relay = [Handle::current()];
    let says = async {
        let beat = old.read::<FromNew>().await.unwrap();
        assert_eq!(beat, Some(FromNew::Beat));
        old.send(&FromOld::End, &[], SOON).await.unwrap();
        old
    };
    let (word, old) = tokio::join!(taken.heard(&relay), says);
    assert!(matches!(word, Word::End), "{word:?}");
    // It ends without a word.
    drop(old);
    let word = taken.heard(&relay).await;
    assert!(matches!(word, Word::Gone), "{word:?}");
}

/// Finding: who was told to end while the ledger was not free yet waited for a word that it had heard.
#[tokio::test]
async fn the_last_word_is_not_lost_where_nobody_waits_for_it_any_more() {
    let (taken, mut old) = answered(Some(offer()), &doors()).await;
    let (mut taken, relay) = (taken.unwrap(), [Handle::current()]);
    let ended = FromOld::Ended(Written::anything().into());
    old.send(&ended, &[], SOON).await.unwrap();
    drop(old);
    for _ in 0..2 {
        let word = taken.heard(&relay).await;
        assert!(matches!(word, Word::Ended(_)), "{word:?}");
    }
}

#[tokio::test]
async fn where_the_old_one_does_not_hand_over_the_new_one_says_why() {
    let why = "a cutover is under way: it is holding";
    let (refused, _old) = answered(Some(FromOld::Refused(why.into())), &[]).await;
    let refused = refused.unwrap_err();
    assert!(
        refused.contains(why) && refused.contains("goes on"),
        "{refused}"
    );
    for (letter, given) in [
        (Some(FromOld::Yours(paused())), 0),
        (Some(offer()), 0),
        (Some(offer()), 1),
    ] {
        let doors = doors();
        let (taken, _old) = answered(letter, &doors[..given]).await;
        taken.unwrap_err();
    }
}

#[tokio::test]
async fn nobody_is_served_without_the_old_ones_word() {
    let (taken, old) = answered(Some(offer()), &doors()).await;
    let mut taken = taken.unwrap();
    drop(old);
    let why = taken.ready().await.unwrap_err().to_string();
    assert!(
        why.contains("process 7") && why.contains("goes on"),
        "{why}"
    );
}
