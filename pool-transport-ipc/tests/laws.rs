//! The laws of `pool_core::transport`, held against this transport.

use pool_transport_ipc::Ipc;
use xtests::transport::Candidate;

fn main() {
    xtests::transport::main(Candidate::of::<Ipc>("ipc").frames_up_to(|bytes| Ipc::new().frame_max(bytes)));
}
