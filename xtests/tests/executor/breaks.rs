//! Ctrl-Break, which unlike Ctrl-C reaches every process at a console, whatever its group.

use std::sync::mpsc::Receiver;

use xtests::calls::submit;
use xtests::console;
use xtests::gate::{Gate, PATIENCE, wait_at};
use xtests::processes::is_wine;
use xtests::runner::{Subject, skip};

/// Waits for a Ctrl-Break, and for another: who hears the second was not ended by the first.
fn hear_two(port: u16) {
    let breaks = console::breaks(false).expect("nobody listens yet");
    for _ in 0..2 {
        wait_at(port);
        heard(&breaks);
    }
}

fn heard(breaks: &Receiver<()>) {
    breaks.recv_timeout(PATIENCE).expect("it is heard");
}

pub(crate) fn ctrl_break_ends_no_worker(subject: &Subject) {
    if is_wine() {
        skip("Wine has no console that a key could be pressed at without a screen");
    }
    if let Err(why) = console::renew() {
        skip(&format!("there is no console to be had here: {why}"));
    }
    let breaks = console::breaks(true).expect("nobody listens yet");
    let (pool, gate) = (subject.pool(1), Gate::new());
    let call = submit(&pool, hear_two, gate.port());
    for _ in 0..2 {
        let visitor = gate.arrival();
        console::press_break().expect("there is a console");
        heard(&breaks);
        visitor.pass();
    }
    call.result().expect("the worker has heard both");
}
