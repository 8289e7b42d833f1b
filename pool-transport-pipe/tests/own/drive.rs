//! T8 beyond the law: the links of a transport share what can be driven.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use pool_core::transport::{Driven, Link, Until};
use pool_transport_pipe::Pipe;
use xtests::transport::tools::{guarded, pair};

/// Asks for nothing, and does not stay.
fn look_in(link: &dyn Link) -> Driven {
    link.drive(&Until { done: &|| false, deadline: Some(Instant::now()) })
}

#[test]
fn one_driver_drives_all_links_of_a_transport() {
    guarded("one driver", || {
        let pipe = Pipe::new();
        let (link, _events, _channel) = pair(&pipe);
        let (other, _other_events, _other_channel) = pair(&pipe);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let done = || stop.load(Ordering::SeqCst);
            let driver = scope.spawn(move || {
                loop {
                    // The other one may be in just now.
                    match link.drive(&Until { done: &done, deadline: None }) {
                        Driven::Busy => thread::yield_now(),
                        driven => return driven,
                    }
                }
            });
            // The driver is in when another, who asks for nothing, is refused.
            while look_in(&*other) != Driven::Busy {
                thread::yield_now();
            }
            stop.store(true, Ordering::SeqCst);
            other.interrupt();
            assert_eq!(driver.join().unwrap(), Driven::Done);
        });
    });
}
