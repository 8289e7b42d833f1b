//! Backends that break one law each. The kit has to find that law broken, and no other.

#[cfg(target_os = "linux")]
mod spawner;
#[cfg(target_os = "linux")]
mod table;
#[cfg(target_os = "linux")]
mod transport;

#[cfg(target_os = "linux")]
fn main() {
    table::judge();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: many of these faults can be told on Linux only");
}
