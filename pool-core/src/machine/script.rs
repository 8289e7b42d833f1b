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
        idle_timeout: None,
        min_workers: 0,
        on_worker_loss: OnWorkerLoss::Replace,
        restart_limit: RestartLimit::default(),
        start_deadline: Duration::from_secs(10),
        stop_grace: Duration::from_secs(5),
        exit_grace: None,
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
        self.submit_as(Treatment::default())
    }

    fn submit_as(&mut self, treatment: Treatment) -> Vec<Output> {
        self.calls.extend(self.machine.submit(&treatment, NOW));
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
    assert_eq!(pool.orders(), [Output::Revoke(busy, Seq(1))], "has it begun at all?");
    pool.machine.handle(Input::Answered(busy, Seq(1), Claim::Started), look_at);
    assert_eq!(pool.orders(), [Output::Revoke(busy, Seq(2))], "is it still there?");
    pool.machine.handle(Input::Answered(busy, Seq(2), Claim::Revoked), look_at);
    assert_eq!(pool.orders(), [Output::Send(w(0), Seq(1), calls[1])]);
    pool.finish(w(0), Seq(1));
    pool.finish(busy, Seq(1));
    pool.machine.handle(Input::TimePassed, look_at * 2);
    assert_eq!(pool.machine.deadline(), None, "an idle pool sleeps");
}

/// Its answers are on their way: nobody has read them.
#[test]
fn a_worker_that_goes_on_with_short_calls_keeps_them() {
    let mut pool = Script::quick(config(2));
    pool.submit();
    pool.machine.workers.iter_mut().for_each(|worker| worker.proven = true);
    (0..2).for_each(|_| drop(pool.submit()));
    let (busy, late) = (w(1), NOW + Duration::from_millis(2));
    pool.machine.handle(Input::TimePassed, late);
    assert_eq!(pool.orders(), [Output::Revoke(busy, Seq(1))]);
    pool.machine.handle(Input::Answered(busy, Seq(1), Claim::Started), late);
    assert_eq!(pool.orders(), [Output::Revoke(busy, Seq(2))]);
    pool.machine.handle(Input::Answered(busy, Seq(2), Claim::Started), late);
    assert_eq!(pool.orders(), []);
    pool.calls.extend(pool.machine.submit(&Treatment::default(), late));
    assert!(matches!(pool.orders()[..], [Output::Send(worker, ..)] if worker == busy), "nobody is woken for it");
}

/// It waits for a core, like all others there; or somebody has stopped it, and all that is there goes elsewhere soon.
#[test]
fn from_a_worker_that_has_not_begun_calls_are_taken_by_and_by() {
    let mut pool = Script::quick(config(1));
    (0..20).for_each(|_| drop(pool.submit()));
    pool.machine.workers[0].window = 64;
    pool.machine.dispatch(NOW);
    pool.orders();
    let mut taken = Vec::new();
    for look in 1..5 {
        pool.machine.rescue(NOW + look * Duration::from_millis(2));
        let asked: Vec<_> = std::iter::from_fn(|| pool.machine.poll())
            .filter_map(|order| if let Output::Revoke(_, seq) = order { Some(seq) } else { None })
            .collect();
        taken.push(asked.len());
        for seq in asked {
            pool.machine.workers[0].give_back(seq);
        }
    }
    assert_eq!(taken, [1, 2, 4, 8]);
}

/// One more would have to share a core with them.
#[test]
fn of_workers_at_tiny_calls_no_more_get_others_than_can_run() {
    let mut pool = Script::quick(config(4));
    pool.machine.config.cores = 2;
    for worker in &mut pool.machine.workers {
        (worker.window, worker.proven, worker.progress) = (8, true, NOW);
    }
    pool.machine.idle.clear();
    // As after long calls: all are busy, and more is pending.
    for at in 0..4 {
        pool.machine.items.insert(0);
        let call = pool.machine.items.pop().expect("it was just put there");
        let seq = pool.machine.workers[at].push(call, false, NOW);
        pool.machine.items.get_mut(call).expect("it is not settled").place = Place::Sent(w(at as u64), seq);
    }
    for _ in 0..1000 {
        pool.machine.items.insert(0);
    }
    for at in (0..4).cycle().take(12) {
        for sent in pool.machine.workers[at].sent.clone() {
            pool.machine.result(w(at as u64), sent.seq, Duration::from_micros(1));
        }
        pool.machine.refill(w(at as u64), NOW);
    }
    assert!(pool.machine.items.pending() > 0);
    let busy = pool.machine.workers.iter().filter(|worker| !worker.sent.is_empty()).count();
    assert!(busy <= 3, "{busy}: one may be on its way out");
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
    pool.feed(Input::ShutdownCalled { cancel_pending: true, ladder: None });
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
    assert!(pool.machine.submit(&Treatment::default(), NOW).is_none());
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
fn a_worker_leaves_after_its_last_allowed_call_and_its_successor_is_there() {
    let mut pool = Script::new(Config { max_tasks_per_child: Some(2), ..config(1) });
    (0..3).for_each(|_| drop(pool.submit()));
    let first = Output::Send(w(0), Seq(0), pool.calls[0]);
    assert_eq!(pool.feed(Input::WorkerReady(w(0), Some(8))), [first], "its pace is not known yet");
    let last = Output::Send(w(0), Seq(1), pool.calls[1]);
    assert_eq!(pool.finish(w(0), Seq(0)), [last, Output::Spawn(w(1))], "it may run no more");
    assert_eq!(pool.feed(Input::WorkerReady(w(1), Some(8))), [], "there is no place for it yet");
    assert_eq!(pool.machine.workers(), 1);
    let next = Output::Send(w(1), Seq(0), pool.calls[2]);
    assert_eq!(pool.finish(w(0), Seq(1)), [Output::Stop(w(0)), next]);
}

#[test]
fn a_successor_that_is_not_ready_in_time_takes_the_place_all_the_same() {
    let mut pool = Script::new(Config { max_tasks_per_child: Some(1), ..config(1) });
    (0..2).for_each(|_| drop(pool.submit()));
    let ready = pool.feed(Input::WorkerReady(w(0), Some(8)));
    assert_eq!(ready, [Output::Send(w(0), Seq(0), pool.calls[0]), Output::Spawn(w(1))]);
    assert_eq!(pool.finish(w(0), Seq(0)), [Output::Stop(w(0))], "no third one is started");
    let next = Output::Send(w(1), Seq(0), pool.calls[1]);
    assert_eq!(pool.feed(Input::WorkerReady(w(1), Some(8))), [next, Output::Spawn(w(2))]);
}

/// As early as it takes to start one.
#[test]
fn successors_are_started_in_time() {
    let mut pool = Script::live(Config { max_tasks_per_child: Some(25), window_max: 1, ..config(2) }, Some(8));
    (0..20).for_each(|_| pool.machine.recycling.learn_start(Duration::from_millis(2)));
    pool.machine.workers.iter_mut().for_each(|worker| worker.allowance = Some(7));
    let mut started = Vec::new();
    for _ in 0..3 {
        started.push(pool.submit().iter().any(|order| matches!(order, Output::Spawn(_))));
        let (worker, seq) = pool.first_sent().expect("it is sent");
        // Each takes a millisecond.
        pool.machine.result(worker, seq, Duration::from_millis(1));
        pool.machine.refill(worker, NOW);
        pool.orders();
    }
    assert_eq!(started, [false, false, false], "{:?}", pool.machine.workers);
    pool.machine.workers.iter_mut().for_each(|worker| worker.allowance = Some(3));
    assert_eq!(pool.submit().len(), 2, "it is worth four milliseconds from now on");
}

/// A shutdown takes those along that have waited for nothing.
#[test]
fn a_shutdown_lets_successors_go() {
    let mut pool = Script::new(Config { max_tasks_per_child: Some(1), ..config(2) });
    (0..2).for_each(|_| drop(pool.submit()));
    for id in 0..2 {
        pool.feed(Input::WorkerReady(w(id), Some(8)));
    }
    pool.feed(Input::WorkerReady(w(2), Some(8)));
    pool.feed(Input::ShutdownCalled { cancel_pending: false, ladder: None });
    assert_eq!(pool.finish(w(0), Seq(0)), [Output::Stop(w(0))]);
    let orders = pool.finish(w(1), Seq(0));
    assert_eq!(orders, [Output::Stop(w(1)), Output::Stop(w(2)), Output::Signal(w(3), Signal::Kill)]);
    for id in 0..4 {
        pool.feed(Input::WorkerLeft(w(id)));
        pool.die(w(id));
    }
    assert_eq!(pool.machine.phase(), Phase::Closed);
}

/// It has run one call at least, and what waits behind is better off elsewhere.
#[test]
fn a_worker_that_has_grown_too_large_is_replaced() {
    let mut pool = Script::live(config(1), Some(8));
    (0..2).for_each(|_| drop(pool.submit()));
    let seqs: Vec<_> = pool.machine.workers[0].sent.iter().map(|sent| sent.seq).collect();
    let orders = pool.feed(Input::WorkerWorn(w(0)));
    assert_eq!(orders, [Output::Revoke(w(0), seqs[1]), Output::Revoke(w(0), seqs[0])]);
    assert_eq!(pool.feed(Input::Answered(w(0), seqs[1], Claim::Revoked)), [], "it gets nothing more");
    pool.feed(Input::Answered(w(0), seqs[0], Claim::Started));
    assert_eq!(pool.finish(w(0), seqs[0]), [Output::Stop(w(0)), Output::Spawn(w(1))]);
    assert_eq!(pool.feed(Input::WorkerReady(w(1), Some(8))), [Output::Send(w(1), Seq(0), pool.calls[1])]);
}

#[test]
fn workers_that_have_nothing_to_do_are_let_go_but_for_a_few() {
    let idle_timeout = Some(Duration::from_millis(50));
    let mut pool = Script::live(Config { idle_timeout, min_workers: 1, ..config(3) }, Some(8));
    let look = NOW + Duration::from_millis(50);
    assert_eq!(pool.machine.deadline(), Some(look));
    pool.machine.workers[1].progress = NOW + Duration::from_millis(20);
    assert_eq!(at(&mut pool, look), [Output::Stop(w(0)), Output::Stop(w(2))], "one has just been at a call");
    assert_eq!(pool.machine.workers(), 1);
    for id in [0, 2] {
        pool.feed(Input::WorkerLeft(w(id)));
        pool.die(w(id));
    }
    assert_eq!(pool.machine.deadline(), None, "whoever is to stay is not looked at");
    assert!(matches!(pool.submit()[..], [Output::Send(worker, ..)] if worker == w(1)));
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
    assert_eq!(pool.feed(Input::ShutdownCalled { cancel_pending: false, ladder: None }), []);
    assert!(pool.machine.submit(&Treatment::default(), NOW).is_none());
    let (worker, seq) = pool.first_sent().expect("the call is at the worker");
    assert_eq!(pool.finish(worker, seq), [Output::Stop(worker)]);
    assert_eq!(pool.feed(Input::WorkerLeft(worker)), []);
    let left = Output::Left(worker, Left::ByItself);
    assert_eq!(pool.die(worker), [left, Output::Forget(worker), Output::Close]);
}

#[test]
fn a_worker_that_does_not_leave_is_killed() {
    let mut pool = Script::live(config(1), Some(8));
    pool.feed(Input::ShutdownCalled { cancel_pending: false, ladder: None });
    pool.machine.handle(Input::TimePassed, LATER);
    assert_eq!(pool.orders(), [Output::Signal(w(0), Signal::Kill)]);
}

/// What it has to do after its goodbye has a time of its own.
#[test]
fn a_worker_whose_exit_hook_hangs_is_killed_when_that_ones_time_is_up() {
    let exit_grace = Duration::from_secs(60);
    let mut pool = Script::live(Config { exit_grace: Some(exit_grace), ..config(1) }, Some(8));
    pool.feed(Input::ShutdownCalled { cancel_pending: false, ladder: None });
    assert_eq!(pool.machine.deadline(), Some(NOW + config(1).stop_grace));
    pool.feed(Input::WorkerLeft(w(0)));
    assert_eq!(pool.machine.deadline(), Some(NOW + exit_grace));
    pool.machine.handle(Input::TimePassed, NOW + exit_grace);
    assert_eq!(pool.orders(), [Output::Signal(w(0), Signal::Kill)]);
    assert_eq!(pool.die(w(0)).last(), Some(&Output::Close));
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
    let how = How::Stopped(StopCause::Forced(Signal::Kill), w(0));
    assert_eq!(orders[0], Output::Settle(pool.calls[0], how));
    assert_eq!(orders.last(), Some(&Output::Close));
}

fn ladder(timeout_ms: u64, grace_ms: u64) -> Input {
    let [timeout, grace] = [timeout_ms, grace_ms].map(Duration::from_millis);
    Input::ShutdownCalled { cancel_pending: false, ladder: Some(Ladder { timeout, grace }) }
}

/// What the clock brings at `now`.
fn at(pool: &mut Script, now: Duration) -> Vec<Output> {
    assert_eq!(pool.machine.deadline(), Some(now));
    pool.machine.handle(Input::TimePassed, now);
    pool.orders()
}

#[test]
fn a_shutdown_climbs_from_finishing_to_terminating_to_killing() {
    let mut pool = Script::live(config(1), Some(2));
    (0..3).for_each(|_| drop(pool.submit()));
    let seqs: Vec<_> = pool.machine.workers[0].sent.iter().map(|sent| sent.seq).collect();
    assert_eq!(pool.feed(ladder(10, 20)), [], "it finishes");
    let (late, last) = (NOW + Duration::from_millis(10), NOW + Duration::from_millis(30));
    assert_eq!(
        at(&mut pool, late),
        [
            Output::Settle(pool.calls[2], How::Cancelled),
            Output::Revoke(w(0), seqs[1]),
            Output::Revoke(w(0), seqs[0]),
            Output::Stop(w(0)),
            Output::Signal(w(0), Signal::Terminate)
        ]
    );
    assert_eq!(
        pool.feed(Input::Answered(w(0), seqs[1], Claim::Revoked)),
        [Output::Settle(pool.calls[1], How::Cancelled)]
    );
    pool.feed(Input::Answered(w(0), seqs[0], Claim::Started));
    assert_eq!(at(&mut pool, last), [Output::Signal(w(0), Signal::Kill)]);
    pool.die(w(0));
    let how = How::Stopped(StopCause::OverTime(Duration::from_millis(10)), w(0));
    assert_eq!(
        pool.feed(Input::Answered(w(0), seqs[0], Claim::Started)),
        [
            Output::Settle(pool.calls[0], how),
            Output::Left(w(0), Left::Killed),
            Output::Forget(w(0)),
            Output::Close
        ]
    );
}

#[test]
fn of_several_ladders_each_rung_of_the_strictest_holds() {
    for order in [[(10, 100), (50, 20)], [(50, 20), (10, 100)]] {
        let mut pool = Script::live(config(1), Some(8));
        pool.submit();
        for (timeout, grace) in order {
            assert_eq!(pool.feed(ladder(timeout, grace)), []);
        }
        let orders = at(&mut pool, NOW + Duration::from_millis(10));
        assert!(orders.contains(&Output::Signal(w(0), Signal::Terminate)), "{orders:?}");
        let orders = at(&mut pool, NOW + Duration::from_millis(70));
        assert!(orders.contains(&Output::Signal(w(0), Signal::Kill)), "{orders:?}");
    }
}

#[test]
fn whoever_asks_for_a_quicker_end_later_gets_it() {
    let mut pool = Script::live(config(1), Some(8));
    pool.submit();
    pool.feed(Input::ShutdownCalled { cancel_pending: false, ladder: None });
    assert_eq!(pool.machine.deadline(), None, "it waits for ever");
    pool.feed(ladder(0, 1000));
    let asked = at(&mut pool, NOW + Duration::from_millis(1000));
    assert_eq!(asked, [Output::Signal(w(0), Signal::Kill)]);

    let mut pool = Script::live(config(1), Some(8));
    pool.submit();
    pool.feed(ladder(0, 1000));
    let again = pool.feed(ladder(5, 5));
    assert_eq!(again, [], "it was asked to end before");
    at(&mut pool, NOW + Duration::from_millis(5));
    assert_eq!(at(&mut pool, NOW + Duration::from_millis(10)), [Output::Signal(w(0), Signal::Kill)]);
}

#[test]
fn a_shutdown_that_is_done_in_time_terminates_nobody() {
    let mut pool = Script::live(config(1), Some(8));
    pool.submit();
    pool.feed(ladder(10, 20));
    let (worker, seq) = pool.first_sent().expect("the call is at the worker");
    assert_eq!(pool.finish(worker, seq), [Output::Stop(worker)]);
    pool.feed(Input::WorkerLeft(worker));
    pool.die(worker);
    assert_eq!(pool.machine.phase(), Phase::Closed);
}

/// A pool that breaks on its way down kills its workers, and the ladder has no part in it any more.
#[test]
fn a_pool_that_breaks_on_the_ladder_stays_broken() {
    let mut pool = Script::live(config(2), Some(8));
    pool.submit();
    pool.feed(ladder(10, 1000));
    let orders = pool.feed(Input::InitializerFailed(w(1)));
    assert!(orders.contains(&Output::Signal(w(0), Signal::Kill)), "{orders:?}");
    pool.machine.handle(Input::TimePassed, NOW + Duration::from_millis(10));
    assert_eq!((pool.orders(), pool.machine.phase()), (vec![], Phase::Broken));
}

#[test]
fn an_interruption_terminates_at_once_and_a_second_one_kills() {
    let mut pool = Script::live(config(1), Some(8));
    (0..2).for_each(|_| drop(pool.submit()));
    let orders = pool.feed(Input::Interrupted);
    assert!(orders.contains(&Output::Signal(w(0), Signal::Terminate)), "{orders:?}");
    assert!(pool.machine.submit(&Treatment::default(), NOW).is_none());
    assert_eq!(pool.feed(Input::Interrupted), [Output::Signal(w(0), Signal::Kill)]);
    let seq = pool.machine.workers[0].sent[0].seq;
    pool.feed(Input::Answered(w(0), Seq(seq.0 + 1), Claim::Revoked));
    pool.feed(Input::Answered(w(0), seq, Claim::Started));
    pool.die(w(0));
    let orders = pool.feed(Input::Answered(w(0), seq, Claim::Started));
    assert_eq!(orders[0], Output::Settle(pool.calls[0], How::Stopped(StopCause::Interrupted, w(0))));
}

/// A call may hear the signal, and come to an end of its own within the grace: it counts, and nothing is killed.
#[test]
fn a_call_that_ends_within_the_grace_has_its_result() {
    let mut pool = Script::live(config(1), Some(8));
    pool.submit();
    pool.feed(ladder(0, 20));
    let (worker, seq) = pool.first_sent().expect("the call is at the worker");
    assert!(pool.machine.result(worker, seq, TOOK).is_some());
    pool.machine.refill(worker, NOW);
    pool.feed(Input::WorkerLeft(worker));
    pool.die(worker);
    assert_eq!(pool.machine.phase(), Phase::Closed);
}

/// A pool of one live worker, with so many calls there, the first with a limit of 10 ms.
fn limited(calls: usize, revocable: Option<usize>) -> Script {
    let mut pool = Script::live(Config { window_max: 64, ..config(1) }, revocable);
    let limits = Limits { run: Some(Duration::from_millis(10)), ..Limits::default() };
    pool.submit_as(Treatment { limits, ..Treatment::default() });
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

/// It has until then to end by itself, and the first time that is set counts.
#[test]
fn a_call_that_is_called_off_is_killed_when_its_grace_is_over() {
    for revocable in [Some(8), None] {
        let mut pool = Script::live(config(1), revocable);
        pool.submit();
        let (call, seq) = (pool.calls[0], Seq(1));
        let step = pool.machine.call_off(call, Some(Duration::from_millis(10)), NOW);
        assert_eq!(step, revocable.map_or(Cancel::TooLate, |_| Cancel::Revoke(w(0), seq)));
        if revocable.is_some() {
            pool.feed(Input::Answered(w(0), seq, Claim::Started));
        }
        pool.machine.call_off(call, Some(Duration::from_millis(20)), NOW);
        pool.machine.call_off(call, None, NOW);
        let late = NOW + Duration::from_millis(10);
        assert_eq!(pool.machine.deadline(), Some(late));
        pool.machine.handle(Input::TimePassed, late);
        assert!(pool.orders().contains(&Output::Signal(w(0), Signal::Kill)), "{revocable:?}");
        pool.die(w(0));
        let orders = pool.feed(Input::Answered(w(0), seq, Claim::Started));
        assert_eq!(orders[0], Output::Settle(call, How::Doomed(Doom::Killed, Some(w(0)))));
    }
}

#[test]
fn a_call_that_ends_within_its_grace_costs_nothing() {
    let mut pool = Script::live(config(1), Some(8));
    pool.submit();
    pool.machine.call_off(pool.calls[0], Some(Duration::from_millis(10)), NOW);
    pool.feed(Input::Answered(w(0), Seq(1), Claim::Started));
    assert_eq!(pool.finish(w(0), Seq(1)), []);
    assert_eq!(pool.machine.deadline(), None);
}

/// Wherever it comes back from.
#[test]
fn a_call_that_was_called_off_is_not_sent_again() {
    let mut pool = Script::live(config(2), None);
    (0..3).for_each(|_| drop(pool.submit()));
    let busy = pool.machine.workers.iter().find(|worker| worker.sent.len() == 2).expect("one is sent ahead");
    let (worker, sent) = (busy.id, [0, 1].map(|at| (busy.sent[at].seq, busy.sent[at].id)));
    assert_eq!(pool.machine.call_off(sent[1].1, None, NOW), Cancel::TooLate);
    pool.die(worker);
    // The last is asked for first.
    let orders = pool.feed(Input::Answered(worker, sent[1].0, Claim::Unknown));
    assert!(orders.contains(&Output::Settle(sent[1].1, How::Cancelled)), "{orders:?}");
}

/// Whatever its policy says.
#[test]
fn a_call_that_was_called_off_is_not_made_again() {
    let mut pool = Script::live(config(1), Some(8));
    pool.submit();
    let (call, seq) = (pool.calls[0], Seq(1));
    let attempts = Attempts {
        again: 5,
        losses_max: 5,
        over_time: true,
        pause_min: Duration::ZERO,
        pause_max: Duration::ZERO,
    };
    pool.machine.may_repeat(call, attempts);
    pool.machine.call_off(call, None, NOW);
    pool.feed(Input::Answered(w(0), seq, Claim::Started));
    assert!(!pool.machine.repeat(w(0), seq, TOOK, NOW), "what it returns then is its result");
    pool.die(w(0));
    let orders = pool.feed(Input::Answered(w(0), seq, Claim::Started));
    assert_eq!(orders[0], Output::Settle(call, How::Lost(w(0))));
}

#[test]
fn a_call_is_told_the_earliest_of_its_limits() {
    let ms = |ms| Some(Duration::from_millis(ms));
    for (soft, run, total, expected) in [
        (None, None, None, None),
        (ms(3), None, None, ms(3)),
        (ms(3), ms(2), None, ms(2)),
        (ms(30), ms(20), ms(10), ms(6)),
        (None, None, ms(1), ms(0)),
    ] {
        let mut pool = Script::live(config(1), Some(8));
        let id = pool
            .machine
            .submit(&Treatment { limits: Limits { run, total, soft }, ..Treatment::default() }, NOW)
            .expect("accepted");
        assert_eq!(pool.machine.time_of(id, NOW + Duration::from_millis(4)), expected);
        assert_eq!(pool.machine.next_doom().is_some(), run.is_some() || total.is_some());
    }
}

#[test]
fn the_time_of_a_call_begins_when_its_turn_comes() {
    let mut pool = Script::live(config(1), Some(8));
    pool.submit();
    let limits = Limits { run: Some(Duration::from_millis(10)), ..Limits::default() };
    pool.submit_as(Treatment { limits, ..Treatment::default() });
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
    let limits = Limits { total: Some(Duration::from_millis(10)), ..Limits::default() };
    pool.submit_as(Treatment { limits, ..Treatment::default() });
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

/// A pool of one live worker that has a call which may be made again so often, its first rest 10 ms long.
fn repeatable(again: u32) -> (Script, Attempts) {
    let mut pool = Script::live(config(1), Some(8));
    let rest = Duration::from_millis(10);
    let attempts = Attempts { again, losses_max: 3, over_time: false, pause_min: rest, pause_max: rest * 4 };
    pool.calls.extend(pool.machine.submit(&Treatment::default(), NOW));
    pool.machine.may_repeat(pool.calls[0], attempts);
    pool.orders();
    (pool, attempts)
}

/// Ends the worker of a pool, at the call that it has.
fn lose_worker(pool: &mut Script, now: Duration) -> Vec<Output> {
    let (worker, seq) = pool.first_sent().expect("it has a call");
    pool.machine.handle(Input::LinkClosed(worker), now);
    pool.machine.handle(Input::Exited(worker), now);
    pool.orders();
    pool.machine.handle(Input::Answered(worker, seq, Claim::Started), now);
    pool.orders()
}

/// Has the worker that was ordered last come up.
fn come_up(pool: &mut Script, now: Duration) -> Vec<Output> {
    let worker = pool.machine.workers.last().expect("one was ordered").id;
    pool.machine.handle(Input::WorkerReady(worker, Some(8)), now);
    pool.orders()
}

#[test]
fn a_lost_call_rests_and_is_made_again_until_it_has_cost_too_many_workers() {
    let (mut pool, attempts) = repeatable(9);
    let mut now = NOW;
    for rest in [attempts.pause_min, attempts.pause_min * 2] {
        let orders = lose_worker(&mut pool, now);
        assert!(!orders.iter().any(|order| matches!(order, Output::Settle(..))), "{orders:?}");
        assert_eq!(pool.machine.place(pool.calls[0]), Some(Place::Resting));
        assert_eq!(come_up(&mut pool, now), [], "it rests");
        assert_eq!(pool.machine.deadline(), Some(now + rest));
        now += rest;
        pool.machine.handle(Input::TimePassed, now);
        assert!(matches!(pool.orders()[..], [Output::Send(_, _, call)] if call == pool.calls[0]));
    }
    let last = pool.machine.workers[0].id;
    let orders = lose_worker(&mut pool, now);
    assert!(orders.contains(&Output::Settle(pool.calls[0], How::LostAgain(last, 3))), "{orders:?}");
}

#[test]
fn a_call_whose_answer_will_not_do_is_made_again_as_often_as_it_may() {
    let (mut pool, attempts) = repeatable(1);
    let (worker, seq) = pool.first_sent().expect("it has the call");
    assert_eq!(pool.machine.asked(worker, seq), Some(pool.calls[0]));
    assert!(pool.machine.repeat(worker, seq, TOOK, NOW));
    pool.machine.refill(worker, NOW);
    assert_eq!(pool.orders(), []);
    let later = NOW + attempts.pause_min;
    pool.machine.handle(Input::TimePassed, later);
    let again = pool.first_sent().expect("it has rested");
    assert!(!pool.machine.repeat(again.0, again.1, TOOK, later), "that was its last");
    assert_eq!(pool.machine.result(again.0, again.1, TOOK), Some(pool.calls[0]));
    assert!(pool.machine.bounds.is_empty());
}

#[test]
fn a_call_that_rests_can_be_cancelled_killed_and_waited_for() {
    for end in 0..4 {
        let (mut pool, attempts) = repeatable(2);
        let (worker, seq) = pool.first_sent().expect("it has the call");
        assert!(pool.machine.repeat(worker, seq, TOOK, NOW));
        pool.machine.refill(worker, NOW);
        pool.orders();
        let call = pool.calls[0];
        match end {
            0 => assert_eq!(pool.machine.cancel(call, NOW), Cancel::Cancelled),
            1 => pool.machine.kill(call, NOW),
            2 => pool.machine.handle(Input::ShutdownCalled { cancel_pending: true, ladder: None }, NOW),
            _ => {
                pool.machine.handle(Input::ShutdownCalled { cancel_pending: false, ladder: None }, NOW);
                assert_eq!(pool.orders(), [], "it is waited for");
                pool.machine.handle(Input::TimePassed, NOW + attempts.pause_min);
                assert!(matches!(pool.orders()[..], [Output::Send(_, _, again)] if again == call));
                continue;
            }
        }
        assert_eq!(pool.orders()[0], Output::Settle(call, How::Cancelled));
        assert_eq!(pool.machine.next_doom(), None);
    }
}

/// More or fewer workers, with the default bound of the call queue.
fn resized(max_workers: usize) -> Input {
    Input::Resized { max_workers, call_queue_bound: max_workers + EXTRA_QUEUED_CALLS }
}

#[test]
fn a_pool_that_grows_starts_workers_for_the_calls_that_wait() {
    let mut pool = Script::live(config(1), None);
    (0..3).for_each(|_| drop(pool.submit()));
    assert_eq!(pool.feed(resized(8)), [w(1), w(2)].map(Output::Spawn), "more are not wanted");
}

#[test]
fn a_pool_that_shrinks_lets_idle_workers_go_first_and_busy_ones_after_their_call() {
    let mut pool = Script::live(config(4), Some(8));
    for _ in 0..4 {
        pool.submit();
    }
    let idle: Vec<_> = pool.machine.workers.iter().map(|worker| (worker.id, worker.sent[0].seq)).collect();
    pool.finish(idle[1].0, idle[1].1);
    pool.finish(idle[3].0, idle[3].1);
    assert_eq!(pool.feed(resized(1)), [w(1), w(3)].map(Output::Stop));
    assert_eq!(pool.machine.workers(), 2, "two are at a call");
    assert_eq!(pool.submit(), [Output::Send(w(2), Seq(2), pool.calls[4])], "the other gets no more");
    assert_eq!(pool.finish(idle[0].0, idle[0].1), [Output::Stop(w(0))]);
    assert_eq!(pool.finish(idle[2].0, idle[2].1), []);
    assert_eq!(pool.finish(w(2), Seq(2)), []);
    assert_eq!(pool.machine.workers(), 1);
}

#[test]
fn what_waits_at_a_worker_that_is_one_too_many_is_taken_back() {
    let mut pool = Script::live(config(2), Some(8));
    for _ in 0..4 {
        pool.submit();
    }
    let waiting = pool.machine.workers[0].sent[1];
    assert_eq!(pool.feed(resized(1)), [Output::Revoke(w(0), waiting.seq)]);
    let orders = pool.feed(Input::Answered(w(0), waiting.seq, Claim::Revoked));
    assert!(matches!(orders[..], [Output::Send(worker, _, call)] if worker == w(1) && call == waiting.id));
    assert_eq!(pool.feed(resized(2)), [], "it may stay after all");
    let (worker, seq) = pool.first_sent().expect("its call");
    assert!(!pool.finish(worker, seq).contains(&Output::Stop(worker)));
}

/// It was no failure: nobody waits before the next start.
#[test]
fn a_start_that_is_called_off_since_the_pool_shrinks_is_no_failure() {
    let mut pool = Script::new(config(2));
    (0..2).for_each(|_| drop(pool.submit()));
    pool.feed(Input::WorkerReady(w(0), Some(8)));
    assert_eq!(pool.feed(resized(1)), [Output::Signal(w(1), Signal::Kill)]);
    assert_eq!(pool.feed(Input::SpawnFailed { worker: w(1), transient: true }), [Output::Forget(w(1))]);
    assert_eq!(pool.feed(resized(2)), [Output::Spawn(w(2))]);
    assert!(pool.machine.may_start_many());
}

/// A call of a priority.
fn urgent(priority: i32) -> Treatment {
    Treatment { priority, ..Treatment::default() }
}

/// The calls in the order in which they are sent, one after the other, to the only worker.
fn sent_in_turn(pool: &mut Script) -> Vec<usize> {
    let mut sent = Vec::new();
    while let Some((worker, seq)) = pool.first_sent() {
        let first = pool.machine.workers[0].sent[0].id;
        sent.extend(pool.calls.iter().position(|call| *call == first));
        pool.finish(worker, seq);
    }
    sent
}

#[test]
fn calls_of_a_higher_priority_go_first_and_each_priority_keeps_its_order() {
    for revocable in [Some(8), None] {
        let mut pool = Script::live(config(1), revocable);
        for priority in [0, -1, 3, 0, 7, 3, -1, 0, 7] {
            pool.submit_as(urgent(priority));
        }
        pool.machine.workers[0].revocable = revocable;
        assert_eq!(sent_in_turn(&mut pool), [0, 4, 8, 2, 5, 3, 7, 1, 6], "{revocable:?}");
        assert!(pool.machine.items.is_plain());
    }
}

/// A window of calls that take long would be a long wait for what is more urgent.
#[test]
fn what_waits_behind_a_long_call_is_taken_back_when_a_more_urgent_one_comes() {
    let mut pool = Script::live(config(1), Some(8));
    (0..4).for_each(|_| drop(pool.submit()));
    let seqs: Vec<_> = pool.machine.workers[0].sent.iter().map(|sent| sent.seq).collect();
    assert_eq!(seqs.len(), 4);
    let orders = pool.submit_as(urgent(1));
    assert_eq!(orders, [seqs[3], seqs[2], seqs[1]].map(|seq| Output::Revoke(w(0), seq)));
    for seq in [seqs[3], seqs[2], seqs[1]] {
        assert_eq!(pool.feed(Input::Answered(w(0), seq, Claim::Revoked)), [], "nothing is sent ahead");
    }
    assert_eq!(pool.submit_as(urgent(1)), [], "nor taken back");
    assert_eq!(sent_in_turn(&mut pool), [0, 4, 5, 1, 2, 3]);
}

/// They are worth a millisecond. If one of them is not, the clock tells.
#[test]
fn what_waits_behind_short_calls_is_taken_back_only_if_one_takes_long_after_all() {
    let mut pool = Script::quick(config(1));
    (0..20).for_each(|_| drop(pool.submit()));
    let orders = pool.submit_as(urgent(1));
    assert!(!orders.iter().any(|order| matches!(order, Output::Revoke(..))), "{orders:?}");
    let look_at = pool.machine.deadline().expect("somebody looks, though nobody is idle");
    pool.machine.handle(Input::TimePassed, look_at);
    let first = pool.machine.workers[0].sent[0].seq;
    let mut back = 0;
    while let Some(order) = pool.machine.poll() {
        let Output::Revoke(worker, seq) = order else { continue };
        let claim = if seq == first { Claim::Started } else { Claim::Revoked };
        back += usize::from(claim == Claim::Revoked);
        pool.machine.handle(Input::Answered(worker, seq, claim), look_at);
    }
    assert_eq!((pool.machine.workers[0].sent.len(), back >= 19), (1, true), "{back}");
}

/// A call of a key.
fn sticky(key: u64) -> Treatment {
    Treatment { key: Some(key), ..Treatment::default() }
}

/// Whom one call was sent to.
fn home(orders: &[Output]) -> WorkerId {
    match orders {
        [Output::Send(worker, ..)] => *worker,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_key_has_a_worker_of_its_own_as_long_as_there_are_any() {
    for revocable in [Some(8), None] {
        let mut pool = Script::live(config(3), revocable);
        let mut homes = Vec::new();
        for key in 0..6 {
            homes.push(home(&pool.submit_as(sticky(key))));
            let (worker, seq) = pool.first_sent().expect("it is sent");
            pool.finish(worker, seq);
        }
        let mut first = homes[..3].to_vec();
        first.sort();
        assert_eq!(first, [w(0), w(1), w(2)]);
        for key in (0..6).rev() {
            assert_eq!(home(&pool.submit_as(sticky(key))), homes[key as usize]);
            let (worker, seq) = pool.first_sent().expect("it is sent");
            pool.finish(worker, seq);
        }
    }
}

#[test]
fn a_new_key_gets_a_new_worker_if_there_may_be_one_more() {
    let mut pool = Script::new(config(2));
    assert_eq!(pool.submit_as(sticky(1)), [Output::Spawn(w(0))]);
    pool.feed(Input::WorkerReady(w(0), Some(8)));
    pool.finish(w(0), Seq(0));
    assert_eq!(pool.submit_as(sticky(2)), [Output::Spawn(w(1))], "though one is idle");
    assert_eq!(home(&pool.submit()), w(0), "anybody's call does not wait for it");
    assert_eq!(home(&pool.feed(Input::WorkerReady(w(1), Some(8)))), w(1));
    pool.finish(w(0), Seq(1));
    assert_eq!(home(&pool.submit_as(sticky(3))), w(0), "there may be no more");
}

#[test]
fn a_key_does_not_wait_for_a_worker_that_cannot_be_started() {
    let mut pool = Script::new(config(2));
    pool.submit_as(sticky(1));
    pool.feed(Input::WorkerReady(w(0), Some(8)));
    pool.finish(w(0), Seq(0));
    pool.submit_as(sticky(2));
    let orders = pool.feed(Input::SpawnFailed { worker: w(1), transient: true });
    assert_eq!(orders, [Output::Forget(w(1)), Output::Send(w(0), Seq(1), pool.calls[1])]);
}

#[test]
fn calls_of_one_key_want_one_worker() {
    let mut pool = Script::new(config(4));
    let orders: Vec<_> = (0..10).flat_map(|_| pool.submit_as(sticky(1))).collect();
    assert_eq!(orders, [Output::Spawn(w(0))]);
    assert_eq!(pool.submit(), [Output::Spawn(w(1))]);
}

/// Others may be free; what is for anybody goes to them.
#[test]
fn what_is_for_one_worker_waits_for_it_and_nobody_takes_it() {
    let mut pool = Script::live(config(2), Some(8));
    let busy = home(&pool.submit_as(sticky(1)));
    (0..3).for_each(|_| drop(pool.submit_as(sticky(1))));
    let other = home(&pool.submit());
    assert_ne!(other, busy);
    let seq = pool.machine.worker(other).expect("it is there").sent[0].seq;
    assert_eq!(pool.finish(other, seq), [], "it is idle, and takes nothing back from the other");
    pool.machine.handle(Input::TimePassed, NOW * 5);
    pool.machine.rescue(NOW * 5);
    assert_eq!(pool.orders(), []);
    let mut done = 0;
    while let Some((worker, seq)) = pool.first_sent() {
        assert_eq!(worker, busy);
        pool.finish(worker, seq);
        done += 1;
    }
    assert_eq!(done, 4);
}

#[test]
fn what_is_for_a_worker_that_dies_goes_to_another_in_the_same_order() {
    let mut pool = Script::live(config(2), Some(4));
    let (first, lost) = (home(&pool.submit_as(sticky(1))), pool.calls[0]);
    (0..8).for_each(|_| drop(pool.submit_as(sticky(1))));
    let sent: Vec<_> = pool.machine.worker(first).expect("it is there").sent.iter().copied().collect();
    assert!(sent.len() > 1 && sent.len() < 9, "some are sent, some are kept: {sent:?}");
    pool.die(first);
    for sent in sent.iter().skip(1).rev() {
        assert_eq!(pool.feed(Input::Answered(first, sent.seq, Claim::Revoked)), [], "not before all are back");
    }
    let orders = pool.feed(Input::Answered(first, sent[0].seq, Claim::Started));
    assert_eq!(orders[0], Output::Settle(lost, How::Lost(first)));
    let mut ran = Vec::new();
    while let Some((worker, seq)) = pool.first_sent() {
        assert_ne!(worker, first);
        let worker_of = pool.machine.worker(worker).expect("it is there");
        ran.push(worker_of.sent[0].id);
        pool.finish(worker, seq);
    }
    assert_eq!(ran, pool.calls[1..]);
}

#[test]
fn an_urgent_call_waits_for_the_older_ones_of_its_key() {
    let mut pool = Script::live(config(1), Some(8));
    for (key, priority) in [(None, 0), (Some(1), 0), (None, 1), (Some(1), 5), (Some(2), 5), (Some(1), 9)] {
        pool.submit_as(Treatment { key, priority, ..Treatment::default() });
        while let Some(Output::Revoke(worker, seq)) = pool.machine.poll() {
            pool.feed(Input::Answered(worker, seq, Claim::Revoked));
        }
    }
    let waiting = pool.machine.workers[0].sent.iter().skip(1).map(|sent| sent.seq).collect::<Vec<_>>();
    for seq in waiting.into_iter().rev() {
        pool.feed(Input::Answered(w(0), seq, Claim::Revoked));
    }
    assert_eq!(sent_in_turn(&mut pool), [0, 4, 2, 1, 3, 5]);
}

#[test]
fn keys_without_calls_are_remembered_up_to_a_bound() {
    let mut pool = Script::live(config(2), Some(8));
    let mut first = Vec::new();
    for key in 0..70_000 {
        let orders = pool.submit_as(sticky(key));
        first.push(home(&orders));
        let (worker, seq) = pool.first_sent().expect("it is sent");
        pool.finish(worker, seq);
    }
    assert_eq!(pool.machine.ties.keys(w(0)) + pool.machine.ties.keys(w(1)), 1 << 16);
    for key in [69_999, 30_000] {
        assert_eq!(home(&pool.submit_as(sticky(key))), first[key as usize]);
        let (worker, seq) = pool.first_sent().expect("it is sent");
        pool.finish(worker, seq);
    }
}

/// That the time of one attempt is up is not the end of the call; that its own time is up is.
#[test]
fn a_call_whose_own_time_is_up_is_not_made_again() {
    let (mut pool, attempts) = repeatable(9);
    let call = pool.calls[0];
    pool.machine.may_repeat(call, Attempts { over_time: true, ..attempts });
    pool.machine.bounds.set_doom(call, Doom::OverTime(LATER));
    pool.machine.kill(call, NOW);
    let orders = lose_worker(&mut pool, NOW);
    let settled =
        |order: &Output| matches!(order, Output::Settle(id, How::Doomed(Doom::Killed, _)) if *id == call);
    assert!(orders.iter().any(settled), "{orders:?}");
}

/// A start that failed long ago, when nobody waited any more, is no reason to give up.
#[test]
fn the_time_without_a_worker_begins_when_somebody_waits_for_one() {
    let mut pool = Script::new(config(1));
    pool.submit();
    pool.feed(Input::SpawnFailed { worker: w(0), transient: true });
    pool.machine.cancel(pool.calls[0], NOW);
    pool.orders();
    pool.calls.extend(pool.machine.submit(&Treatment::default(), LATER));
    pool.machine.handle(Input::TimePassed, LATER);
    let orders = pool.orders();
    assert!(!orders.iter().any(|order| matches!(order, Output::Break(_))), "{orders:?}");
}

/// Those that leave may take their time, and are processes too.
#[test]
fn of_workers_that_leave_slowly_no_more_are_there_than_of_others() {
    let mut pool = Script::live(Config { max_tasks_per_child: Some(1), ..config(1) }, Some(8));
    for _ in 0..20 {
        pool.submit();
        while let Some(worker) = pool.machine.workers.iter().find(|worker| !worker.is_up).map(|worker| worker.id) {
            pool.feed(Input::WorkerReady(worker, Some(8)));
        }
        while let Some((worker, seq)) = pool.first_sent() {
            pool.finish(worker, seq);
        }
    }
    let leaving = pool.machine.count(State::Leaving);
    assert!((1..=2).contains(&leaving), "{leaving}");
    assert!(pool.machine.items.pending() > 0);
    let gone = pool.machine.workers.iter().find(|worker| worker.state == State::Leaving).expect("one leaves").id;
    pool.feed(Input::WorkerLeft(gone));
    let orders = pool.die(gone);
    assert!(orders.iter().any(|order| matches!(order, Output::Spawn(_))), "there is a place again: {orders:?}");
}

/// It would only be replaced, again and again, as long as the call rests.
#[test]
fn a_worker_that_a_resting_call_will_want_is_not_let_go() {
    let (mut pool, attempts) = repeatable(2);
    let timeout = Duration::from_secs(1);
    pool.machine.config.idle_timeout = Some(timeout);
    pool.machine.may_repeat(pool.calls[0], Attempts { pause_min: LATER, pause_max: LATER, ..attempts });
    let (worker, seq) = pool.first_sent().expect("it has the call");
    assert!(pool.machine.repeat(worker, seq, TOOK, NOW));
    pool.machine.refill(worker, NOW);
    pool.orders();
    for look in 1..4 {
        pool.machine.handle(Input::TimePassed, NOW + timeout * look);
        assert_eq!(pool.orders(), []);
    }
    assert!(pool.machine.deadline().is_some_and(|at| at > NOW + timeout * 3), "somebody looks again");
}

/// What is known of a worker at its end is worth waiting for.
#[test]
fn a_short_grace_is_not_for_those_that_have_ended() {
    let mut pool = Script::live(config(1), Some(8));
    pool.submit();
    pool.feed(Input::LinkClosed(w(0)));
    let ladder = Ladder { timeout: Duration::ZERO, grace: Duration::from_millis(1) };
    pool.machine.handle(Input::ShutdownCalled { cancel_pending: false, ladder: Some(ladder) }, NOW);
    pool.machine.handle(Input::TimePassed, NOW + Duration::from_millis(2));
    assert!(!pool.orders().contains(&Output::Forget(w(0))));
    assert!(pool.machine.worker(w(0)).is_some());
}
