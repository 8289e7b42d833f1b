//! Scripts: a row of facts and the exact orders that follow.

use super::*;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
