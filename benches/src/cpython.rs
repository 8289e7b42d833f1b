//! CPython's `ProcessPoolExecutor`, where a `python3` is found.

use std::process::Command;

use crate::table::Figures;
use crate::{Result, Scale, skip};

const SCRIPT: &str = include_str!("cpython.py");

/// Its version, and whether it was built with profile-guided optimisation, which is worth 1.1 to 1.5 times.
pub(crate) fn version() -> Result<String> {
    let ask = "import sys, sysconfig; args = sysconfig.get_config_var('CONFIG_ARGS') or ''; \
               print(sys.version.split()[0], 'with PGO' if '--enable-optimizations' in args else 'without PGO')";
    python(&["-c", ask]).map(|text| text.trim().to_owned())
}

/// Runs one workload.
pub(crate) fn measure(workload: &str, scale: Scale) -> Result<Figures> {
    let how = if scale.quick { "quick" } else { "full" };
    Ok(Figures::read(&python(&["-c", SCRIPT, workload, how, &scale.times.to_string()])?))
}

fn python(args: &[&str]) -> Result<String> {
    let output =
        Command::new("python3").args(args).output().map_err(|error| skip(&format!("no python3: {error}")))?;
    if !output.status.success() {
        return Err(format!("python3 failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
