//! The laws of `pool_core::transport`, held against this transport.

use tcp_transport::Tcp;
use xtests::transport::{self, Candidate};

fn main() {
    let candidate = Candidate::of::<Tcp>("tcp");
    transport::main(candidate.frames_up_to(|frame_max| Tcp { frame_max, ..Tcp::default() }));
}
