//! A repair's place in the mirror's order: while it is kept no cutover finds the shadow drained and the roles do not
//! turn, and it is given on the shadow alone.

use super::turn::House;
use std::time::Duration;
use tokio::time::timeout;
use understudy::shadow::NoStand;
use understudy::sql::Table;

const SECOND: Duration = Duration::from_secs(1);

fn table(name: &str) -> Table {
    Table {
        database: Some("app".to_owned()),
        name: name.to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_roles_do_not_turn_under_a_repair_and_none_is_written_behind_them() {
    let house = House::build();
    let mirror = &house.mirror;
    let stand = mirror.stand(&table("rows"), "vitess", SECOND).await;
    let stand = stand.expect("a place");
    let drained = timeout(5 * SECOND, mirror.drained()).await;
    assert!(drained.is_err(), "a cutover goes on under a repair");
    let turning = mirror.turn(house.roles(false));
    tokio::pin!(turning);
    let turned = timeout(5 * SECOND, &mut turning).await;
    assert!(turned.is_err(), "the roles turned under a repair");
    drop(stand);
    let turned = timeout(SECOND, turning).await.expect("it is given back");
    turned.expect("a mirror");
    let late = mirror.stand(&table("rows"), "vitess", SECOND).await;
    assert_eq!(late.unwrap_err(), NoStand::Turned("legacy".to_owned()));
    // What was refused holds nothing up.
    let drained = timeout(SECOND, mirror.drained()).await;
    drained.expect("nothing is under way").expect("a mirror");
}

#[tokio::test(start_paused = true)]
async fn places_on_one_table_come_one_after_the_other() {
    let house = House::build();
    let mirror = &house.mirror;
    let first = mirror.stand(&table("rows"), "vitess", SECOND).await;
    let first = first.expect("a place");
    let other = mirror.stand(&table("others"), "vitess", SECOND).await;
    assert!(other.is_ok(), "another table's is another");
    let second = mirror.stand(&table("rows"), "vitess", SECOND).await;
    assert_eq!(second.unwrap_err(), NoStand::Late);
    drop(first);
    let third = mirror.stand(&table("rows"), "vitess", SECOND).await;
    assert!(third.is_ok());
}
