//! What must compile, and what must not, with the text that says what to do instead.
//!
//! `TRYBUILD=overwrite cargo test --test compile` writes the expected texts anew; read them before you commit
//! them. They hold for the compiler of the workspace's `rust-version`; others may word them otherwise.

#[test]
fn promises_hold_and_mistakes_are_explained() {
    if std::env::var_os("XPLAT_WINE").is_some() {
        println!("skipped under Wine: these cases start cargo, which is not there");
        return;
    }
    // The words are those of one compiler.
    let promised = concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"), ".");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = std::process::Command::new(rustc).arg("--version").output().expect("it runs").stdout;
    let version = String::from_utf8_lossy(&version);
    if !version.starts_with(promised) {
        println!("skipped: the texts are those of {promised}x, and this is {version}");
        return;
    }
    let cases = trybuild::TestCases::new();
    // A case that passes makes trybuild build all of them. Merely checked, closures that capture would pass:
    // whether a function has a size is found out when the call of it is compiled.
    cases.pass("tests/compile/pass/*.rs");
    cases.compile_fail("tests/compile/fail/*.rs");
}
