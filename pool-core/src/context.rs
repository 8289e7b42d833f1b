//! Contexts: which start method and which transport a pool uses, as one argument, by value or by name.
//!
//! CPython's `mp_context`. Names are known from `init()`: the entry of a program says what it can do, once,
//! for parent and worker alike.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::error::BuildError;
use crate::function::Tasks;
use crate::spawner::{Entry, SpawnError, Spawner};
use crate::transport::Transport;

/// A start method that `init()` makes known by name.
#[derive(Debug)]
pub struct StartMethod {
    /// Its name.
    pub name: &'static str,
    /// Makes one with its usual settings.
    pub make: fn() -> Box<dyn Spawner>,
    /// The worker's side, for those whose workers begin with `main`.
    pub entry: Option<Box<dyn Entry>>,
}

/// A transport that `init()` makes known by name, in the parent and in its workers.
#[derive(Debug)]
pub struct Way {
    /// Its name.
    pub name: &'static str,
    /// Makes one with its usual settings.
    pub make: fn() -> Box<dyn Transport>,
}

/// What a program's entry made known.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) start_methods: Vec<StartMethod>,
    /// Those of start methods that have no name.
    pub(crate) entries: Vec<Box<dyn Entry>>,
    pub(crate) ways: Vec<Way>,
    /// Chooses another than the platform's.
    pub(crate) default_transport: Option<fn() -> &'static str>,
    /// For workers of start methods whose workers begin elsewhere than in `main`, too.
    pub(crate) tasks: Tasks,
}

static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// Makes the names known; the first call in a process stands.
pub(crate) fn register(registry: Registry) -> &'static Registry {
    REGISTRY.get_or_init(|| registry)
}

/// What is known, if anything is.
pub(crate) fn registered() -> Option<&'static Registry> {
    REGISTRY.get()
}

/// The start methods there are, with CPython's names for them, and the features that bring them.
const START_METHODS: &[(&str, &str)] =
    &[("exec", "exec"), ("spawn", "exec"), ("forkserver", "forkserver"), ("fork", "fork")];
/// The transports there are.
const TRANSPORTS: &[&str] = &["pipe", "ipc", "shm"];

/// Those that not every system has, whatever is compiled in; and what to use instead.
const NOT_HERE: &[(&str, &str)] = &[
    #[cfg(not(unix))]
    ("forkserver", "exec"),
    #[cfg(not(unix))]
    ("fork", "exec"),
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    ("shm", "pipe"),
];

/// The default start method, on every platform.
const DEFAULT_METHOD: &str = "exec";

/// The default transport: the platform's, unless this program has found that it does not work here.
fn default_transport() -> &'static str {
    let usual = if cfg!(any(target_os = "linux", target_os = "android")) { "shm" } else { "pipe" };
    REGISTRY.get().and_then(|known| known.default_transport).map_or(usual, |choose| choose())
}

/// A name that no context has, or one that this program lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// No such name.
    #[error("unknown {what} `{name}`: known are {known}")]
    Unknown {
        /// `"start method"` or `"transport"`.
        what: &'static str,
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The name is known, but what it names is not part of this program.
    #[error("the {what} `{name}` is not compiled in: enable the feature `{name}` of process-pool")]
    NotCompiledIn {
        /// `"start method"` or `"transport"`.
        what: &'static str,
        /// The name, which is the feature's too.
        name: String,
    },
    /// The name is known, but this system does not have what it names.
    #[error("there is no {what} `{name}` on this system: use `{instead}`")]
    NotHere {
        /// `"start method"` or `"transport"`.
        what: &'static str,
        /// The name.
        name: String,
        /// What every system has.
        instead: &'static str,
    },
}

enum Choice<T: ?Sized> {
    Named(String),
    Value(Box<T>),
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for Choice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Value(value) => value.fmt(f),
        }
    }
}

/// A start method and a transport.
///
/// By name, with [`parse`](str::parse): a start method, `"exec"` (`"spawn"`, as CPython calls it), `"forkserver"`
/// or `"fork"`, with a transport, `"pipe"`, `"shm"` (Linux) or `"ipc"`, as in `"forkserver+pipe"`; without one it is
/// the default. By value: [`Context::new`].
///
/// The default does not depend on what is compiled in; if it is not, building a pool without naming another context
/// is an error that names the feature.
///
/// | platform | default |
/// |---|---|
/// | Linux | `exec+shm`; `exec+pipe` where the system refuses memory to share (no `memfd_create`) |
/// | other Unix, Windows | `exec+pipe` |
pub struct Context {
    start_method: Choice<dyn Spawner>,
    transport: Choice<dyn Transport>,
}

impl Context {
    /// A context of this start method and this transport, which may be your own.
    pub fn new(start_method: impl Spawner + 'static, transport: impl Transport + 'static) -> Self {
        Self { start_method: Choice::Value(Box::new(start_method)), transport: Choice::Value(Box::new(transport)) }
    }

    /// The same, with another start method.
    #[must_use]
    pub fn start_method(self, start_method: impl Spawner + 'static) -> Self {
        Self { start_method: Choice::Value(Box::new(start_method)), ..self }
    }

    /// The same, with another transport.
    #[must_use]
    pub fn transport(self, transport: impl Transport + 'static) -> Self {
        Self { transport: Choice::Value(Box::new(transport)), ..self }
    }

    /// Whether this system, and this program, have what the context is made of. Starts nothing.
    ///
    /// # Errors
    /// What is lacking, as [`Builder::build`](crate::Builder::build) would say it: [`BuildError::Context`] or
    /// [`BuildError::Spawn`] for a name that is not compiled in, or does not exist on this system, or in a program that
    /// has not called `init()`; [`BuildError::Spawn`] or [`BuildError::Transport`] for a value that this system lacks what
    /// it takes for.
    pub fn supported(&self) -> Result<(), BuildError> {
        match &self.start_method {
            Choice::Value(spawner) => spawner.supported(),
            Choice::Named(name) => start_method(name)?.supported(),
        }?;
        match &self.transport {
            Choice::Value(transport) => has(transport.as_ref()),
            Choice::Named(name) => has(way(name)?.as_ref()),
        }
    }

    /// Finds what the names mean, and that this system has it.
    pub(crate) fn resolve(self) -> Result<Backends, BuildError> {
        let spawner = match self.start_method {
            Choice::Value(spawner) => spawner,
            Choice::Named(name) => start_method(&name)?,
        };
        let transport = match self.transport {
            Choice::Value(transport) => transport,
            Choice::Named(name) => way(&name)?,
        };
        spawner.supported()?;
        has(transport.as_ref())?;
        Ok((spawner, transport))
    }
}

fn has(transport: &dyn Transport) -> Result<(), BuildError> {
    transport.supported().map_err(|why| BuildError::Transport { name: transport.name().to_owned(), why })
}

fn start_method(name: &str) -> Result<Box<dyn Spawner>, BuildError> {
    let known = REGISTRY.get().ok_or(SpawnError::InitNotCalled)?;
    let found = known.start_methods.iter().find(|method| method.name == name);
    Ok((found.ok_or_else(|| missing("start method", name))?.make)())
}

fn way(name: &str) -> Result<Box<dyn Transport>, BuildError> {
    let known = REGISTRY.get().ok_or(SpawnError::InitNotCalled)?;
    let found = known.ways.iter().find(|way| way.name == name);
    Ok((found.ok_or_else(|| missing("transport", name))?.make)())
}

/// What a context stands for.
pub(crate) type Backends = (Box<dyn Spawner>, Box<dyn Transport>);

fn missing(what: &'static str, name: &str) -> ContextError {
    let not_here = NOT_HERE.iter().find(|(other, _)| *other == name);
    let name = name.to_owned();
    match not_here {
        Some((_, instead)) => ContextError::NotHere { what, name, instead },
        None => ContextError::NotCompiledIn { what, name },
    }
}

impl Default for Context {
    fn default() -> Self {
        let (method, transport) = (DEFAULT_METHOD.to_owned(), default_transport().to_owned());
        Self { start_method: Choice::Named(method), transport: Choice::Named(transport) }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}+{:?}", self.start_method, self.transport)
    }
}

impl FromStr for Context {
    type Err = ContextError;

    fn from_str(text: &str) -> Result<Self, ContextError> {
        let (method, transport) = text.split_once('+').unwrap_or_else(|| (text, default_transport()));
        let registered = REGISTRY.get();
        let own_method = registered.is_some_and(|known| known.start_methods.iter().any(|own| own.name == method));
        let method = match START_METHODS.iter().find(|(name, _)| *name == method) {
            Some((_, canonical)) => (*canonical).to_owned(),
            None if own_method => method.to_owned(),
            None => {
                let own = registered.iter().flat_map(|known| known.start_methods.iter().map(|own| own.name));
                let known = START_METHODS.iter().map(|(name, _)| *name);
                return Err(unknown("start method", method, known, own));
            }
        };
        let own_way = registered.is_some_and(|known| known.ways.iter().any(|own| own.name == transport));
        if !own_way && !TRANSPORTS.contains(&transport) {
            let own = registered.iter().flat_map(|known| known.ways.iter().map(|own| own.name));
            return Err(unknown("transport", transport, TRANSPORTS.iter().copied(), own));
        }
        Ok(Self { start_method: Choice::Named(method), transport: Choice::Named(transport.to_owned()) })
    }
}

fn unknown<'a>(
    what: &'static str,
    name: &str,
    ours: impl Iterator<Item = &'a str>,
    registered: impl Iterator<Item = &'a str>,
) -> ContextError {
    let mut known: Vec<_> = ours.collect();
    for own in registered {
        if !known.contains(&own) {
            known.push(own);
        }
    }
    ContextError::Unknown { what, name: name.to_owned(), known: known.join(", ") }
}

/// The names of the contexts that this program can use here: every start method with every transport that its
/// `init()` made known, and that this system [supports](Context::supported). Empty before `init()`.
pub fn available() -> Vec<String> {
    let Some(known) = REGISTRY.get() else { return Vec::new() };
    let ways: Vec<_> = known.ways.iter().filter(|way| (way.make)().supported().is_ok()).collect();
    let methods = known.start_methods.iter().filter(|method| (method.make)().supported().is_ok());
    methods.flat_map(|method| ways.iter().map(|way| format!("{}+{}", method.name, way.name))).collect()
}
