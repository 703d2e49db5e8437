//! How a proxy hears of its fleet outside of its own cutovers: a look at etcd now and then, told to the
//! coordinator where something is new.

use super::Fleet;
use super::board::Board;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks. A call is heard within this time; nobody waits for it but who asked.
const EVERY: Duration = Duration::from_millis(200);

/// What is not new is told again after so many looks: what could not be done about it may be done now.
const AGAIN: u32 = 10;

/// Looks until the receiver is gone. `tell` is given what is new since the last look, and now and then
/// what is not.
pub(in crate::cutover) async fn watch<F: Future<Output = bool>>(
    fleet: Arc<Fleet>,
    tell: impl Fn(Board) -> F,
) {
    let (mut seen, mut same) = (None, 0);
    loop {
        same += 1;
        if let Ok(board) = fleet.board().await
            && (seen.as_ref() != Some(&board) || same >= AGAIN)
        {
            same = 0;
            seen = Some(board.clone());
            if !tell(board).await {
                return;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
