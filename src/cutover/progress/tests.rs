use super::super::machine::{Plan, Soak as Soaking};
use super::super::soak::Sides;
use super::*;
use crate::config::Config;
use crate::shadow::{Beat, CarryError};

const PLAN: Plan = Plan {
    dry_run: false,
    is_back: false,
    rest: Rest::Idle,
};

const HOLDING: State = State::Holding {
    plan: PLAN,
    ended: false,
};

fn nothing() -> Behind {
    panic!("nobody waits for the shadow")
}

fn behind() -> Behind {
    Behind {
        commands: 11,
        oldest_ms: 5_080,
        first: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_names_who_is_missing_and_how_long_of_how_long() {
    let slate = Slate::default();
    assert_eq!(slate.told(HOLDING, nothing), None, "nothing was said yet");
    let limit = (Duration::from_secs(5), Some("cutover.hold_ms_max"));
    slate.waits("every session to come to its end", Some(limit));
    let failed = (1..=5).map(|session| (session, CarryError::Types.into()));
    assert!(slate.is_due());
    slate.misses(7, &failed.collect());
    assert!(!slate.is_due(), "it was said a moment ago");
    tokio::time::advance(Duration::from_millis(1_200)).await;
    let told = slate.told(HOLDING, nothing).expect("a hold");
    let words = &told.words;
    for part in [
        "waits for every session to come to its end; 7 missing: session 1: the types of",
        "session 5: ",
        " and 2 more; for 1.20 s of 5.00 s (cutover.hold_ms_max)",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert_eq!((told.missing, told.sessions.len()), (7, NAMED_MAX));
    assert_eq!((told.passed_ms, told.limit_ms), (1_200, Some(5_000)));
    assert_eq!(told.limit_key, Some("cutover.hold_ms_max"));
    for rest in [State::Idle, State::Done, State::Aborted] {
        assert_eq!(slate.told(rest, nothing), None, "{rest:?}");
    }
    slate.waits("the switch to be recorded", None);
    let told = slate.told(State::Switching(PLAN), nothing).expect("a step");
    assert_eq!(told.words, "waits for the switch to be recorded; for 0 µs");
    slate.clear();
    assert_eq!(slate.told(HOLDING, nothing), None);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_shadow_is_told_how_far_it_is_behind() {
    let slate = Slate::default();
    let began = Instant::now();
    let limit = Some((Duration::from_secs(120), None));
    slate.waits_for_shadow("the shadow to be near", began, limit);
    tokio::time::advance(Duration::from_secs(11)).await;
    let told = slate.told(State::Preparing(PLAN), behind).expect("a step");
    assert_eq!(
        told.words,
        "waits for the shadow to be near; the shadow is behind by 11 commands, the oldest 5080 ms old; for 11.00 s of 2 min 0 s"
    );
    assert_eq!((told.behind, told.limit_key), (Some(behind()), None));
}

#[tokio::test(start_paused = true)]
async fn a_soak_tells_what_is_left_of_it_though_the_next_cutover_is_checked() {
    let slate = Slate::default();
    let soaking = State::Soaking(Soaking { is_back: false });
    assert_eq!(slate.told(soaking, nothing), None);
    let config = Config::parse("", &[]).expect("sound");
    let figures = Soak::of(&Beat::default(), &Beat::default(), &config.cutover);
    assert_eq!(figures.commands, Sides::default());
    let lasts = Duration::from_secs(300);
    slate.soaks(Instant::now() + lasts, lasts, figures);
    tokio::time::advance(Duration::from_millis(18_500)).await;
    slate.waits("both servers to answer", None);
    let told = slate.told(soaking, nothing).expect("a soak");
    let left = "4 min 42 s of 5 min 0 s left (cutover.soak_s); errors none of 0 commands";
    assert!(told.words.starts_with(left), "{}", told.words);
    assert_eq!((told.passed_ms, told.limit_ms), (18_500, Some(300_000)));
    let checking = slate.told(State::Checking(PLAN), nothing).expect("a step");
    assert!(checking.soak.is_none() && checking.words.contains("both servers"));
}

#[tokio::test(start_paused = true)]
async fn what_the_primary_told_of_transactions_grows_older() {
    let slate = Slate::default();
    tokio::time::advance(Duration::from_secs(60)).await;
    slate.opened(BTreeMap::from([(7, Duration::from_secs(12))]));
    tokio::time::advance(Duration::from_secs(3)).await;
    let ages = BTreeMap::from([(7, Duration::from_secs(15))]);
    assert_eq!(slate.ages(), ages);
    slate.clear();
    assert!(slate.ages().is_empty(), "another hold asks anew");
}
