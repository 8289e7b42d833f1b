//! What is wrong with each, and what the kit is to find.

use pool_spawn_exec::ExecEntry;
use pool_transport_pipe::Pipe;
use xtests::mutants::Mutant;

use crate::spawner::Fault::{self as SpawnerFault, *};
use crate::transport::Fault::{self as TransportFault, *};

/// What is wrong with each, and which law that breaks.
const TRANSPORTS: &[(TransportFault, Option<&str>)] = &[
    (NothingAtAll, None),
    (DropsAFrame, Some("T1")),
    (DropsEmptyFrames, Some("T1")),
    (CutsHugeFrames, Some("T1")),
    (SplitsAFrame, Some("T1")),
    (ReordersFrames, Some("T1")),
    (DuplicatesAFrame, Some("T1")),
    (TruncatesAFrame, Some("T1")),
    (ForgetsWhatWasSentEarly, Some("T1")),
    (DeliversACutFrame, Some("T2")),
    (LosesTheLastFrame, Some("T2")),
    (LosesAFrameWhenItWrites, Some("T2")),
    (DeliversAfterTheEnd, Some("T3")),
    (SwallowsTheEnd, Some("T3")),
    (TellsTheEndTwice, Some("T3")),
    (TellsADroppedReceiver, Some("T3")),
    (BlocksInSend, Some("T4")),
    (BlocksTheWorker, Some("T4")),
    (PanicsAfterTheEnd, Some("T4")),
    (DropsWhatIsTooLong, Some("T5")),
    (AcceptsWhatIsTooLong, Some("T5")),
    (ClaimsWhatWasRevoked, Some("T6")),
    (RevokesWhatWasStarted, Some("T6")),
    (DoesNotKnow, Some("T6")),
    (SaysItCannotRevoke, Some("T6")),
    (ForgetsWhatArrivedWithTheClose, Some("T7")),
    (ClosesWhenTheWorkerIsThere, Some("T7")),
    (ClosesNoFlood, Some("T7")),
    (IsNotInterrupted, Some("T8")),
    (IgnoresTheDeadline, Some("T8")),
    (DeliversTwiceWhenDriven, Some("T8")),
    (DrivesWithoutDelivering, Some("T8")),
    (SaysItCannotBeDriven, Some("T8")),
    (LeaksADescriptor, Some("T9")),
    (LeaksAThread, Some("T9")),
    (LeaksWhatItCouldNotOpen, Some("T9")),
    (KeepsTheReceiver, Some("T9")),
    (NeverSleeps, Some("T9")),
    (CanBeInherited, Some("T10")),
    (DoesNotSayDrained, Some("T11")),
    (TellsTwoThingsAtOnce, Some("T11")),
    (IgnoresACloseFromWithin, Some("T11")),
    (HidesTheEndFromTheWorker, Some("T12")),
    (HidesTheEndFromASender, Some("T12")),
    (TakesAnyTicket, Some("T13")),
    (AsksNobody, Some("T14")),
    (AsksAllThatFollow, Some("T14")),
    (SaysItCannotAsk, Some("T14")),
];

/// The same. (No spawner can report an exit twice: the callback's type does not let it.)
const SPAWNERS: &[(SpawnerFault, Option<&str>)] = &[
    (NothingIsWrong, None),
    (SwallowsAnExit, Some("S1")),
    (ReportsTooEarly, Some("S1")),
    (SwapsHandles, Some("S2")),
    (AddsAHandle, Some("S2")),
    (ChangesTheBytes, Some("S2")),
    (ShowsAHandle, Some("S2")),
    (GivesAHandleToTheNext, Some("S2")),
    (SignalsNobody, Some("S3")),
    (ErrsAfterTheEnd, Some("S3")),
    (LeavesAnHeir, Some("S4")),
    (HasNoOutput, Some("S5")),
    (FailsForGood, Some("S6")),
    (LeaksWhenItFails, Some("S6")),
    (TellsOfNoShortage, Some("S6")),
    (EndsWithItsValue, Some("S7")),
    (LeavesAZombie, Some("S7")),
    (LosesADescriptor, Some("S7")),
    (LosesAThread, Some("S7")),
    (SlowerBesideALot, Some("S8")),
    (TellsAnotherCode, Some("S9")),
    (TellsNoSignal, Some("S9")),
    (LosesLastWords, Some("S9")),
    (WaitsForItsCallback, Some("S10")),
    (SuffersFromAPanic, Some("S10")),
    (OneAtATime, Some("S10")),
    (CutsTheBytes, Some("S11")),
    (CutsTheHandles, Some("S11")),
    (LosesTheGroup, Some("S12")),
    (EndsANeighboursToo, Some("S12")),
];

pub(crate) fn judge() -> ! {
    let transport = |&(fault, breaks): &(TransportFault, Option<&'static str>)| {
        let name = format!("transport::{fault:?}");
        let make = move |pipe| crate::transport::Mutant::new(fault, pipe);
        let candidate = xtests::transport::Candidate::new(&name, move || make(Pipe::new()))
            .frames_up_to(move |bytes| make(Pipe::new().frame_max(bytes)));
        Mutant::transport(candidate, breaks)
    };
    let spawner = |&(fault, breaks): &(SpawnerFault, Option<&'static str>)| {
        let name = format!("spawner::{fault:?}");
        let make = move || crate::spawner::Mutant::new(fault);
        Mutant::spawner(xtests::spawner::Candidate::new(&name, make).entry(ExecEntry), breaks)
    };
    let mutants = TRANSPORTS.iter().map(transport).chain(SPAWNERS.iter().map(spawner));
    xtests::mutants::main(&mutants.collect::<Vec<_>>());
}
