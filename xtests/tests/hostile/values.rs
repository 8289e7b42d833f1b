//! Values that cannot be carried, or harm who tries.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use process_pool::error::{CodecStep, Exit};
use process_pool::{BuildError, Builder, Bytes, Executor, SubmitError, TaskError};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use xtests::calls::lost;
use xtests::cases;
use xtests::runner::{Case, Subject};

use crate::kit::{self, call, not_carried, panicked};

pub(crate) const CASES: &[Case] = cases![
    an_argument_that_cannot_be_encoded_is_not_accepted,
    an_argument_that_cannot_be_decoded_fails_its_call,
    a_result_that_cannot_be_encoded_fails_its_call,
    a_result_that_cannot_be_decoded_fails_its_call,
    an_argument_that_panics_while_it_is_encoded_panics_in_the_caller,
    an_argument_that_panics_while_it_is_decoded_fails_its_call,
    a_result_that_panics_while_it_is_encoded_fails_its_call,
    a_result_that_panics_while_it_is_decoded_panics_in_the_caller,
    a_value_that_panics_when_dropped_fails_its_call,
    a_crash_while_an_argument_is_decoded_costs_that_call,
    a_crash_while_a_result_is_encoded_costs_that_call,
    an_initializer_whose_argument_cannot_be_encoded_makes_no_pool,
    an_initializer_whose_argument_is_beyond_the_limit_makes_no_pool,
    an_argument_beyond_the_limit_is_not_accepted,
    a_result_beyond_the_limit_fails_its_call,
    a_panic_message_beyond_the_limit_is_cut_not_lost,
    an_error_of_the_codec_beyond_the_limit_is_cut_not_lost,
];

/// Encodes well; postcard cannot decode it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

/// postcard cannot encode it.
#[derive(Debug, Serialize, Deserialize)]
struct Flat {
    #[serde(flatten)]
    rest: std::collections::BTreeMap<String, u32>,
}

impl Flat {
    fn new() -> Self {
        Self { rest: [("a".to_owned(), 1)].into() }
    }
}

/// What a [`Trap`] does when it is touched.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u8)]
enum Spring {
    RefusesEncoding,
    RefusesDecoding,
    PanicsEncoding,
    PanicsDecoding,
    PanicsDropping,
    AbortsEncoding,
    AbortsDecoding,
}

#[derive(Debug)]
struct Trap(Spring);

/// The case's own process. A worker that is forked has a copy of it.
static CASE: OnceLock<u32> = OnceLock::new();

impl Serialize for Trap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Spring::RefusesEncoding => Err(ser::Error::custom("not this one")),
            Spring::PanicsEncoding => panic!("while encoding"),
            Spring::AbortsEncoding => std::process::abort(),
            spring => serializer.serialize_u8(spring as u8),
        }
    }
}

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spring = u8::deserialize(deserializer)?;
        match spring {
            1 => Err(de::Error::custom("not this one")),
            3 => panic!("while decoding"),
            4 => Ok(Self(Spring::PanicsDropping)),
            6 => std::process::abort(),
            _ => Err(de::Error::custom("no such trap")),
        }
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        // Only the copy that was sent: the one in the case has to go quietly.
        let is_quiet = self.0 != Spring::PanicsDropping || CASE.get() == Some(&std::process::id());
        assert!(is_quiet, "while dropping");
    }
}

/// Any argument, as a fn item that names its type.
fn take<A>(_: A) {}

fn make(number: u8) -> Trap {
    Trap(match number {
        0 => Spring::RefusesEncoding,
        1 => Spring::RefusesDecoding,
        2 => Spring::PanicsEncoding,
        3 => Spring::PanicsDecoding,
        4 => Spring::PanicsDropping,
        _ => Spring::AbortsEncoding,
    })
}

#[track_caller]
fn is_refused<A>(pool: &Executor, argument: A)
where
    A: Serialize + de::DeserializeOwned + 'static,
{
    match pool.submit(take::<A>, argument) {
        Err(SubmitError::Codec(error)) => {
            let expected = (CodecStep::EncodeArgument, std::any::type_name::<A>(), "postcard");
            assert_eq!((error.step, error.type_name.as_str(), error.codec), expected);
        }
        other => panic!("{other:?}"),
    }
    kit::is_usable(pool);
}

fn an_argument_that_cannot_be_encoded_is_not_accepted(subject: &Subject) {
    let pool = subject.pool(1);
    is_refused(&pool, Flat::new());
    is_refused(&pool, Trap(Spring::RefusesEncoding));
}

fn an_argument_that_cannot_be_decoded_fails_its_call(subject: &Subject) {
    let pool = subject.pool(1);
    let error = not_carried(call(&pool, take::<Untagged>, Untagged::Number(1)));
    assert_eq!(error.step, CodecStep::DecodeArgument);
    assert!(error.type_name.ends_with("Untagged"), "{error}");
    assert!(error.message.contains("self-describing"), "{error}");
    let error = not_carried(call(&pool, take::<Trap>, Trap(Spring::RefusesDecoding)));
    assert_eq!(error.step, CodecStep::DecodeArgument);
    assert!(error.type_name.ends_with("Trap"), "{error}");
    kit::is_usable(&pool);
}

fn a_result_that_cannot_be_encoded_fails_its_call(subject: &Subject) {
    let pool = subject.pool(1);
    let error = not_carried(call(&pool, |()| Flat::new(), ()));
    assert_eq!(error.step, CodecStep::EncodeResult);
    assert!(error.type_name.ends_with("Flat"), "{error}");
    let error = not_carried(call(&pool, make, 0));
    assert_eq!(error.step, CodecStep::EncodeResult);
    assert!(error.type_name.ends_with("Trap"), "{error}");
    kit::is_usable(&pool);
}

fn a_result_that_cannot_be_decoded_fails_its_call(subject: &Subject) {
    let pool = subject.pool(1);
    let error = not_carried(call(&pool, |()| Untagged::Text("text".to_owned()), ()));
    assert_eq!(error.step, CodecStep::DecodeResult);
    assert!(error.type_name.ends_with("Untagged"), "{error}");
    let error = not_carried(call(&pool, make, 1));
    assert_eq!(error.step, CodecStep::DecodeResult);
    assert!(error.type_name.ends_with("Trap"), "{error}");
    kit::is_usable(&pool);
}

fn an_argument_that_panics_while_it_is_encoded_panics_in_the_caller(subject: &Subject) {
    let pool = subject.pool(1);
    let submit = || drop(pool.submit(take::<Trap>, Trap(Spring::PanicsEncoding)));
    catch_unwind(AssertUnwindSafe(submit)).expect_err("it panics here");
    assert_eq!(pool.pending(), 0);
    kit::is_usable(&pool);
}

fn an_argument_that_panics_while_it_is_decoded_fails_its_call(subject: &Subject) {
    let pool = subject.pool(1);
    let panic = panicked(call(&pool, take::<Trap>, Trap(Spring::PanicsDecoding)));
    assert!(panic.message == "while decoding" && panic.task.contains("take"), "{panic}");
    kit::is_usable(&pool);
}

fn a_result_that_panics_while_it_is_encoded_fails_its_call(subject: &Subject) {
    let pool = subject.pool(1);
    let panic = panicked(call(&pool, make, 2));
    assert!(panic.message == "while encoding" && panic.task.contains("make"), "{panic}");
    kit::is_usable(&pool);
}

fn a_result_that_panics_while_it_is_decoded_panics_in_the_caller(subject: &Subject) {
    let pool = subject.pool(1);
    let handle = pool.submit(make, 3).expect("taken");
    catch_unwind(AssertUnwindSafe(|| kit::settled(&handle))).expect_err("it panics here");
    // The bytes are gone, which is said; nothing hangs.
    assert!(kit::settled(&handle).is_err());
    kit::is_usable(&pool);
}

fn a_value_that_panics_when_dropped_fails_its_call(subject: &Subject) {
    CASE.get_or_init(std::process::id);
    let pool = subject.pool(1);
    let panic = panicked(call(&pool, take::<Trap>, Trap(Spring::PanicsDropping)));
    assert_eq!(panic.message, "while dropping");
    let panic = panicked(call(&pool, make, 4));
    assert_eq!(panic.message, "while dropping");
    kit::is_usable(&pool);
}

fn a_crash_while_an_argument_is_decoded_costs_that_call(subject: &Subject) {
    let pool = subject.pool(2);
    kit::is_usable(&pool);
    let lost = lost(call(&pool, take::<Trap>, Trap(Spring::AbortsDecoding)));
    assert!(lost.task.contains("take"), "{lost}");
    assert!(!cfg!(unix) || lost.exit == Exit::Signal(6), "{lost}");
    kit::is_usable(&pool);
}

fn a_crash_while_a_result_is_encoded_costs_that_call(subject: &Subject) {
    let pool = subject.pool(2);
    let lost = lost(call(&pool, make, 5));
    assert!(lost.task.contains("make"), "{lost}");
    kit::is_usable(&pool);
}

fn an_initializer_whose_argument_cannot_be_encoded_makes_no_pool(subject: &Subject) {
    match subject.builder().initializer(take::<Flat>, Flat::new()).build() {
        Err(BuildError::Codec(error)) => assert!(error.type_name.ends_with("Flat"), "{error}"),
        other => panic!("{other:?}"),
    }
}

const LIMIT: usize = 64 * 1024;

/// Frames of up to 64 KiB.
fn narrow_builder(subject: &Subject) -> Builder {
    subject.builder_of_frames(LIMIT).max_workers(1)
}

fn narrow(subject: &Subject) -> Executor {
    narrow_builder(subject).build().expect("a pool")
}

fn an_initializer_whose_argument_is_beyond_the_limit_makes_no_pool(subject: &Subject) {
    match narrow_builder(subject).initializer(take::<Bytes>, Bytes::from(vec![0; LIMIT])).build() {
        Err(BuildError::TooLarge { task, size, max }) => {
            assert!(task.contains("take") && size > max && max < LIMIT, "{task} {size} {max}");
            let most = Bytes::from(vec![0; max - 3]);
            kit::is_usable(&narrow_builder(subject).initializer(take::<Bytes>, most).build().expect("a pool"));
        }
        other => panic!("{other:?}"),
    }
}

fn an_argument_beyond_the_limit_is_not_accepted(subject: &Subject) {
    let pool = narrow(subject);
    match pool.submit(|bytes: Bytes| bytes.len(), Bytes::from(vec![0; LIMIT])) {
        Err(SubmitError::TooLarge { task, size, max }) => {
            assert!(task.contains("argument_beyond") && size > max && max < LIMIT, "{task} {size} {max}");
            // The most that fits is carried, beside what goes with it.
            let most = max - (size - LIMIT);
            let blob = |len: usize| Bytes::from(vec![0; len]);
            assert_eq!(call(&pool, |bytes: Bytes| bytes.len(), blob(most)).expect("a result"), most);
            assert!(pool.submit(|bytes: Bytes| bytes.len(), blob(most + 1)).is_err());
        }
        other => panic!("{other:?}"),
    }
    kit::is_usable(&pool);
}

fn a_result_beyond_the_limit_fails_its_call(subject: &Subject) {
    let pool = narrow(subject);
    let blob = |len: usize| Bytes::from(vec![7; len]);
    match call(&pool, blob, LIMIT) {
        Err(TaskError::TooLarge { task, size, max }) => {
            assert!(task.contains("result_beyond") && size > max && max <= LIMIT, "{task} {size} {max}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(call(&pool, blob, LIMIT - 100).expect("it fits").len(), LIMIT - 100);
    kit::is_usable(&pool);
}

fn panics(what: String) {
    panic!("{}", what.repeat(LIMIT));
}

fn a_panic_message_beyond_the_limit_is_cut_not_lost(subject: &Subject) {
    let pool = narrow(subject);
    let panic = panicked(call(&pool, panics, "long ".to_owned()));
    assert!(panic.message.starts_with("long long ") && panic.message.len() < LIMIT, "{}", panic.message.len());
    let panic = panicked(call(&pool, panics, "\u{1f4a5}".to_owned()));
    assert!(panic.message.starts_with('\u{1f4a5}'));
    kit::is_usable(&pool);
}

fn an_error_of_the_codec_beyond_the_limit_is_cut_not_lost(subject: &Subject) {
    /// A type with a very long name.
    #[derive(Debug, Serialize, Deserialize)]
    struct Pair<A, B>(A, B);
    type P1 = Pair<Trap, Trap>;
    type P4 = Pair<Pair<P1, P1>, Pair<P1, P1>>;
    type P16 = Pair<Pair<P4, P4>, Pair<P4, P4>>;
    type P64 = Pair<Pair<P16, P16>, Pair<P16, P16>>;
    type P128 = Pair<P64, P64>;
    let name = std::any::type_name::<P128>();
    let pool = subject.builder_of_frames(2048).max_workers(1).build().expect("a pool");
    assert!(name.len() > 2048, "{}", name.len());
    let error = not_carried(call(&pool, |()| Vec::<P128>::new().into_iter().next().ok_or(Flat::new()), ()));
    assert_eq!(error.step, CodecStep::EncodeResult);
    kit::is_usable(&pool);
}
