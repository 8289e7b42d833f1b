//! This library as a subject: `ours/`, the transport, `+`, the start method, as in `ours/shm+exec`.

use std::time::Duration;

use process_pool::Context;
use process_pool::carry::Pipe;

use crate::Result;

/// Pipes that do not spin, which no context's name says.
pub(crate) const NO_SPIN: &str = "ours/pipe-no-spin+exec";

/// The subject that a context is, such as `exec+pipe`.
pub(crate) fn subject(context: &str) -> String {
    let (start_method, transport) = context.split_once('+').unwrap_or((context, "pipe"));
    format!("ours/{transport}+{start_method}")
}

/// The transport and the start method of a subject, if it is one of ours.
pub(crate) fn parts(subject: &str) -> Option<(&str, &str)> {
    subject.strip_prefix("ours/")?.split_once('+')
}

/// The context that a subject is.
pub(crate) fn context(subject: &str) -> Result<Context> {
    let (transport, start_method) = parts(subject).ok_or_else(|| format!("no such subject: {subject}"))?;
    match transport.strip_suffix("-no-spin") {
        Some("pipe") => Ok(start_method.parse::<Context>()?.transport(Pipe::new().spin(Duration::ZERO))),
        _ => Ok(format!("{start_method}+{transport}").parse()?),
    }
}

#[cfg(test)]
mod tests {
    use super::{NO_SPIN, context, parts, subject};

    #[test]
    fn a_subject_names_its_context() {
        assert_eq!(subject("forkserver+shm"), "ours/shm+forkserver");
        assert_eq!(parts("ours/shm+forkserver"), Some(("shm", "forkserver")));
        for name in ["exec+pipe", "fork+ipc"] {
            assert!(format!("{:?}", context(&subject(name)).unwrap()).contains(&name[..4]), "{name}");
        }
        assert!(context(NO_SPIN).is_ok());
        assert!(context("cpython").is_err());
    }
}
