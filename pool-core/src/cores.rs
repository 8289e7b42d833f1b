//! How many cores this process may use.

use std::num::NonZero;
use std::sync::Mutex;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// So long an answer is taken for true. On Linux it takes a look into several files.
const TRUE_FOR: Duration = Duration::from_secs(1);

/// How many threads can run at a time, as far as this process is concerned; 1 if nobody can tell. As
/// [`available_parallelism`] says, which is asked once a second at most.
pub fn cores() -> usize {
    static KNOWN: Mutex<Option<(Instant, usize)>> = Mutex::new(None);
    // Nobody waits for the lock: a process that was forked while another thread held it would do so for ever.
    let mut known = KNOWN.try_lock();
    if let Ok(known) = &known
        && let Some((asked, cores)) = **known
        && asked.elapsed() < TRUE_FOR
    {
        return cores;
    }
    let cores = available_parallelism().map_or(1, NonZero::get);
    if let Ok(known) = &mut known {
        **known = Some((Instant::now(), cores));
    }
    cores
}
