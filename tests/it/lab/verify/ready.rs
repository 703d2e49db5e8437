//! Readiness with a guard on data at rest: it stands in the way until every table was read whole and is the same, and
//! again once one differs.

use super::{understudy, verify};
use crate::lab::mirroring::{connect, table as new_table};
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use serde_json::{Value, json};

fn guard(proxy: &Proxy) -> Value {
    let told = proxy.get("/api/v1/readiness");
    let guards = told["guards"].as_array().expect("guards").clone();
    let found = guards.into_iter().find(|one| one["name"] == "verification");
    found.expect("the guard")
}

/// What the proxy's account may see.
async fn grant(lab: &Lab, statement: &str) {
    let opts = OptsBuilder::default()
        .socket(Some(lab.value("LEGACY_ROOT_SOCKET")))
        .user(Some("root"));
    let mut root = Conn::new(opts).await.expect("root logs in by the socket");
    root.query_drop(statement).await.expect(statement);
    root.disconnect().await.expect("it closes");
}

#[tokio::test]
async fn readiness_asks_for_what_was_verified() {
    let lab = Lab::get();
    let name = new_table(&lab).await;
    for address in [lab.legacy(), lab.shadow()] {
        let mut direct = connect(&address, "scratch").await;
        let fill = format!("INSERT INTO {name} VALUES (1, 'a', 'b'), (2, 'c', 'd')");
        direct.query_drop(fill).await.expect("filled");
        direct.disconnect().await.expect("it closes");
    }
    let setup = Setup {
        // One table of all that the lab has is a share of its own.
        more: "[cutover]\nrequire_verification = true\nverification_tables = 0.001\nverification_rows = 0.0\n[verify]\nshare = 1.0".to_owned(),
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let before = guard(&proxy);
    assert_eq!(
        (&before["pass"], &before["value"]["tables"]),
        (&json!(false), &json!(0)),
        "{before}"
    );
    assert!(
        before["why"]
            .as_str()
            .unwrap()
            .contains("understudy verify"),
        "{before}"
    );
    let tables = format!("scratch.{name}");
    let (code, told) = verify(&proxy.admin, &["--tables", &tables]);
    assert_eq!(code, 0, "{told:#}");
    // The account sees two databases: nobody knows of which tables this one is a share.
    let unseen = guard(&proxy);
    assert_eq!(unseen["pass"], false, "{unseen}");
    assert!(
        unseen["why"].as_str().unwrap().contains("not seen: "),
        "{unseen}"
    );
    grant(&lab, "GRANT SELECT ON *.* TO 'understudy'@'%'").await;
    let (code, told) = verify(&proxy.admin, &["--tables", &tables]);
    grant(&lab, "REVOKE SELECT ON *.* FROM 'understudy'@'%'").await;
    assert_eq!(code, 0, "{told:#}");
    let equal = guard(&proxy);
    assert_eq!(
        (
            &equal["pass"],
            &equal["value"]["tables"],
            &equal["value"]["rows"]
        ),
        (&json!(true), &json!(1), &json!(2)),
        "{equal}"
    );
    assert!(equal["value"]["of"].as_u64() > Some(1), "{equal}");
    assert!(equal["value"]["oldest_s"].as_u64() < Some(60), "{equal}");
    let metrics = proxy.text("/metrics");
    for line in [
        "understudy_verification_state{state=\"ended\"} 1",
        "understudy_verification_tables{outcome=\"equal\"} 1",
        "understudy_verification_rows 2",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let mut shadow = connect(&lab.shadow(), "scratch").await;
    let planted = shadow
        .query_drop(format!("DELETE FROM {name} WHERE id = 2"))
        .await;
    planted.expect("planted");
    let (code, told) = verify(&proxy.admin, &["--tables", &tables]);
    assert_eq!(code, 1, "{told:#}");
    let different = guard(&proxy);
    assert_eq!(
        (&different["pass"], &different["value"]["different"]),
        (&json!(false), &json!(1)),
        "{different}"
    );
    assert!(
        different["why"].as_str().unwrap().contains(&tables),
        "{different}"
    );
    let ready = understudy(&["readiness", "--admin", &proxy.admin]);
    assert_eq!(ready.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ready.stdout).contains("verification"));
}
