//! Backends that break one law each. The kit has to find that law broken, and no other.

mod transport;

use pool_transport_pipe::Pipe;
use transport::Fault::{self, *};
use transport::Mutant as Broken;
use xtests::mutants::Mutant;
use xtests::transport::Candidate;

/// What is wrong with each, and which law that breaks.
const TRANSPORTS: &[(Fault, Option<&str>)] = &[
    (NothingAtAll, None),
    (DropsAFrame, Some("T1")),
    (ReordersFrames, Some("T1")),
    (DuplicatesAFrame, Some("T1")),
    (TruncatesAFrame, Some("T1")),
    (ForgetsWhatWasSentEarly, Some("T1")),
    (DeliversACutFrame, Some("T2")),
    (LosesTheLastFrame, Some("T2")),
    (DeliversAfterTheEnd, Some("T3")),
    (SwallowsTheEnd, Some("T3")),
    (TellsTheEndTwice, Some("T3")),
    (TellsADroppedReceiver, Some("T3")),
    (BlocksInSend, Some("T4")),
    (PanicsAfterTheEnd, Some("T4")),
    (DropsWhatIsTooLong, Some("T5")),
    (AcceptsWhatIsTooLong, Some("T5")),
    (ClaimsWhatWasRevoked, Some("T6")),
    (RevokesWhatWasStarted, Some("T6")),
    (DoesNotKnow, Some("T6")),
    (ForgetsWhatArrivedWithTheClose, Some("T7")),
    (ClosesWhenTheWorkerIsThere, Some("T7")),
    (IsNotInterrupted, Some("T8")),
    (IgnoresTheDeadline, Some("T8")),
    (DeliversTwiceWhenDriven, Some("T8")),
    (LeaksADescriptor, Some("T9")),
    (LeaksAThread, Some("T9")),
    (LeaksWhatItCouldNotOpen, Some("T9")),
    (KeepsTheReceiver, Some("T9")),
    (NeverSleeps, Some("T9")),
    (CanBeInherited, Some("T10")),
    (DoesNotSayDrained, Some("T11")),
    (TellsTwoThingsAtOnce, Some("T11")),
    (HidesTheEndFromTheWorker, Some("T12")),
    (TakesAnyTicket, Some("T13")),
];

fn main() {
    let transport = |&(fault, breaks): &(Fault, Option<&'static str>)| {
        let name = format!("transport::{fault:?}");
        let candidate = Candidate::new(&name, move || Broken::new(fault, Pipe::new()))
            .frames_up_to(move |bytes| Broken::new(fault, Pipe::new().frame_max(bytes)));
        Mutant::transport(candidate, breaks)
    };
    xtests::mutants::main(&TRANSPORTS.iter().map(transport).collect::<Vec<_>>());
}
