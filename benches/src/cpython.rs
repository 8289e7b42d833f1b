//! CPython, where a `python3` is found: `ProcessPoolExecutor`, and `multiprocessing.Pool`.

use std::process::Command;

use crate::table::Figures;
use crate::{Result, Scale, skip};

/// `ProcessPoolExecutor`.
pub(crate) const EXECUTOR: &str = "cpython";
/// `multiprocessing.Pool`.
pub(crate) const POOL: &str = "cpython/Pool";

const SCRIPT: &str = include_str!("cpython.py");

/// Its version, and whether it was built with profile-guided optimisation, which is worth 1.1 to 1.5 times.
pub(crate) fn version() -> Result<String> {
    let ask = "import sys, sysconfig; args = sysconfig.get_config_var('CONFIG_ARGS') or ''; \
               print(sys.version.split()[0], 'with PGO' if '--enable-optimizations' in args else 'without PGO')";
    python(&["-c", ask]).map(|text| text.trim().to_owned())
}

/// Measures one workload of one of the two.
pub(crate) fn measure(subject: &str, workload: &str, scale: Scale) -> Result<Figures> {
    let pool = match subject {
        EXECUTOR => "executor",
        POOL => "pool",
        other => return Err(format!("no such subject: {other}").into()),
    };
    let text = python(&["-c", SCRIPT, workload, pool, scale.how.name(), &scale.times.to_string()])?;
    match text.lines().find_map(|line| line.strip_prefix("skip ")) {
        Some(why) => Err(skip(why)),
        None => Ok(Figures::read(&text)),
    }
}

fn python(args: &[&str]) -> Result<String> {
    let output =
        Command::new("python3").args(args).output().map_err(|error| skip(&format!("no python3: {error}")))?;
    if !output.status.success() {
        return Err(format!("python3 failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
