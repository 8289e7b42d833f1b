//! Limits are measured on Linux only.

use crate::{Result, skip};

pub(crate) fn measure(_: &str, _: usize) -> Result<f64> {
    Err(skip("measured on Linux only"))
}

pub(crate) fn echo(_: usize, _: usize, _: usize) -> Result<f64> {
    Err(skip("measured on Linux only"))
}
