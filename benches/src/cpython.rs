//! CPython's `ProcessPoolExecutor`, where a `python3` is found.

use std::process::Command;

use crate::{Figures, WORKERS};

const SCRIPT: &str = include_str!("cpython.py");

/// Its version, and whether it was built with profile-guided optimisation, which is worth 1.1 to 1.5 times.
pub(crate) fn version() -> Result<String, String> {
    let ask = "import sys, sysconfig; print(sys.version.split()[0], \
               'with PGO' if 'profile' in (sysconfig.get_config_var('CONFIG_ARGS') or '') \
               or 'optimizations' in (sysconfig.get_config_var('CONFIG_ARGS') or '') else 'without PGO')";
    python(&["-c", ask]).map(|text| text.trim().to_owned())
}

pub(crate) fn run() -> Result<Figures, String> {
    let printed = python(&["-c", SCRIPT, &WORKERS.to_string()])?;
    let figures: Vec<f64> = printed.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match figures[..] {
        [round_trip_us, calls_per_s] => Ok(Figures { round_trip_us, calls_per_s }),
        _ => Err(format!("python3 printed something else: {printed}")),
    }
}

fn python(args: &[&str]) -> Result<String, String> {
    let output = Command::new("python3").args(args).output().map_err(|error| format!("no python3: {error}"))?;
    if !output.status.success() {
        return Err(format!("python3 failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
