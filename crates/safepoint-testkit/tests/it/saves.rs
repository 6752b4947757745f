//! What the trials of checkpoints would notice, tried on damage done by hand.

use std::fs;

use safepoint_testkit::saves::{Acknowledged, Place, Plan, Said, Saver, Verdict, verify};

fn saved() -> (Place, Plan, Acknowledged) {
    let plan = Plan {
        steps: 3,
        ..Plan::default()
    };
    let place = Place::new().unwrap();
    let saver = Saver {
        program: env!("CARGO_BIN_EXE_saver").into(),
        plan: plan.clone(),
    };
    let ended = saver.run(&place.store(), None).unwrap();
    let acknowledged = ended.acknowledged();
    assert_eq!(acknowledged.count(), 3);
    (place, plan, acknowledged)
}

fn after(damage: impl FnOnce(&Place)) -> Verdict {
    let (place, plan, acknowledged) = saved();
    damage(&place);
    verify(&place.store(), &plan, &acknowledged)
}

fn newest(place: &Place) -> std::path::PathBuf {
    place.store().join("model/0000000003.ckpt")
}

#[test]
fn what_is_whole_passes() {
    let found = after(|_| {});
    assert!(found.is_clean(), "{:?}", found.problems);
    assert_eq!(found.newest["model"], 3);
}

#[test]
fn what_is_lost_damaged_exchanged_or_left_over_is_noticed() {
    let gone = after(|place| fs::remove_file(newest(place)).unwrap());
    assert_eq!(gone.lost, 1, "{gone:?}");
    let cut = after(|place| fs::write(newest(place), b"half").unwrap());
    assert_eq!((cut.lost, cut.unreadable), (1, 1), "{cut:?}");
    let all_gone = after(|place| fs::remove_dir_all(place.watched()).unwrap());
    assert_eq!(all_gone.lost, 1, "{all_gone:?}");
    let left = after(|place| fs::write(place.store().join("model/.x"), b"").unwrap());
    assert_eq!(left.left_over, 1, "{left:?}");
    let older =
        after(|place| fs::remove_file(place.store().join("model/0000000002.ckpt")).unwrap());
    assert!(older.problems[0].contains("before its time"), "{older:?}");

    let (place, plan, _) = saved();
    let other = Plan { seed: 2, ..plan };
    let exchanged = verify(&place.store(), &other, &Acknowledged::default());
    assert!(
        exchanged.problems[0].contains("does not hold what step"),
        "{exchanged:?}"
    );
}

#[test]
fn a_saver_notices_a_state_that_is_not_what_its_step_must_be() {
    let (place, plan, _) = saved();
    let other = Saver {
        program: env!("CARGO_BIN_EXE_saver").into(),
        plan: Plan { seed: 2, ..plan },
    };
    let ended = other.run(&place.store(), None).unwrap();
    assert!(!ended.status.success());
    assert!(matches!(&ended.said[..], [Said::Error(text)] if text.contains("does not hold")));
}
