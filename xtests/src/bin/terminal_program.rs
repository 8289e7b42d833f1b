//! A program at a terminal: it has a pool, and writes down what becomes of it.
//!
//! Its arguments: the context, what its calls do, the port of the gate where they arrive, a file to write to.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;

use process_pool::{Executor, Shutdown, TaskError, TaskHandle};
use xtests::gate::wait_at;

fn main() {
    process_pool::init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [context, what, port, file] = args.as_slice() else { panic!("four arguments: {args:?}") };
    let port: u16 = port.parse().expect("a port");
    let mut file = OpenOptions::new().create(true).append(true).open(file).expect("a file");
    let mut note = |text: &str| file.write_all(format!("{text}\n").as_bytes()).expect("written");

    let builder = Executor::builder().max_workers(2).context(xtests::context::named(context));
    let pool = Arc::new(builder.build().expect("a pool"));
    note(&format!("program {}", std::process::id()));
    if what == "handles" {
        let weak = Arc::downgrade(&pool);
        let interrupt = move || {
            if let Some(pool) = weak.upgrade() {
                pool.interrupt();
            }
        };
        ctrlc::set_handler(interrupt).expect("the only handler");
    }
    let call = if what == "writes" { pool.submit(write_at, port) } else { pool.submit(wait_at, port) };
    let mut calls = vec![call.expect("taken")];
    calls.extend((0..4).map(|_| pool.submit(wait_at, port).expect("taken")));
    for call in calls {
        note(&outcome(call));
    }
    let report = pool.shutdown(Shutdown::default());
    note(&format!("end, {} terminated, {} killed", report.terminated.len(), report.killed.len()));
}

/// For calls: writes to the terminal, and goes to the gate.
fn write_at(port: u16) {
    println!("from a worker");
    wait_at(port);
}

fn outcome(call: TaskHandle<()>) -> String {
    match call.result() {
        Ok(()) => "done".to_owned(),
        Err(TaskError::Cancelled) => "cancelled".to_owned(),
        Err(TaskError::Stopped(stopped)) => format!("stopped, {}, {}", stopped.by, stopped.exit),
        Err(error) => format!("failed, {error}"),
    }
}
