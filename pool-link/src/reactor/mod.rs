//! Waits for all links of a transport value: in a thread of its own, and in callers that lend theirs.
//!
//! Knows which links there are and which of them have something to do; what that is, they know themselves.
//! Two implementations with the same face: `epoll` (Linux), which can be driven, and `poll` (everywhere else,
//! and on Linux with `--cfg pool_pipe_poll`, so that it can be tested there).

cfg_if::cfg_if! {
    if #[cfg(all(any(target_os = "linux", target_os = "android"), not(pool_pipe_poll)))] {
        mod epoll;
        pub(crate) use epoll::Reactor;
    } else {
        mod poll;
        pub(crate) use poll::Reactor;
    }
}
