//! What evidence moves a backend.

use std::time::Duration;

use super::*;

const RULES: Rules = Rules { rise: NonZeroU32::new(2).unwrap(), fall: NonZeroU32::new(3).unwrap() };
const OUT: Standing = Standing::Starting { was_out: true };
const NEW: Standing = Standing::Starting { was_out: false };

/// Probes a backend that has a witness once a second, and says where it stands after each.
fn stands(mut health: Health, outcomes: &[Outcome]) -> Vec<Standing> {
    let mut now = Now::read();
    let mut seen = Vec::new();
    for outcome in outcomes {
        now = now.after(Duration::from_secs(1));
        health = health.after(*outcome, now.at, RULES, false, now);
        health.witness(now);
        seen.push(health.standing);
    }
    seen
}

use Outcome::{Answered, Refused, Silent};
use Standing::{Down, Up};

#[test]
fn one_success_admits_a_new_backend_and_one_failure_does_not() {
    let now = Now::read();
    assert_eq!(stands(Health::starting(now), &[Answered]), [Up]);
    assert_eq!(stands(Health::starting(now), &[Refused, Answered, Answered]), [Down, Down, Up]);
    assert_eq!(stands(Health::starting(now), &[Outcome::Ours(Errno::EMFILE), Answered]), [NEW, Up]);
}

#[test]
fn rise_and_fall_count_without_interruption() {
    let now = Now::read();
    let outcomes = [Refused, Refused, Answered, Refused, Silent, Refused, Answered, Refused, Answered, Answered];
    let expected = [Up, Up, Up, Up, Up, Down, Down, Down, Down, Up];
    assert_eq!(stands(Health::adopted(true, now), &outcomes), expected);
}

#[test]
fn adoption_keeps_what_the_table_says_until_there_is_evidence() {
    let now = Now::read();
    assert_eq!(stands(Health::adopted(true, now), &[Refused, Refused, Refused]), [Up, Up, Down]);
    assert_eq!(stands(Health::adopted(false, now), &[Answered, Answered]), [OUT, Up]);
    assert_eq!(stands(Health::adopted(false, now), &[Refused]), [Down]);
}

#[test]
fn a_failure_of_our_own_says_nothing() {
    let ours = Outcome::Ours(Errno::EPERM);
    assert_eq!(stands(Health::adopted(true, Now::read()), &[Refused, Refused, ours, ours, Refused])[3..], [Up, Down]);
}

#[test]
fn silence_is_believed_with_a_witness_or_of_the_last() {
    let now = Now::read();
    let silent = |alone: bool| {
        let mut health = Health::adopted(true, now);
        for second in 1..=3 {
            let now = now.after(Duration::from_secs(second));
            health = health.after(Silent, now.at, RULES, alone, now);
        }
        health
    };
    assert_eq!(silent(true).standing, Down);
    let mut held = silent(false);
    assert!(held.is_held(RULES) && held.wants_witness());
    assert_eq!(
        held.reason(Some(RULES)),
        "no answer within the timeout, 3 times: held, because all backends are silent at once"
    );
    // A witness speaks while a probe is under way: only the next one counts.
    let witness = now.after(Duration::from_secs(5));
    held.witness(witness);
    let held = held.after(Silent, now.after(Duration::from_secs(4)).at, RULES, false, witness);
    assert_eq!(held.standing, Up);
    assert_eq!(held.clone().after(Answered, witness.at, RULES, false, witness).reason(Some(RULES)), "answers");
    assert_eq!(held.after(Silent, witness.at, RULES, false, witness).standing, Down);
}

#[test]
fn a_refusal_needs_no_witness() {
    let now = Now::read();
    let mut health = Health::adopted(true, now);
    for _ in 0..3 {
        health = health.after(Refused, now.at, RULES, false, now);
    }
    assert_eq!(health.standing, Down);
}

#[test]
fn reasons_are_for_people() {
    let now = Now::read();
    let reason = |health: &Health| health.reason(Some(RULES));
    let health = Health::starting(now);
    assert_eq!(reason(&health), "not probed yet");
    let health = health.after(Answered, now.at, RULES, false, now);
    assert_eq!(reason(&health), "answers");
    let health = health.after(Refused, now.at, RULES, false, now);
    assert_eq!(reason(&health), "connection refused: 1 of 3 failures");
    let health = health.after(Refused, now.at, RULES, false, now).after(Refused, now.at, RULES, false, now);
    assert_eq!(reason(&health), "connection refused");
    assert_eq!(reason(&health.after(Answered, now.at, RULES, false, now)), "answers: 1 of 2 successes");
    assert_eq!(Health::unprobed(now).reason(None), "no health checks");
    assert_eq!(Outcome::Unreachable(Errno::EHOSTUNREACH).to_string(), "no route to host");
    assert_eq!(Outcome::Ours(Errno::EMFILE).to_string(), "cannot probe: too many open files");
}
