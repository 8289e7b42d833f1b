//! Too few descriptors, for a while.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Leaves this process so many descriptors more, as long as it lives.
#[derive(Debug)]
pub(crate) struct Descriptors {
    usual: Rlimit,
    _plugs: Vec<File>,
}

impl Descriptors {
    pub(crate) fn limited_to(spare: u64) -> Self {
        let (plugs, used) = plug();
        let usual = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(used + spare), ..usual }).expect("set");
        Self { usual, _plugs: plugs }
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.usual).expect("set");
    }
}

/// Takes all numbers below the highest that is in use, so that a limit leaves exactly what it says.
fn plug() -> (Vec<File>, u64) {
    let mut plugs = Vec::new();
    loop {
        let next = File::open("/dev/null").expect("opens");
        let numbers = fs::read_dir("/proc/self/fd").expect("listed").flatten();
        let highest = numbers.filter_map(|fd| fd.file_name().to_str()?.parse().ok()).max();
        let number = next.as_raw_fd();
        plugs.push(next);
        // The listing itself took the one after.
        if highest <= Some(number + 1) {
            return (plugs, number as u64 + 1);
        }
    }
}
