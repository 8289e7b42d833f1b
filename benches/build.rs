//! Tells the programs which compiler they are built with.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(compiler).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    // As in `rustc 1.95.0 (59807616e 2026-04-14)`.
    let version = String::from_utf8_lossy(&said).split_whitespace().nth(1).unwrap_or("unknown").to_owned();
    println!("cargo::rustc-env=BENCH_RUSTC={version}");
}
