//! T9 and T10: what a link takes it gives back, and nobody else gets it. On Linux, which tells.

use std::sync::Arc;

use super::bench::Bench;

/// Whatever a case can tell on every system: the receiver is let go of.
pub(super) fn a_dropped_link_lets_go_of_its_receiver(bench: &Bench<'_>) {
    let deadline = std::time::Instant::now() + bench.patience();
    for comes in [true, false] {
        let transport = bench.transport();
        let (link, events, ticket) = bench.half_of(&*transport);
        let channel = comes.then(|| super::tools::connect(&*transport, ticket));
        drop(link);
        // A thread that ends takes its share with it.
        while Arc::strong_count(&events) > 1 {
            assert!(std::time::Instant::now() < deadline, "somebody keeps the receiver");
            std::thread::yield_now();
        }
        drop(channel);
    }
}

#[cfg(not(target_os = "linux"))]
mod linux {
    use super::Bench;

    fn not_here() -> ! {
        crate::trial::skip("what a process has is looked for on Linux only")
    }

    pub(in super::super) fn links_leave_nothing_behind(_: &Bench<'_>) {
        not_here()
    }

    pub(in super::super) fn threads_sleep_while_nothing_happens(_: &Bench<'_>) {
        not_here()
    }

    pub(in super::super) fn a_failed_open_leaves_nothing_behind(_: &Bench<'_>) {
        not_here()
    }

    pub(in super::super) fn no_descriptor_is_inheritable(_: &Bench<'_>) {
        not_here()
    }

    pub(in super::super) fn a_foreign_child_sees_no_descriptor_of_a_link(_: &Bench<'_>) {
        not_here()
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeSet;
    use std::fs;
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::super::bench::Bench;
    use super::super::recorder::Recorder;
    use super::super::tools::{connect, send};
    use crate::leaks::Inventory;
    use crate::scarce::Descriptors;
    use pool_core::transport::Channel;

    #[track_caller]
    fn is_as_before(before: &Inventory) {
        before.check().unwrap_or_else(|what| panic!("{what}"));
    }

    /// One link that was used and is gone: the first use of anything may keep something for ever.
    fn first_use(bench: &Bench<'_>) -> Inventory {
        let at_first = Inventory::take().expect("this is Linux").threads();
        let (link, events, mut channel) = bench.pair();
        channel.send(b"first", b"").expect("sent");
        assert_eq!(events.next_frame(), b"first");
        drop((link, channel));
        let deadline = Instant::now() + bench.patience();
        loop {
            let inventory = Inventory::take().expect("this is Linux");
            if inventory.threads() <= at_first {
                return inventory;
            }
            assert!(Instant::now() < deadline, "the threads of a link outlive it: {inventory:?}");
            thread::yield_now();
        }
    }

    pub(in super::super) fn links_leave_nothing_behind(bench: &Bench<'_>) {
        let before = first_use(bench);
        for round in 0..bench.many(300) {
            let transport = bench.transport();
            let (link, events, ticket) = bench.half_of(&*transport);
            let (second, _, _) = bench.half_of(&*transport);
            let mut connected: Option<Box<dyn Channel>> = None;
            if round % 5 > 0 {
                let channel = connected.insert(connect(&*transport, ticket));
                channel.send(b"frame", &[]).expect("sent");
                send(&*link, None, &[0; 200_000], &[]);
                link.flush();
            }
            match round % 6 {
                0 => drop(connected),
                1 => link.close(),
                2 => drop(transport),
                3 => drop(second),
                4 if round % 5 > 0 => assert_eq!(events.next_frame(), b"frame"),
                _ => {}
            }
        }
        is_as_before(&before);
        let transport = bench.transport();
        let many: Vec<_> = (0..64).map(|_| bench.pair_of(&*transport)).collect();
        drop(transport);
        drop(many);
        is_as_before(&before);
    }

    pub(in super::super) fn threads_sleep_while_nothing_happens(bench: &Bench<'_>) {
        let (link, events, mut channel) = bench.pair();
        send(&*link, None, b"hello", b"");
        link.flush();
        assert!(channel.recv(&mut Vec::new()).expect("received"));
        channel.send(b"hello", b"").expect("sent");
        assert_eq!(events.next_frame(), b"hello");
        let own = rustix::thread::gettid().as_raw_nonzero().to_string();
        let wakes = || {
            let tasks = fs::read_dir("/proc/self/task").expect("listed").flatten();
            let others = tasks.filter(|task| task.file_name() != *own);
            let count = |status: String| {
                let line =
                    status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).map(str::trim);
                line.and_then(|count| count.parse::<u64>().ok())
            };
            let statuses = others.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
            statuses.filter_map(count).collect::<Vec<_>>()
        };
        let is_asleep = |time| {
            let before = wakes();
            thread::sleep(time);
            wakes() == before
        };
        // They may still be on their way to sleep after the last frame.
        let deadline = Instant::now() + bench.patience();
        while !is_asleep(Duration::from_millis(20)) {
            assert!(Instant::now() < deadline, "they never sleep");
        }
        assert!(is_asleep(Duration::from_millis(500)), "a thread woke up for nothing");
    }

    pub(in super::super) fn a_failed_open_leaves_nothing_behind(bench: &Bench<'_>) {
        first_use(bench);
        let before = Inventory::take().expect("this is Linux");
        let mut refused = 0;
        let mut opened = 0;
        for spare in 0..24 {
            let (transport, events) = (bench.transport(), Recorder::with_patience(bench.patience()));
            let scarce = Descriptors::limited_to(spare);
            let link = transport.open(events);
            drop(scarce);
            match link {
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{spare} to spare: {error}");
                }
                Ok(link) => {
                    opened += 1;
                    drop(link);
                }
            }
            drop(transport);
            is_as_before(&before);
        }
        assert!(opened > 0, "24 descriptors are not enough");
        println!("refused {refused} times, opened {opened} times");
        let (_link, _events, _channel) = bench.pair();
    }

    /// The numbers of the open descriptors, apart from the look itself.
    fn numbers() -> BTreeSet<i32> {
        let listed = fs::read_dir("/proc/self/fd").expect("listed").flatten();
        // The listing's own is closed when it is over, before the second look.
        let names: Vec<_> = listed.map(|entry| entry.file_name()).collect();
        let number = |name: std::ffi::OsString| name.to_str()?.parse().ok();
        let is_open = |number: &i32| fs::read_link(format!("/proc/self/fd/{number}")).is_ok();
        names.into_iter().filter_map(number).filter(is_open).collect()
    }

    pub(in super::super) fn no_descriptor_is_inheritable(bench: &Bench<'_>) {
        let at_first = numbers();
        let transport = bench.transport();
        let waiting = bench.half_of(&*transport);
        let (link, events, mut channel) = bench.pair_of(&*transport);
        channel.send(b"hello", b"").expect("sent");
        assert_eq!(events.next_frame(), b"hello");
        let ours: Vec<_> = numbers().difference(&at_first).copied().collect();
        for number in &ours {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).expect("it is open");
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
            let flags = u32::from_str_radix(flags, 8).expect("a number");
            let target = fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default();
            const CLOEXEC: u32 = 0o2_000_000;
            assert!(flags & CLOEXEC != 0, "{number}: {} {flags:o}", target.display());
        }
        println!("{} descriptors", ours.len());
        drop((waiting, link, channel));
    }

    pub(in super::super) fn a_foreign_child_sees_no_descriptor_of_a_link(bench: &Bench<'_>) {
        let look = || {
            let mut ls = Command::new("ls");
            ls.args(["-l", "/proc/self/fd"]).stdin(Stdio::null());
            let out = ls.output().expect("it runs");
            String::from_utf8_lossy(&out.stdout).lines().filter(|line| line.contains("->")).count()
        };
        let normal = look();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                // Also between a descriptor's making and its being marked.
                while !done.load(Ordering::Acquire) {
                    let (link, _events, channel) = bench.pair();
                    drop((link, channel));
                }
            });
            let looks: Vec<_> = (0..bench.many(100)).map(|_| look()).collect();
            done.store(true, Ordering::Release);
            assert!(looks.iter().all(|count| *count == normal), "{normal} before, then {looks:?}");
        });
    }
}

pub(super) use linux::*;
