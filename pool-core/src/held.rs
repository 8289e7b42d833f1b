//! The worker context: what an initializer leaves in its worker, for the calls and the exit hook there.

use std::any::{Any, TypeId, type_name};
use std::fmt;

use crate::call::contained;
use crate::error::OtherContext;

/// A worker's context. Without an initializer, and with one that returns nothing, it is `()`.
#[derive(Default)]
pub(crate) struct Held(Option<Box<dyn Any>>);

impl Held {
    pub(crate) fn put<C: 'static>(&mut self, context: C) {
        self.0 = Some(Box::new(context));
    }

    pub(crate) fn get<C: 'static>(&mut self) -> Option<&mut C> {
        self.0.get_or_insert_with(|| Box::new(())).downcast_mut()
    }

    /// Takes it out; it is `()` then.
    pub(crate) fn take<C: 'static>(&mut self) -> Option<C> {
        self.get::<C>()?;
        let context = self.0.take()?.downcast().ok()?;
        Some(*context)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The user's code, which may panic; the worker has to come to its end all the same.
        if let Some(context) = self.0.take() {
            contained(|| drop(context));
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("is_empty", &self.0.is_none()).finish()
    }
}

/// The type of a pool's worker contexts, as the parent knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContextType {
    id: TypeId,
    name: &'static str,
}

impl ContextType {
    pub(crate) fn of<C: 'static>() -> Self {
        Self { id: TypeId::of::<C>(), name: type_name::<C>() }
    }

    /// Whether a function can have what it takes.
    pub(crate) fn check(self, task: &'static str, wanted: Self) -> Result<(), OtherContext> {
        if self.id == wanted.id {
            return Ok(());
        }
        Err(OtherContext { task, wanted: wanted.name, found: self.name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_had_by_its_type_alone() {
        let mut held = Held::default();
        assert!(held.get::<()>().is_some() && held.get::<u8>().is_none());
        held.put(7_u8);
        *held.get::<u8>().expect("it was put there") += 1;
        assert!(held.get::<()>().is_none() && held.take::<u16>().is_none());
        assert_eq!((held.take::<u8>(), held.take::<u8>(), held.take::<()>()), (Some(8), None, Some(())));
    }

    #[test]
    fn a_context_that_panics_when_dropped_is_dropped() {
        struct Trap;
        impl Drop for Trap {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }
        let mut held = Held::default();
        held.put(Trap);
        drop(held);
    }
}
