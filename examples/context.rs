//! What a worker needs for every call is made once in each: a model that is loaded, a count that is kept, and a hook
//! that closes the books. `cargo run --release --example context`; it checks what it says, and ends by itself.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use process_pool::{Executor, SubmitError, TaskError, task};

/// The worker context. It need not be `Send`, and serde knows nothing of it.
struct Model {
    prices: HashMap<String, u64>,
    ledger: PathBuf,
    calls: u64,
    sold: u64,
}

/// What takes its time, and must not be done for each call.
fn load((list, ledger): (String, PathBuf)) -> Result<Model, String> {
    let price = |line: &str| {
        let (name, price) = line.split_once(' ')?;
        Some((name.to_owned(), price.parse().ok()?))
    };
    let prices = list.lines().map(|line| price(line).ok_or_else(|| format!("no price: `{line}`")));
    Ok(Model { prices: prices.collect::<Result<_, _>>()?, ledger, calls: 0, sold: 0 })
}

/// A call: which worker it ran in, its place among the calls there, and the price.
fn sell(model: &mut Model, (name, count): (String, u64)) -> (u64, u64, u64) {
    model.calls += 1;
    let price = model.prices.get(&name).unwrap_or_else(|| panic!("there is no {name}")) * count;
    model.sold += price;
    (task::worker_id().expect("this is a worker").0, model.calls, price)
}

/// The exit hook: the last that a worker does.
fn close(model: Model) {
    let id = task::worker_id().expect("this is a worker").0;
    let line = format!("{id} {} {}\n", model.calls, model.sold);
    let written =
        OpenOptions::new().append(true).open(model.ledger).and_then(|mut file| file.write_all(line.as_bytes()));
    written.expect("the ledger is there");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    process_pool::init();
    let ledger = std::env::temp_dir().join(format!("process-pool-ledger-{}", std::process::id()));
    fs::write(&ledger, "")?;
    let outcome = sell_all(&ledger);
    fs::remove_file(ledger)?;
    outcome
}

fn sell_all(ledger: &PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    let list = "apple 3\npear 4\nplum 1".to_owned();
    // Each worker serves ten calls, and closes its books; another takes its place.
    let builder = Executor::builder().max_workers(2).max_tasks_per_child(10);
    let pool = builder.initializer(load, (list, ledger.clone())).worker_exit(close).build()?;

    let sales = ["apple", "pear", "cherry", "plum"].into_iter().cycle().take(40);
    let handles: Result<Vec<_>, _> =
        sales.zip(1..).map(|(name, count)| pool.submit_with(sell, (name.to_owned(), count))).collect();
    let (mut sum, mut failed, mut calls) = (0, 0, BTreeMap::<u64, Vec<u64>>::new());
    for handle in handles? {
        match handle.result() {
            Ok((worker, place, price)) => {
                sum += price;
                calls.entry(worker).or_default().push(place);
            }
            // The model is as the call left it: with one call more, and nothing sold.
            Err(TaskError::Panicked(panic)) => {
                failed += 1;
                assert_eq!(panic.message, "there is no cherry");
            }
            Err(error) => return Err(error.into()),
        }
    }
    println!("sold for {sum}, {failed} failed");
    assert!(failed == 10 && calls.values().flatten().all(|place| (1..=10).contains(place)));

    // The pool knows what its workers have.
    let error = pool.submit_with(|text: &mut String, _: u8| text.len(), 1).expect_err("they have no String");
    println!("refused: {error}");
    assert!(matches!(error, SubmitError::OtherContext(_)));

    // All hooks have run when the pool is gone.
    drop(pool);
    let text = fs::read_to_string(ledger)?;
    let books: Vec<Vec<u64>> = text
        .lines()
        .map(|line| line.split(' ').map(|number| number.parse().map_err(io::Error::other)).collect())
        .collect::<Result<_, _>>()?;
    for book in &books {
        println!("worker {} had {} calls, and sold for {}", book[0], book[1], book[2]);
    }
    assert_eq!(books.iter().map(|book| book[1]).sum::<u64>(), 40);
    assert_eq!(books.iter().map(|book| book[2]).sum::<u64>(), sum);
    assert!(books.len() >= 4 && books.iter().all(|book| book[1] <= 10));
    Ok(())
}
