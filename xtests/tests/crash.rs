//! The crash matrix, in every context. What an event does and what must hold then is written in [`xtests::crash`]; the
//! table for people is `xtests/crash_matrix.md`.

use std::time::Duration;

use xtests::crash::{self, EVENTS, Setting};
use xtests::runner::{self, Case, Subject, skip};

/// Some events move hundreds of MiB, or take some seconds by their nature.
const WATCHDOG: Duration = Duration::from_secs(120);

fn main() {
    crash::attend();
    process_pool::init();
    crash::become_parent();
    assert_eq!(PLAYS.len(), EVENTS.len(), "each event is a case");
    let plays = EVENTS.iter().zip(PLAYS).map(|(event, play)| {
        Case::new(event.name.replace(", ", "_").replace(' ', "_").leak(), *play).watchdog(WATCHDOG)
    });
    let table = Case::new("the_table_for_people_has_every_event", the_table_for_people_has_every_event)
        .only("exec+pipe", "a file");
    runner::main(&plays.chain([table]).collect::<Vec<_>>());
}

fn the_table_for_people_has_every_event(_: &Subject) {
    let rows: Vec<_> = include_str!("../crash_matrix.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .filter(|first| *first != "what happens")
        .collect();
    let events: Vec<_> = EVENTS.iter().map(|event| event.name).collect();
    assert_eq!(rows, events);
}

/// One function for each event, since that is what a case is.
macro_rules! plays {
    ($($n:literal)*) => { &[$(play::<$n>),*] };
}

const PLAYS: &[fn(&Subject)] = plays!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25);

fn play<const N: usize>(subject: &Subject) {
    let event = EVENTS[N];
    let setting = Setting { context: &subject.context, folder: &subject.dir };
    if let Some(why) = (event.unfit)(&setting) {
        skip(why);
    }
    match (event.play)(&setting) {
        Ok(seen) => println!("{seen:?}"),
        Err(why) => panic!("{why}"),
    }
}
