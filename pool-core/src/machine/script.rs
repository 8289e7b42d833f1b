//! Scripts: a row of facts and the exact orders that follow.

use super::*;

const NOW: Duration = Duration::from_millis(100);
/// How long a call takes that is not worth a word.
const TOOK: Duration = Duration::from_micros(10);
const LATER: Duration = Duration::from_secs(100);

fn config(max_workers: usize) -> Config {
    Config {
        max_workers,
        call_queue_bound: max_workers + EXTRA_QUEUED_CALLS,
        window_max: 64,
        max_tasks_per_child: None,
        on_worker_loss: OnWorkerLoss::Replace,
        restart_limit: RestartLimit::default(),
        start_deadline: Duration::from_secs(10),
        stop_grace: Duration::from_secs(5),
        cores: 2,
        certain_ends: true,
    }
}

fn w(id: u64) -> WorkerId {
    WorkerId(id)
}

/// A machine and the orders it has given since they were last looked at.
struct Script {
    machine: Machine,
    calls: Vec<WorkId>,
}

impl Script {
    fn new(config: Config) -> Self {
        Self { machine: Machine::new(config), calls: Vec::new() }
    }

    /// A pool of live workers without calls, at which calls have taken no time at all.
    fn quick(config: Config) -> Self {
        let mut script = Self::live(config, Some(128));
        for worker in &mut script.machine.workers {
            worker.pace = Some(Duration::from_micros(1));
            worker.progress = NOW / 2;
        }
        script.machine.config.cores = 8;
        script
    }

    /// A pool of live workers without calls. They are worth to be woken for one.
    fn live(config: Config, revocable: Option<usize>) -> Self {
        let mut script = Self::new(config);
        for id in 0..config.max_workers as u64 {
            script.submit();
            script.feed(Input::WorkerReady(w(id), revocable));
        }
        while let Some((worker, seq)) = script.first_sent() {
            script.finish(worker, seq);
        }
        script.calls.clear();
        script.machine.workers.iter_mut().for_each(|worker| worker.pace = Some(Duration::from_millis(1)));
        script
    }

    fn first_sent(&self) -> Option<(WorkerId, Seq)> {
        self.machine.workers.iter().find_map(|worker| Some((worker.id, worker.sent.front()?.seq)))
    }

    fn submit(&mut self) -> Vec<Output> {
        self.calls.extend(self.machine.submit(Limits::default(), NOW));
        self.orders()
    }

    fn feed(&mut self, input: Input) -> Vec<Output> {
        self.machine.handle(input, NOW);
        self.orders()
    }

    fn finish(&mut self, worker: WorkerId, seq: Seq) -> Vec<Output> {
        self.machine.result(worker, seq, TOOK);
        self.machine.refill(worker, NOW);
        self.orders()
    }

    fn orders(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.machine.poll()).filter(|order| *order != Output::Alarm).collect()
    }

    /// Link and process of a worker come to their end.
    fn die(&mut self, worker: WorkerId) -> Vec<Output> {
        let mut orders = self.feed(Input::LinkClosed(worker));
        orders.extend(self.feed(Input::Exited(worker)));
        orders
    }
}

#[test]
fn workers_start_several_at_a_time_once_one_works_and_until_something_runs_out() {
    let mut pool = Script::new(config(3));
    pool.submit();
    assert!(!pool.machine.may_start_many(), "nobody knows yet whether workers work");
    pool.feed(Input::WorkerReady(w(0), Some(8)));
    assert!(pool.machine.may_start_many());
    pool.submit();
    pool.feed(Input::SpawnFailed { worker: w(1), transient: true });
    assert!(!pool.machine.may_start_many(), "something ran out");
}

/// To wake a worker costs more than a few short calls.
#[test]
fn short_calls_go_to_one_worker_until_they_are_worth_waking_another() {
    let mut pool = Script::quick(config(2));
    let sent = |orders: Vec<Output>| match orders[..] {
        [Output::Send(worker, ..)] => worker,
        ref other => panic!("{other:?}"),
    };
    let first = sent(pool.submit());
    pool.machine.worker_mut(first).expect("it is there").proven = true;
    let others: Vec<_> = (1..60).map(|_| sent(pool.submit())).collect();
    let at_first = others.iter().take_while(|worker| **worker == first).count();
    assert!((40..55).contains(&at_first), "{at_first} of them, worth 50 us, are sent to the one that is awake");
    assert_ne!(others[at_first], first, "then the other is woken");
}

/// Nobody knows how long the first call takes of a worker that was idle.
#[test]
fn what_comes_after_a_call_that_may_be_long_goes_to_another() {
    let mut pool = Script::quick(config(2));
    let first = pool.submit();
    let second = pool.submit();
    let to = |orders: &[Output]| match orders {
        [Output::Send(worker, ..)] => *worker,
        other => panic!("{other:?}"),
    };
    assert_ne!(to(&first), to(&second));
}

/// More workers than cores are not done any sooner.
#[test]
fn short_calls_wake_no_more_workers_than_can_run() {
    for (cores, workers) in [(1, 1), (2, 1), (3, 2)] {
        let mut pool = Script::quick(Config { cores, window_max: 1000, ..config(4) });
        pool.machine.config.cores = cores;
        pool.machine.workers.iter_mut().for_each(|worker| worker.revocable = Some(512));
        (0..workers).for_each(|_| drop(pool.submit()));
        pool.machine.workers.iter_mut().for_each(|worker| worker.proven = true);
        (0..500).for_each(|_| drop(pool.submit()));
        let busy = pool.machine.workers.iter().filter(|worker| !worker.sent.is_empty()).count();
        assert_eq!(busy, workers, "one of {cores} cores hands calls over");
    }
}

/// Where as many workers have been woken as can run, none of which has had the time to answer, the next would have to
/// wait for a core as well.
#[test]
fn short_calls_wake_no_more_workers_than_can_run_before_one_has_answered() {
    let mut pool = Script::quick(config(64));
    pool.machine.config.cores = 2;
    (0..1000).for_each(|_| drop(pool.submit()));
    let busy = pool.machine.workers.iter().filter(|worker| !worker.sent.is_empty()).count();
    assert_eq!(busy, 2);
}

/// Calls that turn out to be long are all at work after a few looks, though their workers had short ones until then.
#[test]
fn long_calls_after_short_ones_are_soon_all_at_work() {
    let mut pool = Script::quick(config(64));
    pool.machine.config.cores = 2;
    (0..64).for_each(|_| drop(pool.submit()));
    let at_work = |pool: &Script| pool.machine.workers.iter().filter(|worker| !worker.sent.is_empty()).count();
    let mut looks = 0;
    while at_work(&pool) < 64 {
        let now = pool.machine.deadline().expect("somebody looks");
        pool.machine.handle(Input::TimePassed, now);
        looks += 1;
        while let Some(order) = pool.machine.poll() {
            let Output::Revoke(worker, seq) = order else { continue };
            let is_first = pool
                .machine
                .worker(worker)
                .and_then(|worker| worker.sent.front())
                .is_some_and(|first| first.seq == seq);
            let claim = if is_first { Claim::Started } else { Claim::Revoked };
            pool.machine.handle(Input::Answered(worker, seq, claim), now);
        }
    }
    assert!(looks <= 10, "{looks} times a millisecond");
}

/// A worker that has not even begun with its first call, whatever holds it up, is not the next to get it.
#[test]
fn a_call_that_a_worker_never_began_goes_to_another() {
    let mut pool = Script::quick(config(2));
    pool.submit();
    let (held_up, seq) = pool.first_sent().expect("it is sent");
    let look_at = NOW + Duration::from_millis(2);
    pool.machine.handle(Input::TimePassed, look_at);
    pool.machine.rescue(look_at);
    assert_eq!(pool.orders(), [Output::Revoke(held_up, seq)]);
    pool.machine.handle(Input::Answered(held_up, seq, Claim::Revoked), look_at);
    assert!(matches!(pool.orders()[..], [Output::Send(worker, ..)] if worker != held_up));
}

/// Behind an answer that is followed by the next call there is no pause.
#[test]
fn a_worker_that_gets_its_next_call_with_its_answer_is_still_at_short_calls() {
    let mut pool = Script::quick(config(1));
    pool.machine.config.cores = 1;
    pool.machine.workers[0].revocable = Some(1);
    pool.submit();
    pool.submit();
    assert!(!pool.machine.workers[0].proven);
    let (worker, seq) = pool.first_sent().expect("it is sent");
    let next = pool.finish(worker, seq);
    assert!(matches!(next[..], [Output::Send(..)]), "{next:?}");
    assert!(pool.machine.workers[0].proven);
}

/// When all have as much as they may get, calls only wait, however many come; and go on as soon as something happens.
#[test]
fn what_waits_for_busy_workers_goes_on_when_one_has_answered() {
    for (max_workers, revocable) in [(1, Some(8)), (3, Some(8)), (3, None)] {
        let mut pool = Script::live(config(max_workers), revocable);
        (0..200).for_each(|_| drop(pool.submit()));
        assert!(pool.machine.stuck);
        assert_eq!(pool.submit(), []);
        let mut answered = 0;
        while let Some((worker, seq)) = pool.first_sent() {
            pool.finish(worker, seq);
            answered += 1;
        }
        assert_eq!(answered, 201);
    }
}

/// A short call may turn out to be a long one: those behind it are not to wait for it while somebody is idle.
#[test]
fn what_waits_behind_a_short_call_that_takes_long_is_given_to_others_by_the_clock() {
    let mut pool = Script::quick(config(2));
    pool.submit();
    pool.machine.workers.iter_mut().for_each(|worker| worker.proven = true);
    pool.submit();
    let (busy, calls) = (w(1), pool.calls.clone());
    let look_at = pool.machine.deadline().expect("somebody looks");
    assert!(look_at <= NOW + Duration::from_millis(2), "{look_at:?}");
    pool.machine.handle(Input::TimePassed, look_at);
    assert_eq!(pool.orders(), [Output::Revoke(busy, Seq(2)), Output::Revoke(busy, Seq(1))]);
    pool.machine.handle(Input::Answered(busy, Seq(2), Claim::Revoked), look_at);
    assert_eq!(pool.orders(), [Output::Send(w(0), Seq(1), calls[1])]);
    pool.machine.handle(Input::Answered(busy, Seq(1), Claim::Started), look_at);
    pool.finish(w(0), Seq(1));
    pool.finish(busy, Seq(1));
    pool.machine.handle(Input::TimePassed, look_at * 2);
    assert_eq!(pool.machine.deadline(), None, "an idle pool sleeps");
}

/// A worker may be up, and at a call, before the call that starts it returns; and that may fail then, a fork server
/// having been killed, say.
#[test]
fn a_start_that_fails_after_its_worker_took_a_call_costs_that_call_only() {
    let mut pool = Script::new(config(1));
    pool.submit();
    pool.feed(Input::WorkerReady(w(0), Some(8)));
    pool.submit();
    let failed = Input::SpawnFailed { worker: w(0), transient: false };
    assert_eq!(pool.feed(failed), [Output::CloseLink(w(0))]);
    assert_eq!(pool.feed(Input::LinkClosed(w(0))), [Output::Revoke(w(0), Seq(0))]);
    let lost = Output::Settle(pool.calls[0], How::Lost(w(0)));
    let answer = Input::Answered(w(0), Seq(0), Claim::Started);
    assert_eq!(pool.feed(answer), [lost, Output::Forget(w(0)), Output::Spawn(w(1))]);
    assert_eq!(
        pool.feed(Input::WorkerReady(w(1), Some(8))),
        [Output::Send(w(1), Seq(0), pool.calls[1])],
        "the next one is done by another"
    );
}

/// Whoever shuts down a pool that has just begun would wait for a link that was never opened.
#[test]
fn a_start_that_is_called_off_is_the_end_of_its_worker() {
    let mut pool = Script::new(config(1));
    pool.submit();
    pool.feed(Input::ShutdownCalled { cancel_pending: true });
    let failed = Input::SpawnFailed { worker: w(0), transient: true };
    assert_eq!(pool.feed(failed), [Output::Forget(w(0)), Output::Close]);
}

#[test]
fn a_start_that_fails_after_its_worker_was_ready_leaves_no_idle_worker() {
    let mut pool = Script::live(config(1), Some(8));
    pool.feed(Input::SpawnFailed { worker: w(0), transient: true });
    pool.feed(Input::LinkClosed(w(0)));
    assert_eq!(pool.submit(), [Output::Spawn(w(1))]);
}

#[test]
fn workers_are_started_on_demand_and_those_that_are_starting_count() {
    let mut pool = Script::new(config(2));
    assert_eq!(pool.submit(), [Output::Spawn(w(0))]);
    assert_eq!(pool.submit(), [Output::Spawn(w(1))]);
    assert_eq!(pool.submit(), [], "no third worker");
}

#[test]
fn an_idle_worker_is_used_again_instead_of_starting_another() {
    let mut pool = Script::new(config(4));
    pool.submit();
    let seq = Seq(0);
    assert_eq!(pool.feed(Input::WorkerReady(w(0), Some(8))), [Output::Send(w(0), seq, pool.calls[0])]);
    assert_eq!(pool.finish(w(0), seq), []);
    pool.submit();
    assert_eq!(pool.machine.workers(), 1);
}

#[test]
fn beyond_reach_no_call_is_tied_to_a_busy_worker_while_another_could_be_started() {
    let mut pool = Script::new(config(2));
    pool.submit();
    pool.feed(Input::WorkerReady(w(0), None));
    pool.finish(w(0), Seq(0));
    pool.submit();
    assert_eq!(pool.submit(), [Output::Spawn(w(1))], "the call waits for it");
    assert_eq!(pool.feed(Input::WorkerReady(w(1), None)), [Output::Send(w(1), Seq(0), pool.calls[2])]);
    assert!(matches!(pool.submit()[..], [Output::Send(..)]), "there will be no third: one is sent ahead");
}

#[test]
fn a_dead_worker_costs_the_call_it_had_started_and_the_others_go_elsewhere() {
    let mut pool = Script::live(config(1), Some(8));
    pool.submit();
    pool.submit();
    let (first, second) = (pool.calls[0], pool.calls[1]);
    let seqs: Vec<_> = pool.machine.workers[0].sent.iter().map(|sent| sent.seq).collect();
    let orders = pool.feed(Input::LinkClosed(w(0)));
    assert_eq!(orders, [Output::Spawn(w(1)), Output::Signal(w(0), Signal::Kill)], "it is replaced at once");
    assert_eq!(
        pool.feed(Input::Exited(w(0))),
        [Output::Revoke(w(0), seqs[1]), Output::Revoke(w(0), seqs[0])],
        "its calls are looked into when link and process have ended"
    );
    assert_eq!(pool.feed(Input::Answered(w(0), seqs[1], Claim::Revoked)), []);
    assert_eq!(
        pool.feed(Input::Answered(w(0), seqs[0], Claim::Started)),
        [Output::Settle(first, How::Lost(w(0))), Output::Forget(w(0))]
    );
    assert_eq!(pool.feed(Input::WorkerReady(w(1), Some(8))), [Output::Send(w(1), Seq(0), second)]);
}

#[test]
fn where_nobody_can_tell_only_the_first_call_may_have_started() {
    let mut pool = Script::live(config(1), None);
    pool.submit();
    pool.submit();
    let seqs: Vec<_> = pool.machine.workers[0].sent.iter().map(|sent| sent.seq).collect();
    assert_eq!(seqs.len(), 2);
    pool.die(w(0));
    pool.feed(Input::Answered(w(0), seqs[1], Claim::Unknown));
    let orders = pool.feed(Input::Answered(w(0), seqs[0], Claim::Unknown));
    assert_eq!(orders[0], Output::Settle(pool.calls[0], How::Lost(w(0))));
    assert_eq!(pool.machine.place(pool.calls[1]), Some(Place::Pending));
}

#[test]
fn a_pool_that_breaks_while_a_dead_workers_calls_are_asked_for_comes_to_its_end() {
    let mut pool = Script::live(config(2), Some(8));
    pool.submit();
    pool.submit();
    pool.feed(Input::LinkClosed(w(0)));
    let seq = pool.machine.workers[0].sent[0].seq;
    let orders = pool.feed(Input::Exited(w(0)));
    assert!(orders.contains(&Output::Revoke(w(0), seq)), "{orders:?}");
    // Before the answer is there, another worker's end, or what it says, breaks the pool.
    let other = pool.machine.workers[1].id;
    let orders = pool.feed(Input::InitializerFailed(other));
    assert!(orders.contains(&Output::Forget(w(0))), "{orders:?}");
    pool.feed(Input::Answered(w(0), seq, Claim::Revoked));
    for worker in pool.machine.workers.iter().map(|worker| worker.id).collect::<Vec<_>>() {
        pool.feed(Input::LinkClosed(worker));
        pool.feed(Input::Exited(worker));
    }
    assert_eq!(pool.machine.phase(), Phase::Closed);
}

#[test]
fn without_certain_ends_no_call_beyond_reach_is_sent_ahead() {
    for (certain_ends, revocable, ahead) in
        [(true, None, 1), (false, None, 0), (true, Some(8), 1), (false, Some(8), 1)]
    {
        let mut pool = Script::live(Config { certain_ends, ..config(1) }, revocable);
        pool.submit();
        pool.submit();
        assert_eq!(pool.machine.workers[0].sent.len(), 1 + ahead, "{certain_ends} {revocable:?}");
    }
}

#[test]
fn where_nobody_can_tell_no_call_of_a_worker_that_was_given_up_is_sent_again() {
    let mut pool = Script::live(config(1), None);
    pool.submit();
    pool.submit();
    let seqs: Vec<_> = pool.machine.workers[0].sent.iter().map(|sent| sent.seq).collect();
    assert_eq!(seqs.len(), 2);
    // Its link expired, and no signal reaches it: its exit is never heard of.
    pool.feed(Input::LinkClosed(w(0)));
    pool.machine.handle(Input::TimePassed, NOW + GONE_WITHIN);
    pool.orders();
    for (seq, call) in seqs.into_iter().zip(pool.calls.clone()).rev() {
        let orders = pool.feed(Input::Answered(w(0), seq, Claim::Unknown));
        assert_eq!(orders[0], Output::Settle(call, How::Lost(w(0))));
    }
}

#[test]
fn a_call_that_was_sent_again_twice_is_lost_with_the_third_worker() {
    let mut pool = Script::new(config(1));
    pool.submit();
    for id in 0..2 {
        pool.feed(Input::WorkerReady(w(id), Some(8)));
        pool.die(w(id));
        pool.feed(Input::Answered(w(id), Seq(0), Claim::Revoked));
        assert_eq!(pool.machine.place(pool.calls[0]), Some(Place::Pending));
        pool.machine.handle(Input::TimePassed, LATER);
        pool.orders();
    }
    pool.feed(Input::WorkerReady(w(2), Some(8)));
    pool.die(w(2));
    let orders = pool.feed(Input::Answered(w(2), Seq(0), Claim::Revoked));
    assert_eq!(orders[0], Output::Settle(pool.calls[0], How::Lost(w(2))));
}

#[test]
fn breaking_settles_every_call_when_the_exit_is_known() {
    let mut pool = Script::live(Config { on_worker_loss: OnWorkerLoss::Break, ..config(2) }, Some(8));
    for _ in 0..3 {
        pool.submit();
    }
    pool.feed(Input::LinkClosed(w(0)));
    let orders = pool.feed(Input::Exited(w(0)));
    assert_eq!(orders[0], Output::Break(BreakCause::WorkerLost(w(0))));
    let settled = orders.iter().filter(|order| matches!(order, Output::Settle(_, How::Broken))).count();
    assert_eq!(settled, 3);
    assert!(orders.contains(&Output::Signal(w(1), Signal::Kill)));
    assert!(pool.machine.submit(Limits::default(), NOW).is_none());
    assert_eq!(pool.die(w(1)).last(), Some(&Output::Close));
}

#[test]
fn cancelling_a_sent_call_asks_its_link_and_one_beyond_reach_is_too_late() {
    for (revocable, expected) in [(Some(8), Cancel::Revoke(w(0), Seq(1))), (None, Cancel::TooLate)] {
        let mut pool = Script::live(config(1), revocable);
        pool.submit();
        assert_eq!(pool.machine.cancel(pool.calls[0], NOW), expected);
    }
}

#[test]
fn a_call_behind_a_busy_worker_moves_to_one_that_becomes_idle() {
    let mut pool = Script::live(config(2), Some(8));
    for _ in 0..4 {
        pool.submit();
    }
    let held: Vec<_> = pool.machine.workers.iter().map(|worker| worker.sent.len()).collect();
    assert_eq!(held, [2, 2]);
    let seqs: Vec<_> = pool.machine.workers[1].sent.iter().map(|sent| sent.seq).collect();
    pool.finish(w(1), seqs[0]);
    let orders = pool.finish(w(1), seqs[1]);
    let waiting = pool.machine.workers[0].sent[1];
    assert_eq!(orders, [Output::Revoke(w(0), waiting.seq)]);
    let orders = pool.feed(Input::Answered(w(0), waiting.seq, Claim::Revoked));
    assert!(matches!(orders[..], [Output::Send(id, _, call)] if id == w(1) && call == waiting.id));
}

#[test]
fn workers_that_come_to_nothing_break_the_pool_after_so_many() {
    let mut pool = Script::new(config(1));
    pool.submit();
    let mut broken = false;
    for id in 0..u64::from(RestartLimit::default().failures) {
        assert!(!broken, "not before");
        let orders = pool.die(w(id));
        broken = orders.contains(&Output::Break(BreakCause::TooManyFailures(w(id))));
        pool.machine.handle(Input::TimePassed, NOW + Duration::from_secs(2));
        pool.orders();
    }
    assert!(broken);
    assert_eq!(pool.machine.phase(), Phase::Closed);
}

#[test]
fn workers_that_come_to_nothing_beside_one_that_works_do_not_break_the_pool() {
    let mut pool = Script::new(config(2));
    pool.submit();
    pool.feed(Input::WorkerReady(w(0), None));
    pool.submit();
    let mut now = NOW;
    for id in 1..=3 * u64::from(RestartLimit::default().failures) {
        assert!(pool.machine.worker_mut(w(id)).is_some(), "it is tried again, the {id}th time");
        pool.die(w(id));
        now += Duration::from_secs(2);
        pool.machine.handle(Input::TimePassed, now);
        pool.orders();
    }
    assert_eq!(pool.machine.phase(), Phase::Running);
}

#[test]
fn what_runs_out_for_a_while_is_waited_for_until_the_start_deadline() {
    let mut pool = Script::new(config(1));
    let mut orders = pool.submit();
    for id in 0..40 {
        assert_eq!(orders, [Output::Spawn(w(id))]);
        assert_eq!(pool.feed(Input::SpawnFailed { worker: w(id), transient: true }), [Output::Forget(w(id))]);
        // The pause is over, the deadline is not.
        pool.machine.handle(Input::TimePassed, NOW + Duration::from_secs(2));
        orders = pool.orders();
    }
    pool.feed(Input::SpawnFailed { worker: w(40), transient: true });
    pool.machine.handle(Input::TimePassed, NOW + Duration::from_secs(10));
    assert_eq!(pool.orders()[0], Output::Break(BreakCause::NoWorkerInTime(Some(w(40)))));
}

#[test]
fn a_worker_leaves_after_its_last_allowed_call_and_is_replaced() {
    let mut pool = Script::new(Config { max_tasks_per_child: Some(2), ..config(1) });
    for _ in 0..3 {
        pool.submit();
    }
    assert_eq!(pool.feed(Input::WorkerReady(w(0), Some(8))).len(), 1, "its pace is not known yet");
    assert_eq!(pool.finish(w(0), Seq(0)).len(), 1, "one of the other two: it may run no more");
    assert_eq!(pool.finish(w(0), Seq(1)), [Output::Stop(w(0)), Output::Spawn(w(1))]);
}

/// What was taken back lies in its way all the same. Seen over TCP, where a worker asks for each: the calls that it got
/// behind those were taken back in turn, thousands of times.
#[test]
fn a_worker_gets_little_until_it_is_past_what_was_taken_back() {
    let mut pool = Script::live(config(1), Some(128));
    pool.machine.workers[0].window = 8;
    for _ in 0..9 {
        pool.submit();
    }
    let sent = |pool: &Script| pool.machine.workers[0].sent.iter().map(|sent| sent.seq).collect::<Vec<_>>();
    let first = sent(&pool);
    assert!(first.len() > 4, "{first:?}");
    pool.machine.workers[0].window = first.len();
    for seq in first.iter().rev() {
        pool.machine.ask_back(0, 1);
        // What comes back is sent again at once, as far as there is room.
        pool.feed(Input::Answered(w(0), *seq, Claim::Revoked));
    }
    let again = sent(&pool);
    assert_eq!(again.len(), 1, "of {first:?} it has again {again:?}");
    pool.finish(w(0), again[0]);
    assert!(sent(&pool).len() > 1, "it is past them");
}

#[test]
fn an_idle_pool_wants_to_be_told_nothing() {
    let pool = Script::live(config(2), Some(8));
    assert_eq!(pool.machine.deadline(), None);
}

#[test]
fn shutdown_finishes_what_was_submitted_and_lets_the_workers_go() {
    let mut pool = Script::live(config(1), Some(8));
    pool.submit();
    assert_eq!(pool.feed(Input::ShutdownCalled { cancel_pending: false }), []);
    assert!(pool.machine.submit(Limits::default(), NOW).is_none());
    let (worker, seq) = pool.first_sent().expect("the call is at the worker");
    assert_eq!(pool.finish(worker, seq), [Output::Stop(worker)]);
    assert_eq!(pool.feed(Input::WorkerLeft(worker)), []);
    assert_eq!(pool.die(worker), [Output::Forget(worker), Output::Close]);
}

#[test]
fn a_worker_that_does_not_leave_is_killed() {
    let mut pool = Script::live(config(1), Some(8));
    pool.feed(Input::ShutdownCalled { cancel_pending: false });
    pool.machine.handle(Input::TimePassed, LATER);
    assert_eq!(pool.orders(), [Output::Signal(w(0), Signal::Kill)]);
}

#[test]
fn forced_workers_take_what_they_run_with_them_and_the_rest_is_cancelled() {
    let mut pool = Script::live(config(1), Some(2));
    for _ in 0..3 {
        pool.submit();
    }
    let seqs: Vec<_> = pool.machine.workers[0].sent.iter().map(|sent| sent.seq).collect();
    let orders = pool.feed(Input::ForceCalled(Signal::Kill));
    assert!(orders.contains(&Output::Settle(pool.calls[2], How::Cancelled)), "it was in the queue: {orders:?}");
    assert!(orders.contains(&Output::Signal(w(0), Signal::Kill)));
    let orders = pool.feed(Input::Answered(w(0), seqs[1], Claim::Revoked));
    assert_eq!(orders, [Output::Settle(pool.calls[1], How::Cancelled)]);
    pool.feed(Input::Answered(w(0), seqs[0], Claim::Started));
    pool.die(w(0));
    let orders = pool.feed(Input::Answered(w(0), seqs[0], Claim::Started));
    assert_eq!(orders[0], Output::Settle(pool.calls[0], How::Lost(w(0))));
    assert_eq!(orders.last(), Some(&Output::Close));
}

/// A pool of one live worker, with so many calls there, the first with a limit of 10 ms.
fn limited(calls: usize, revocable: Option<usize>) -> Script {
    let mut pool = Script::live(Config { window_max: 64, ..config(1) }, revocable);
    let limits = Limits { run: Some(Duration::from_millis(10)), total: None };
    pool.calls.extend(pool.machine.submit(limits, NOW));
    (1..calls).for_each(|_| drop(pool.submit()));
    pool.orders();
    pool
}

/// Everything behind a call is taken back before its worker is killed for it.
#[test]
fn a_call_that_runs_for_too_long_costs_its_worker_and_no_other_call() {
    let mut pool = limited(3, Some(8));
    let (busy, late) = (w(0), NOW + Duration::from_millis(10));
    assert_eq!(pool.machine.deadline(), Some(late));
    pool.machine.handle(Input::TimePassed, late);
    assert_eq!(pool.orders(), [3, 2, 1].map(|seq| Output::Revoke(busy, Seq(seq))));
    pool.machine.handle(Input::Answered(busy, Seq(3), Claim::Revoked), late);
    pool.machine.handle(Input::Answered(busy, Seq(2), Claim::Revoked), late);
    assert_eq!(pool.orders(), [], "it gets nothing, and nothing is decided");
    pool.machine.handle(Input::Answered(busy, Seq(1), Claim::Started), late);
    let killed = [Output::Spawn(w(1)), Output::Signal(busy, Signal::Kill), Output::CloseLink(busy)];
    assert_eq!(pool.orders(), killed);
    pool.machine.handle(Input::LinkClosed(busy), late);
    pool.machine.handle(Input::Exited(busy), late);
    pool.orders();
    pool.machine.handle(Input::Answered(busy, Seq(1), Claim::Started), late);
    let doom = How::Doomed(Doom::OverTime(Duration::from_millis(10)), Some(busy));
    assert_eq!(pool.orders(), [Output::Settle(pool.calls[0], doom), Output::Forget(busy)]);
    pool.machine.handle(Input::WorkerReady(w(1), Some(8)), late);
    assert!(
        matches!(pool.orders()[..], [Output::Send(worker, _, call), ..] if worker == w(1) && call == pool.calls[1])
    );
    assert_eq!(pool.machine.failures, 0, "it was no worker that came to nothing");
}

/// A later call has started: so the one whose time is up is through, and its answer on its way.
#[test]
fn a_call_that_is_done_in_the_moment_its_time_is_up_costs_nothing() {
    let mut pool = limited(2, Some(8));
    let (busy, late) = (w(0), NOW + Duration::from_millis(10));
    pool.machine.handle(Input::TimePassed, late);
    pool.orders();
    pool.machine.handle(Input::Answered(busy, Seq(2), Claim::Started), late);
    pool.machine.handle(Input::Answered(busy, Seq(1), Claim::Started), late);
    assert_eq!(pool.orders(), []);
    assert_eq!(pool.finish(busy, Seq(1)), []);
    assert_eq!(pool.finish(busy, Seq(2)), []);
    assert!(matches!(pool.submit()[..], [Output::Send(worker, ..)] if worker == busy), "it is one like any other");
    assert_eq!(pool.machine.deadline(), None);
}

#[test]
fn the_time_of_a_call_begins_when_its_turn_comes() {
    let mut pool = Script::live(config(1), Some(8));
    pool.submit();
    let limits = Limits { run: Some(Duration::from_millis(10)), total: None };
    pool.calls.extend(pool.machine.submit(limits, NOW));
    pool.orders();
    let sent = pool.machine.workers[0].sent.iter().map(|sent| sent.seq).collect::<Vec<_>>();
    pool.machine.handle(Input::TimePassed, NOW * 2);
    let revoked = pool.orders();
    assert!(!revoked.iter().any(|order| matches!(order, Output::Signal(..))), "{revoked:?}");
    pool.machine.result(w(0), sent[0], TOOK);
    pool.machine.refill(w(0), NOW * 2);
    assert_eq!(pool.machine.next_doom(), Some(NOW * 2 + Duration::from_millis(10)));
}

/// A call that was not begun, whose worker was held up, say, has had none of its time.
#[test]
fn a_call_that_has_not_begun_when_its_time_is_up_is_sent_again() {
    let mut pool = limited(1, Some(8));
    let late = NOW + Duration::from_millis(10);
    pool.machine.handle(Input::TimePassed, late);
    assert_eq!(pool.orders(), [Output::Revoke(w(0), Seq(1))]);
    pool.machine.handle(Input::Answered(w(0), Seq(1), Claim::Revoked), late);
    assert_eq!(pool.orders(), [Output::Send(w(0), Seq(2), pool.calls[0])]);
    assert_eq!(pool.machine.deadline(), Some(late + Duration::from_millis(10)));
}

#[test]
fn a_call_that_expires_in_the_queue_ends_there() {
    let mut pool = Script::live(config(1), None);
    (0..2).for_each(|_| drop(pool.submit()));
    let limits = Limits { run: None, total: Some(Duration::from_millis(10)) };
    pool.calls.extend(pool.machine.submit(limits, NOW));
    pool.orders();
    let late = NOW + Duration::from_millis(10);
    assert_eq!(pool.machine.deadline(), Some(late));
    pool.machine.handle(Input::TimePassed, late);
    let how = How::Doomed(Doom::Expired(Duration::from_millis(10)), None);
    assert_eq!(pool.orders(), [Output::Settle(pool.calls[2], how)]);
    assert_eq!(pool.machine.deadline(), None);
}

/// Where nothing can be taken back the worker is killed at once, when it is the call's turn.
#[test]
fn a_call_that_is_killed_beyond_reach_ends_when_its_turn_comes() {
    let mut pool = Script::live(Config { window_max: 64, ..config(1) }, None);
    (0..3).for_each(|_| drop(pool.submit()));
    let sent: Vec<_> = pool.machine.workers[0].sent.iter().map(|sent| (sent.seq, sent.id)).collect();
    let [(first, _), (second, killed)] = sent[..] else { panic!("{sent:?}") };
    pool.machine.kill(killed, NOW);
    assert_eq!(pool.orders(), [], "another runs there");
    let orders = pool.finish(w(0), first);
    assert!(orders.contains(&Output::Signal(w(0), Signal::Kill)), "{orders:?}");
    pool.die(w(0));
    let orders = pool.feed(Input::Answered(w(0), second, Claim::Unknown));
    assert!(orders.contains(&Output::Settle(killed, How::Doomed(Doom::Killed, Some(w(0))))), "{orders:?}");
}
