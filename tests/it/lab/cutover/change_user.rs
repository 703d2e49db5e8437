//! Sessions that begin anew after a flip: CHANGE_USER, which a vtgate does not know, with the right
//! password and a wrong one; and the statements of the config's `init`, which must hold again behind it
//! and behind RESET_CONNECTION.

use super::scene::{flip_unproven, setup};
use crate::lab::mirroring::connect;
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use mysql_async::{ChangeUserOpts, Conn, Error};

/// What every connection to vtgate begins with, and how a session sees it.
const INIT: &str = "init = [\"SET @begun = 7\"]";
const BEGUN: &str = "SELECT CONCAT('begun: ', IFNULL(@begun, 'no'))";

fn proxy(lab: &Lab) -> Proxy {
    let setup = Setup {
        shadow_more: INIT.to_owned(),
        ..setup("soak_s = 3600")
    };
    Proxy::start_with(lab, &setup)
}

async fn one(conn: &mut Conn, ask: &str) -> String {
    let said: Option<String> = conn.query_first(ask).await.expect(ask);
    said.expect("a row")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_user_works_whichever_server_answers() {
    let lab = Lab::get();
    let proxy = proxy(&lab);
    // It was greeted by a 5.6, so its driver resets it by CHANGE_USER.
    let mut app = connect(&proxy.address, "scratch").await;
    let known = app.id();
    for (to, begun) in [("vitess", "begun: 7"), ("legacy", "begun: no")] {
        flip_unproven(&proxy, to).await;
        for _ in 0..2 {
            let statement = app.prep("SELECT ? + 1").await.expect("prepared");
            app.query_drop("SET @kept = 1, @begun = 2")
                .await
                .expect("SET");
            app.query_drop("BEGIN").await.expect("BEGIN");
            app.change_user(ChangeUserOpts::default())
                .await
                .unwrap_or_else(|fault| panic!("on {to}: {fault}\n{}", proxy.log()));
            assert_eq!(app.id(), known);
            let kept = one(&mut app, "SELECT CONCAT('kept: ', IFNULL(@kept, 'no'))").await;
            assert_eq!(kept, "kept: no", "on {to}");
            assert_eq!(one(&mut app, BEGUN).await, begun, "on {to}");
            assert_eq!(one(&mut app, "SELECT DATABASE()").await, "scratch");
            let gone = app.exec_first::<u8, _, _>(&statement, (1,)).await;
            assert!(gone.is_err(), "a statement from before: {gone:?}");
        }
        // Its prepared statements are new ones, and its old id is its id.
        let sum = app.exec_first::<u8, _, _>("SELECT ? + 2", (1,)).await;
        assert_eq!(sum.expect("an execution"), Some(3), "on {to}");
    }
    flip_unproven(&proxy, "vitess").await;
    app.change_user(ChangeUserOpts::default())
        .await
        .expect("a change of user");
    let mut killer = connect(&proxy.address, "scratch").await;
    killer
        .query_drop(format!("KILL {known}"))
        .await
        .expect("a KILL by the id from before everything");
    assert!(app.query_drop("SELECT 1").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_user_with_a_wrong_password_ends_the_session() {
    let lab = Lab::get();
    let proxy = proxy(&lab);
    for to in ["vitess", "legacy"] {
        let mut app = connect(&proxy.address, "scratch").await;
        flip_unproven(&proxy, to).await;
        let wrong = ChangeUserOpts::new().with_pass(Some("wrong".to_owned()));
        match app.change_user(wrong).await {
            Err(Error::Server(said)) => assert_eq!(said.code, 1045, "on {to}: {said}"),
            other => panic!("on {to}: {other:?}"),
        }
        assert!(app.query_drop("SELECT 1").await.is_err(), "on {to}");
        let mut again = connect(&proxy.address, "scratch").await;
        assert_eq!(one(&mut again, "SELECT 'in'").await, "in");
    }
}

/// Whose session it is decides who may kill it where the proxy does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_has_become_anothers_is_no_longer_its_first_users_to_kill() {
    let lab = Lab::get();
    let proxy = proxy(&lab);
    let mut changed = connect(&proxy.address, "scratch").await;
    let mut app = connect(&proxy.address, "scratch").await;
    flip_unproven(&proxy, "vitess").await;
    let (user, password) = ("SHADOW_PROXY_USER", "SHADOW_PROXY_PASSWORD");
    let other = ChangeUserOpts::new()
        .with_user(Some(lab.value(user).to_owned()))
        .with_pass(Some(lab.value(password).to_owned()));
    changed.change_user(other).await.expect("another user");
    let said = one(&mut changed, "SELECT USER()").await;
    assert!(!said.starts_with("app@"), "{said}");
    for kill in ["KILL QUERY", "KILL"] {
        match app.query_drop(format!("{kill} {}", changed.id())).await {
            Err(Error::Server(said)) => assert_eq!(said.code, 1095, "{said}"),
            other => panic!("{kill}: {other:?}"),
        }
    }
    assert_eq!(one(&mut changed, "SELECT 'alive'").await, "alive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_init_sets_holds_again_after_a_reset() {
    let lab = Lab::get();
    let proxy = proxy(&lab);
    let mut early = connect(&proxy.address, "scratch").await;
    assert_eq!(one(&mut early, BEGUN).await, "begun: no");
    flip_unproven(&proxy, "vitess").await;
    assert_eq!(one(&mut early, BEGUN).await, "begun: 7", "it was carried");
    // It was greeted by a vtgate, so its driver resets it by RESET_CONNECTION.
    let mut late = connect(&proxy.address, "scratch").await;
    for _ in 0..2 {
        assert_eq!(one(&mut late, BEGUN).await, "begun: 7");
        late.query_drop("SET @begun = 1").await.expect("SET");
        assert_eq!(one(&mut late, BEGUN).await, "begun: 1");
        // vtgate forgets no user variable by it, so it is init that sets this one again.
        assert!(late.reset().await.expect("a reset"));
    }
    assert_eq!(one(&mut late, BEGUN).await, "begun: 7");
}
