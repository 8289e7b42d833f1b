//! Workers that are started by hand join a pool by name and token; strangers do not, and harm nobody.
//!
//! The worker is this program, started by the case with an invitation in its environment, as somebody would by hand.

#[cfg(not(windows))]
mod ends;
#[cfg(not(windows))]
mod joining;
#[cfg(not(windows))]
mod kit;
#[cfg(target_os = "linux")]
mod strangers;

#[cfg(not(windows))]
use process_pool::context::Way;

#[cfg(not(windows))]
fn main() {
    #[cfg(target_os = "linux")]
    if let Some(invitation) = std::env::var_os(strangers::STRANGER) {
        return strangers::knock(&invitation.into_string().expect("text"));
    }
    process_pool::worker_main()
        .transport(Way { name: "ipc", make: || Box::new(pool_transport_ipc::Ipc::new()) })
        .run();
    if std::env::var_os(ends::PARENT).is_some() {
        return ends::parent();
    }
    let everywhere = [joining::CASES, ends::CASES].concat();
    #[cfg(target_os = "linux")]
    let everywhere = [everywhere.as_slice(), strangers::CASES].concat();
    xtests::runner::main_with(&["attach+pipe".to_owned()], &everywhere);
}

#[cfg(windows)]
fn main() {
    println!(
        "skipped: attached workers are type-checked for Windows, and have not run there yet\n\n0 passed, 0 failed"
    );
}
