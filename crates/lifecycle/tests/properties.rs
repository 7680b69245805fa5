//! The state machine under random journals: one final state, nothing lost, nothing done twice.

use proptest::prelude::*;
use trainyard_api::{
    Code, Failure, Phase, Time,
    runner::{EngineName, Exit, Purpose},
};
use trainyard_lifecycle::{Action, Event, Outcome, Run, Stamped, State, apply, fold};

fn failure() -> Failure {
    Failure { code: "TY0406".into(), message: "bucket gone".into(), exit_code: None, signal: None }
}

fn stopped() -> Failure {
    Failure { code: Code::NodeStopped.as_str().into(), ..failure() }
}

/// Any event, of any attempt, with a sequence number that may be right or wrong.
fn any_event() -> impl Strategy<Value = (Event, Option<u64>)> {
    let attempt = 0..5u32;
    let exit = prop_oneof![Just(Exit::Code(0)), Just(Exit::Code(3)), Just(Exit::Signal(9))];
    prop_oneof![
        1 => (attempt.clone(), prop_oneof![Just(1u32), Just(3)]).prop_map(|(a, learners)| {
            (Event::Handed { attempt: a, engine: EngineName::Slurm, learners }, None)
        }),
        1 => (attempt.clone(), 1..4u64).prop_map(|(a, s)| {
            (Event::Ready { attempt: a, address: "n".into(), port: 1 }, Some(s))
        }),
        1 => attempt.clone().prop_map(|a| (Event::Requeued { job: a.min(2), attempt: a, message: "node".into() }, None)),
        1 => (attempt.clone(), 1..4u64).prop_map(|(a, s)| {
            (Event::Finished { attempt: a, failure: Some(stopped()) }, Some(s))
        }),
        2 => attempt.clone().prop_map(|a| (Event::Placed { attempt: a, node: "n".into(), gpus: vec![] }, None)),
        1 => attempt.clone().prop_map(|a| (Event::PlaceFailed { attempt: a, message: "no".into() }, None)),
        2 => attempt.clone().prop_map(|a| (Event::Claimed { attempt: a }, None)),
        3 => (attempt.clone(), 1..4u64).prop_map(|(a, s)| (Event::Started { attempt: a }, Some(s))),
        3 => (attempt.clone(), exit, 1..4u64).prop_map(|(a, e, s)| (Event::Exited { attempt: a, exit: e, why: None }, Some(s))),
        3 => (attempt.clone(), any::<bool>(), 1..4u64).prop_map(|(a, f, s)| {
            (Event::Finished { attempt: a, failure: f.then(failure) }, Some(s))
        }),
        2 => attempt.prop_map(|a| (Event::Lost { attempt: a, message: "gone".into(), code: None }, None)),
        1 => Just((Event::CancelAsked, None)),
        1 => Just((Event::DeleteAsked, None)),
        1 => Just((Event::Submitted, None)),
    ]
}

fn stamp(n: usize, event: Event, seq: Option<u64>) -> Stamped {
    Stamped { at: Time(1_000 + n as i64), seq, learner: 1, event }
}

/// The same, said by one of three learners where it is something that a runner says.
fn said(n: usize, event: Event, seq: Option<u64>) -> Stamped {
    let runners = seq.is_some() || matches!(event, Event::Placed { .. } | Event::Claimed { .. });
    let learner = if runners { 1 + (n % 3) as u32 } else { 1 };
    Stamped { learner, ..stamp(n, event, seq) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_end_is_final_and_announced_once(events in prop::collection::vec(any_event(), 0..60)) {
        let mut run = Run::submitted(Time(1_000));
        let (mut announced, mut ended_as) = (0, None);
        for (n, (event, seq)) in events.into_iter().enumerate() {
            let asks_delete = event == Event::DeleteAsked;
            let actions = apply(&mut run, &said(n, event, seq));
            announced += actions.iter().filter(|a| **a == Action::Announce).count();
            if let Some(end) = &ended_as {
                prop_assert_eq!(&run.state, end);
                prop_assert!(asks_delete || actions.is_empty());
            } else if run.is_ended() {
                ended_as = Some(run.state.clone());
            }
        }
        prop_assert_eq!(announced, usize::from(run.is_ended()));
        prop_assert_eq!(run.finished_at.is_some(), run.is_ended());
    }

    #[test]
    fn each_attempt_is_released_exactly_once_after_its_end(events in prop::collection::vec(any_event(), 0..60)) {
        let mut run = Run::submitted(Time(1_000));
        let mut released: Vec<u32> = Vec::new();
        for (n, (event, seq)) in events.into_iter().enumerate() {
            for action in apply(&mut run, &said(n, event, seq)) {
                if let Action::Release { attempt } = action {
                    prop_assert!(!released.contains(&attempt), "attempt {} released twice", attempt);
                    released.push(attempt);
                }
            }
        }
        let over = if matches!(run.state, State::Active(_)) { run.attempt - 1 } else { run.attempt };
        released.sort_unstable();
        prop_assert_eq!(released, (1..=over).collect::<Vec<_>>());
    }

    #[test]
    fn duplicates_change_nothing(events in prop::collection::vec(any_event(), 0..40), from in 0..40usize, copies in 1..3usize) {
        let journal: Vec<Stamped> = events.into_iter().enumerate().map(|(n, (e, s))| said(n, e, s)).collect();
        let mut once = Run::submitted(Time(1_000));
        let mut twice = once.clone();
        for (n, stamped) in journal.iter().enumerate() {
            apply(&mut once, stamped);
            for _ in 0..=(if n >= from { copies } else { 0 }) {
                apply(&mut twice, stamped);
            }
        }
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_fenced_attempt_is_not_heard(events in prop::collection::vec(any_event(), 0..40), stale in 0..6u32, seq in 1..4u64) {
        let mut run = Run::submitted(Time(1_000));
        for (n, (event, seq)) in events.into_iter().enumerate() {
            apply(&mut run, &said(n, event, seq));
        }
        prop_assume!(stale != run.attempt);
        let before = run.clone();
        for event in [
            Event::Claimed { attempt: stale },
            Event::Started { attempt: stale },
            Event::Exited { attempt: stale, exit: Exit::Code(0), why: None },
            Event::Finished { attempt: stale, failure: None },
            Event::Lost { attempt: stale, message: "late".into(), code: None },
        ] {
            let seq = matches!(event, Event::Started { .. } | Event::Exited { .. } | Event::Finished { .. }).then_some(seq);
            prop_assert_eq!(apply(&mut run, &stamp(99, event, seq)), vec![]);
        }
        prop_assert_eq!(before, run);
    }

    #[test]
    fn a_cancel_before_the_end_always_ends_canceled(
        before in prop::collection::vec(any_event(), 0..20),
        after in prop::collection::vec(any_event(), 0..60),
    ) {
        let mut run = Run::submitted(Time(1_000));
        for (n, (event, seq)) in before.into_iter().enumerate() {
            let mut next = run.clone();
            apply(&mut next, &said(n, event, seq));
            if !next.is_ended() { run = next }
        }
        apply(&mut run, &stamp(50, Event::CancelAsked, None));
        for (n, (event, seq)) in after.into_iter().enumerate() {
            apply(&mut run, &said(60 + n, event, seq));
            // Then nothing but the runner's silence is left to happen.
            if run.is_ended() { break }
        }
        while !run.is_ended() {
            let attempt = run.attempt;
            apply(&mut run, &stamp(200, Event::Lost { attempt, message: "gone".into(), code: None }, None));
        }
        prop_assert_eq!(run.phase(), Phase::Halted);
    }

    #[test]
    fn the_journal_alone_gives_the_run_back(events in prop::collection::vec(any_event(), 0..60)) {
        let mut journal = vec![stamp(0, Event::Submitted, None)];
        let mut run = Run::submitted(Time(1_000));
        for (n, (event, seq)) in events.into_iter().enumerate() {
            let stamped = stamp(n, event, seq);
            let before = run.clone();
            apply(&mut run, &stamped);
            // The store journals what changes something, and nothing else.
            if run != before { journal.push(stamped) }
        }
        let text = serde_json::to_string(&journal).unwrap();
        let read: Vec<Stamped> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(fold(&read), Some(run));
    }
}

#[test]
fn the_ordinary_life() {
    let mut run = Run::submitted(Time(0));
    let life = [
        (Event::Placed { attempt: 1, node: "n".into(), gpus: vec![] }, None, Phase::Pending),
        (Event::Claimed { attempt: 1 }, None, Phase::Downloading),
        (Event::Started { attempt: 1 }, Some(1), Phase::Processing),
        (Event::Exited { attempt: 1, exit: Exit::Code(0), why: None }, Some(2), Phase::Storing),
        (Event::Finished { attempt: 1, failure: None }, Some(3), Phase::Completed),
    ];
    for (n, (event, seq, phase)) in life.into_iter().enumerate() {
        apply(&mut run, &stamp(n, event, seq));
        assert_eq!(run.phase(), phase);
    }
    assert_eq!(run.transitions.len(), 6);
}

#[test]
fn a_runner_lost_before_the_program_started_is_tried_again_and_after_it_never() {
    let mut run = Run::submitted(Time(0));
    apply(&mut run, &stamp(1, Event::Placed { attempt: 1, node: "n".into(), gpus: vec![] }, None));
    let actions =
        apply(&mut run, &stamp(2, Event::Lost { attempt: 1, message: "gone".into(), code: None }, None));
    assert_eq!(actions, [Action::Release { attempt: 1 }, Action::Enqueue]);

    apply(&mut run, &stamp(3, Event::Placed { attempt: 2, node: "n".into(), gpus: vec![] }, None));
    apply(&mut run, &stamp(4, Event::Claimed { attempt: 2 }, None));
    apply(&mut run, &stamp(5, Event::Started { attempt: 2 }, Some(1)));
    let actions =
        apply(&mut run, &stamp(6, Event::Lost { attempt: 2, message: "gone".into(), code: None }, None));
    assert_eq!(actions, [Action::Release { attempt: 2 }, Action::Salvage { attempt: 3 }]);

    apply(&mut run, &stamp(7, Event::Claimed { attempt: 3 }, None));
    apply(&mut run, &stamp(8, Event::Finished { attempt: 3, failure: None }, Some(1)));
    let State::Ended(end) = &run.state else { panic!("{run:?}") };
    assert!(matches!(&end.outcome, Outcome::Failed(f) if f.code == "TY0407"), "{end:?}");
}

fn steps(events: impl IntoIterator<Item = (Event, Option<u64>)>) -> Run {
    let mut run = Run::submitted(Time(0));
    for (n, (event, seq)) in events.into_iter().enumerate() {
        apply(&mut run, &stamp(n, event, seq));
    }
    run
}

#[test]
fn a_canceled_run_has_no_error_where_all_that_it_wrote_is_stored_and_one_where_not() {
    let lost_runner = |code: Code| Failure { code: code.as_str().into(), ..failure() };
    let before = || {
        vec![
            (Event::Placed { attempt: 1, node: "n".into(), gpus: vec![] }, None),
            (Event::Claimed { attempt: 1 }, None),
            (Event::Started { attempt: 1 }, Some(1)),
            (Event::CancelAsked, None),
            (Event::Lost { attempt: 1, message: "gone".into(), code: None }, None),
        ]
    };
    for (reported, expected) in
        [(None, None), (Some(lost_runner(Code::StageOut)), Some(lost_runner(Code::StageOut)))]
    {
        let mut events = before();
        events.push((Event::Finished { attempt: 2, failure: reported }, Some(1)));
        assert_eq!(steps(events).failure(), expected.as_ref());
    }
    // A runner that took a new attempt's place says itself that the one before it was lost.
    let run = steps([
        (Event::Placed { attempt: 1, node: "n".into(), gpus: vec![] }, None),
        (Event::Claimed { attempt: 1 }, None),
        (Event::Lost { attempt: 1, message: "gone".into(), code: None }, None),
        (Event::Placed { attempt: 2, node: "n".into(), gpus: vec![] }, None),
        (Event::CancelAsked, None),
        (Event::Finished { attempt: 2, failure: Some(lost_runner(Code::RunnerLost)) }, Some(1)),
    ]);
    assert!(
        matches!(run.state, State::Ended(ref e) if e.outcome == Outcome::Canceled(None)),
        "{:?}",
        run.state
    );
}

fn on_slurm() -> Run {
    let mut run = Run::submitted(Time(0));
    apply(&mut run, &stamp(1, Event::Handed { attempt: 1, engine: EngineName::Slurm, learners: 1 }, None));
    assert_eq!(run.phase(), Phase::Queued);
    apply(&mut run, &stamp(2, Event::Placed { attempt: 1, node: "n1".into(), gpus: vec!["0".into()] }, None));
    assert_eq!((run.phase(), run.running_at), (Phase::Pending, Some(Time(1_002))));
    apply(&mut run, &stamp(3, Event::Claimed { attempt: 1 }, None));
    apply(&mut run, &stamp(4, Event::Started { attempt: 1 }, Some(1)));
    run
}

#[test]
fn a_job_that_its_engine_requeues_is_a_new_attempt_that_runs_the_program_again() {
    let mut run = on_slurm();
    // Twice, while the server was away.
    let actions =
        apply(&mut run, &stamp(5, Event::Requeued { job: 1, attempt: 3, message: "n1 failed".into() }, None));
    assert_eq!(actions, [Action::Release { attempt: 1 }, Action::Release { attempt: 2 }]);
    let active = run.active().unwrap();
    assert_eq!((run.attempt, active.job, active.folder, run.phase()), (3, 1, 1, Phase::Queued));
    assert!(apply(&mut run, &stamp(6, Event::Finished { attempt: 1, failure: None }, Some(2))).is_empty());
    apply(&mut run, &stamp(7, Event::Placed { attempt: 3, node: "n2".into(), gpus: vec![] }, None));
    assert_eq!(run.active().unwrap().folder, 3);
    apply(&mut run, &stamp(8, Event::Claimed { attempt: 3 }, None));
    for (n, event) in
        [Event::Started { attempt: 3 }, Event::Exited { attempt: 3, exit: Exit::Code(0), why: None }]
            .into_iter()
            .enumerate()
    {
        apply(&mut run, &stamp(9, event, Some(n as u64 + 1)));
    }
    apply(&mut run, &stamp(12, Event::Finished { attempt: 3, failure: None }, Some(3)));
    assert_eq!(run.phase(), Phase::Completed);
}

#[test]
fn a_runner_that_was_told_to_stop_waits_for_what_its_engine_says() {
    let told = |run: &mut Run| {
        let event = Event::Finished { attempt: 1, failure: Some(stopped()) };
        assert!(apply(run, &stamp(5, event, Some(2))).is_empty());
        assert_eq!(run.phase(), Phase::Storing);
    };
    let mut run = on_slurm();
    told(&mut run);
    apply(&mut run, &stamp(6, Event::Requeued { job: 1, attempt: 2, message: "preempted".into() }, None));
    assert_eq!((run.attempt, run.phase()), (2, Phase::Queued));

    let mut run = on_slurm();
    told(&mut run);
    let lost = Event::Lost { attempt: 1, message: "an administrator ended it".into(), code: None };
    apply(&mut run, &stamp(6, lost, None));
    assert_eq!(run.failure().unwrap().code, Code::NodeStopped.as_str());
    assert_eq!(run.failure().unwrap().message, "an administrator ended it");
}

#[test]
fn what_a_lost_job_left_is_stored_by_another_job() {
    let mut run = on_slurm();
    let code = Some(Code::OutOfMemory.as_str().to_owned());
    let actions =
        apply(&mut run, &stamp(5, Event::Lost { attempt: 1, message: "memory".into(), code }, None));
    assert_eq!(actions, [Action::Release { attempt: 1 }, Action::Submit { attempt: 2 }]);
    // That one's node fails as well.
    apply(&mut run, &stamp(6, Event::Requeued { job: 2, attempt: 3, message: "n2 failed".into() }, None));
    let active = run.active().unwrap();
    assert_eq!((active.job, active.folder), (2, 1), "it would look in another folder");
    apply(&mut run, &stamp(7, Event::Placed { attempt: 3, node: "n3".into(), gpus: vec![] }, None));
    apply(&mut run, &stamp(8, Event::Finished { attempt: 3, failure: None }, Some(1)));
    assert_eq!(run.failure().unwrap().code, Code::OutOfMemory.as_str());
}

#[test]
fn a_job_that_somebody_took_back_fails_and_what_it_wrote_before_is_stored() {
    let taken = |attempt| Event::PlaceFailed { attempt, message: "cancelled by root".into() };
    let mut run = Run::submitted(Time(0));
    apply(&mut run, &stamp(1, Event::Handed { attempt: 1, engine: EngineName::Slurm, learners: 1 }, None));
    apply(&mut run, &stamp(2, taken(1), None));
    assert_eq!(run.failure().unwrap().message, "cancelled by root");

    let mut run = on_slurm();
    apply(&mut run, &stamp(5, Event::Requeued { job: 1, attempt: 2, message: "n1 failed".into() }, None));
    let actions = apply(&mut run, &stamp(6, taken(2), None));
    assert_eq!(actions, [Action::Release { attempt: 2 }, Action::Submit { attempt: 3 }]);
    let active = run.active().unwrap();
    assert_eq!((active.purpose, active.folder, active.job), (Purpose::Salvage, 1, 3));
}

#[test]
fn a_job_that_vanished_before_its_runner_came_is_handed_in_again() {
    let mut run = Run::submitted(Time(0));
    apply(&mut run, &stamp(1, Event::Handed { attempt: 1, engine: EngineName::Slurm, learners: 1 }, None));
    let lost = |attempt| Event::Lost { attempt, message: "gone".into(), code: None };
    let actions = apply(&mut run, &stamp(2, lost(1), None));
    assert_eq!(actions, [Action::Release { attempt: 1 }, Action::Submit { attempt: 2 }]);
    assert_eq!(run.active().unwrap().folder, 1, "whether its program was started is looked up elsewhere");
    apply(&mut run, &stamp(3, lost(2), None));
    apply(&mut run, &stamp(4, lost(3), None));
    assert_eq!(run.phase(), Phase::Failed);
}

#[test]
fn a_job_that_another_took_the_place_of_begins_nothing() {
    let mut run = on_slurm();
    apply(&mut run, &stamp(5, Event::Lost { attempt: 1, message: "gone".into(), code: None }, None));
    let before = run.clone();
    let late = Event::Requeued { job: 1, attempt: 9, message: "job 1 is back".into() };
    assert!(apply(&mut run, &stamp(6, late, None)).is_empty());
    assert_eq!(before, run);
}

#[test]
fn a_cancel_outlives_a_requeue() {
    let mut run = on_slurm();
    assert_eq!(apply(&mut run, &stamp(5, Event::CancelAsked, None)), [Action::Stop { attempt: 1 }]);
    let again = Event::Requeued { job: 1, attempt: 2, message: "n1 failed".into() };
    assert_eq!(
        apply(&mut run, &stamp(6, again, None)),
        [Action::Release { attempt: 1 }, Action::Stop { attempt: 2 }]
    );
    let mut waiting = Run::submitted(Time(0));
    apply(
        &mut waiting,
        &stamp(1, Event::Handed { attempt: 1, engine: EngineName::Slurm, learners: 1 }, None),
    );
    apply(&mut waiting, &stamp(2, Event::CancelAsked, None));
    apply(
        &mut waiting,
        &stamp(3, Event::PlaceFailed { attempt: 1, message: "cancelled in Slurm".into() }, None),
    );
    assert_eq!((waiting.phase(), waiting.failure()), (Phase::Halted, None));
}

/// A run of three learners whose runners have all claimed their orders.
fn three() -> Run {
    let mut run = Run::submitted(Time(0));
    apply(&mut run, &stamp(1, Event::Handed { attempt: 1, engine: EngineName::Slurm, learners: 3 }, None));
    for learner in 1..=3 {
        let placed = Event::Placed { attempt: 1, node: "n[1-3]".into(), gpus: vec![learner.to_string()] };
        apply(&mut run, &Stamped { learner, ..stamp(2, placed, None) });
        apply(&mut run, &Stamped { learner, ..stamp(3, Event::Claimed { attempt: 1 }, None) });
    }
    run
}

fn reports(run: &mut Run, learner: u32, seq: u64, event: Event) -> Vec<Action> {
    apply(run, &Stamped { learner, ..stamp(10, event, Some(seq)) })
}

#[test]
fn learners_begin_together_and_complete_when_all_exit_with_0() {
    let mut run = three();
    for learner in 1..=3 {
        assert_eq!(run.active().unwrap().team(), None);
        let address = format!("10.0.0.{learner}");
        reports(&mut run, learner, 1, Event::Ready { attempt: 1, address, port: 7 });
    }
    let team = run.active().unwrap().team().unwrap();
    assert_eq!(team[2], ("10.0.0.3".to_owned(), 7));
    for learner in [2, 1, 3] {
        reports(&mut run, learner, 2, Event::Started { attempt: 1 });
        assert_eq!(run.phase(), Phase::Processing);
        reports(&mut run, learner, 3, Event::Exited { attempt: 1, exit: Exit::Code(0), why: None });
        assert!(!run.is_ended());
        assert_eq!(run.phase() == Phase::Storing, learner == 3);
        let actions = reports(&mut run, learner, 4, Event::Finished { attempt: 1, failure: None });
        assert_eq!(actions.contains(&Action::Announce), learner == 3);
    }
    assert_eq!(run.phase(), Phase::Completed);
}

#[test]
fn the_first_learner_that_fails_is_the_reason_and_ends_the_others() {
    let mut run = three();
    for learner in 1..=3 {
        reports(&mut run, learner, 1, Event::Started { attempt: 1 });
    }
    reports(&mut run, 2, 2, Event::Exited { attempt: 1, exit: Exit::Code(7), why: None });
    let active = run.active().unwrap();
    assert_eq!(active.ended_by(2), None);
    assert_eq!(active.ended_by(1).as_deref(), Some("learner 2 failed"));
    for (learner, signal) in [(1, 15), (3, 9)] {
        reports(&mut run, learner, 2, Event::Exited { attempt: 1, exit: Exit::Signal(signal), why: None });
        reports(&mut run, learner, 3, Event::Finished { attempt: 1, failure: None });
    }
    assert!(!run.is_ended(), "learner 2 still stores");
    reports(&mut run, 2, 3, Event::Finished { attempt: 1, failure: None });
    let failure = run.failure().unwrap();
    assert_eq!(failure.message, "learner 2: the program exited with status 7");
    assert_eq!((failure.exit_code, run.exit), (Some(7), Some(Exit::Code(7))));
}

#[test]
fn who_has_stored_is_left_alone_when_the_job_is_lost() {
    let mut run = three();
    reports(&mut run, 3, 1, Event::Started { attempt: 1 });
    reports(&mut run, 3, 2, Event::Exited { attempt: 1, exit: Exit::Code(3), why: None });
    reports(&mut run, 3, 3, Event::Finished { attempt: 1, failure: None });
    apply(&mut run, &stamp(20, Event::Lost { attempt: 1, message: "node".into(), code: None }, None));
    let active = run.active().unwrap();
    assert_eq!((active.purpose, run.attempt), (Purpose::Salvage, 2));
    assert_eq!(active.learners.iter().map(|l| l.over).collect::<Vec<_>>(), [false, false, true]);
    for learner in [1, 2] {
        let placed = Event::Placed { attempt: 2, node: "n".into(), gpus: vec![] };
        apply(&mut run, &Stamped { learner, ..stamp(21, placed, None) });
        reports(&mut run, learner, 1, Event::Finished { attempt: 2, failure: None });
    }
    assert_eq!(run.failure().unwrap().message, "learner 3: the program exited with status 3");
}

#[test]
fn a_runner_that_comes_anew_is_heard_from_its_first_word_on() {
    let mut run = three();
    reports(&mut run, 2, 1, Event::Started { attempt: 1 });
    let placed = Event::Placed { attempt: 1, node: "n".into(), gpus: vec![] };
    apply(&mut run, &Stamped { learner: 2, ..stamp(20, placed, None) });
    assert_eq!((run.reported_by(2), run.active().unwrap().learners[1].again), (0, true));
    let lost = Failure { code: Code::RunnerLost.as_str().into(), ..failure() };
    reports(&mut run, 2, 1, Event::Finished { attempt: 1, failure: Some(lost) });
    assert_eq!(run.active().unwrap().ender, Some(2));
}

#[test]
fn what_stops_all_learners_is_no_learners_failure_and_a_limit_that_one_says_is() {
    let exited = |code, why| Event::Exited { attempt: 1, exit: Exit::Code(code), why };
    let mut run = three();
    reports(&mut run, 2, 1, exited(143, Some(stopped())));
    assert_eq!(run.active().unwrap().ender, None);
    let limit = Failure { code: Code::TimeLimit.as_str().into(), ..failure() };
    reports(&mut run, 1, 1, exited(0, Some(limit)));
    assert_eq!(run.active().unwrap().ended_by(3).as_deref(), Some("learner 1 failed"));
}
