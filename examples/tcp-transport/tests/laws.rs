//! The laws of `pool_core::transport`, held against this transport.

use tcp_transport::Tcp;
use xtests::transport::{self, Candidate};

fn main() {
    transport::main(Candidate::of::<Tcp>("tcp").frames_up_to(|bytes| Tcp::new().frame_max(bytes)));
}
