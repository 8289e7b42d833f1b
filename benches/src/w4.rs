//! W4: an echo of blobs, in GB/s, the blob counted once: four of 64 KiB or of 1 MiB at a time, two of 64 MiB.
//!
//! What comes back is sent again, by all subjects, so that nobody has to copy a blob only to have one to send;
//! length and first bytes are compared. procspawn has two at a time of every size: with more of 1 MiB it
//! deadlocks.
//!
//! `limit/memcpy` copies a blob to other memory and back, which has been touched before. `limit/echo` is what two
//! processes can do that copy blobs into shared memory and out of it again, and back, and do nothing else.
//!
//! *parent* and *worker* are the most memory that they had beyond what they had before, in blobs of 64 MiB:
//! `RssAnon` of `/proc/PID/status`, looked at every millisecond, in a run of its own after the others; of the
//! workers the one that had most. *shared* is the same of `RssShmem`.

use std::collections::VecDeque;

use process_pool::Bytes;

use crate::calls::{Pool, warm, with_pool};
use crate::meter::Stretch;
use crate::table::{Case, Figures, Goal, Of, at_least, at_most};
use crate::{How, Result, Scale, WORKERS, Workload, cpython, limits, run};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "w4",
    title: "W4: echo of blobs; 2 workers",
    cases: &[
        Case { name: "64 KiB", unit: "GB/s" },
        Case { name: "1 MiB", unit: "GB/s" },
        Case { name: "64 MiB", unit: "GB/s" },
        Case { name: "parent", unit: "blobs of memory" },
        Case { name: "worker", unit: "blobs of memory" },
        Case { name: "parent, shared", unit: "blobs of memory" },
        Case { name: "worker, shared", unit: "blobs of memory" },
    ],
    goals: &[
        echo("64 KiB", "/shm+", &[at_least(8.0, CPYTHON)], &[at_least(10.0, CPYTHON)]),
        echo("1 MiB", "/shm+", &[at_least(20.0, CPYTHON)], &[at_least(40.0, CPYTHON)]),
        echo("64 MiB", "/shm+", &[at_least(5.0, CPYTHON)], &[at_least(8.0, CPYTHON)]),
        echo("64 KiB", "/pipe+", &[at_least(2.5, CPYTHON)], &[]),
        echo("1 MiB", "/pipe+", &[at_least(4.0, CPYTHON)], &[]),
        echo("64 MiB", "/pipe+", &[at_least(1.8, CPYTHON)], &[]),
        echo("parent", "/shm+", &[at_most(3.0, Of::Unit)], &[]),
        echo("worker", "/shm+", &[at_most(1.1, Of::Unit)], &[]),
    ],
    others: &["cpython", "cpython/Pool", "procspawn", COPY, ECHO],
    yardsticks: &["cpython", COPY],
    counts_system_calls: true,
    measure,
};

const COPY: &str = "limit/memcpy";
const ECHO: &str = "limit/echo";
const CPYTHON: Of = Of::Subject("cpython");

const fn echo(
    case: &'static str,
    who: &'static str,
    must: &'static [crate::table::Bound],
    aim: &'static [crate::table::Bound],
) -> Goal {
    Goal { case, who, must, aim }
}

/// What is echoed: a case, the size, how many at a time, how many in all. As in `cpython.py`.
fn sizes(scale: Scale) -> [(&'static str, usize, usize, usize); 3] {
    [
        ("64 KiB", 64 << 10, 4, scale.of(4000, 400)),
        ("1 MiB", 1 << 20, 4, scale.of(400, 40)),
        ("64 MiB", 64 << 20, 2, scale.of(8, 2)),
    ]
}

fn measure(subject: &str, scale: Scale) -> Result<Figures> {
    if subject == COPY {
        return copy(scale);
    }
    if subject == ECHO {
        return bare_echoes(scale);
    }
    if let Some((subject, _)) = subject.split_once('#') {
        return with_pool!(subject, memory(subject, scale)).ok_or("no such subject")?;
    }
    let window_max = if subject == "procspawn" { 2 } else { usize::MAX };
    match with_pool!(subject, echoes(subject, scale, window_max)) {
        Some(figures) => figures,
        None => cpython::measure(subject, "w4", scale),
    }
}

fn echoes<P: Pool>(subject: &str, scale: Scale, window_max: usize) -> Result<Figures> {
    let mut figures = Figures::default();
    let pool = P::new(WORKERS, subject)?;
    warm(&pool, 1000)?;
    for (case, size, window, count) in sizes(scale).into_iter().take(scale.cases()) {
        let window = window.min(window_max);
        figures.push("calls made", count as f64);
        // Once as many before the clock runs, which finds the blobs and the buffers made.
        echo_all(&pool, blobs(size, window), window)?;
        let blobs: Vec<_> = blobs(size, window).collect();
        let stretch = Stretch::of(|| echo_all(&pool, blobs.into_iter(), count))?;
        stretch.rate(&mut figures, case, (size * count) as f64 / 1e9, count);
    }
    if scale.how != How::First {
        figures.0.extend(run::apart("w4", subject, "memory", scale)?.0);
    }
    Ok(figures)
}

fn copy(scale: Scale) -> Result<Figures> {
    let mut figures = Figures::default();
    for (case, size, _, count) in sizes(scale) {
        let (mut one, mut other) = (vec![1_u8; size], vec![2_u8; size]);
        let stretch = Stretch::of(|| {
            for _ in 0..count {
                other.copy_from_slice(std::hint::black_box(&one));
                one.copy_from_slice(std::hint::black_box(&other));
            }
            Ok(())
        })?;
        stretch.rate(&mut figures, case, (size * count) as f64 / 1e9, count);
    }
    Ok(figures)
}

fn bare_echoes(scale: Scale) -> Result<Figures> {
    let mut figures = Figures::default();
    for (case, size, window, count) in sizes(scale) {
        figures.push(case, limits::echo(size, window, count)?);
    }
    Ok(figures)
}

/// Each is made when it is taken.
fn blobs(size: usize, count: usize) -> impl Iterator<Item = Bytes> {
    (0..count).map(move |n| Bytes::from(vec![n as u8 + 1; size]))
}

fn echo_all<P: Pool>(pool: &P, blobs: impl Iterator<Item = Bytes>, count: usize) -> Result<()> {
    let shape = |blob: &Bytes| (blob.len(), blob[0]);
    let mut pending = VecDeque::new();
    for blob in blobs {
        pending.push_back((shape(&blob), pool.echo(blob)?));
    }
    // Each that is submitted again is one more echo than those that were under way at first.
    let mut again = count.saturating_sub(pending.len());
    while let Some((sent, oldest)) = pending.pop_front() {
        let blob = P::result(oldest)?;
        if shape(&blob) != sent {
            return Err("another blob came back".into());
        }
        if again > 0 {
            again -= 1;
            pending.push_back((sent, pool.echo(blob)?));
        }
    }
    Ok(())
}

/// In processes of its own, whose memory is to hold nothing of earlier echoes.
#[cfg(target_os = "linux")]
fn memory<P: Pool>(subject: &str, scale: Scale) -> Result<Figures> {
    use crate::meter::system::{Peak, descendants, rss};
    const SIZE: usize = 64 << 20;
    let pool = P::new(WORKERS, subject)?;
    warm(&pool, 1000)?;
    let own = rss(std::process::id());
    let theirs = descendants(std::process::id()).into_iter().map(rss);
    let theirs =
        theirs.fold((0.0, 0.0), |(anon, shmem): (f64, f64), rss| (anon.max(rss.anon), shmem.max(rss.shmem)));
    let peak = Peak::watch();
    echo_all(&pool, blobs(SIZE, 2), scale.of(8, 3))?;
    let (parent, worker) = peak.end();
    let mut figures = Figures::default();
    let mut push = |case: &str, bytes: f64| figures.push(case, bytes.max(0.0) / SIZE as f64);
    push("parent", parent.anon - own.anon);
    push("worker", worker.anon - theirs.0);
    push("parent, shared", parent.shmem - own.shmem);
    push("worker, shared", worker.shmem - theirs.1);
    Ok(figures)
}

#[cfg(not(target_os = "linux"))]
fn memory<P: Pool>(_: &str, _: Scale) -> Result<Figures> {
    Ok(Figures::default())
}
