//! The laws of `pool_core::transport`, held against this transport.

use pool_transport_pipe::Pipe;
use xtests::transport::Candidate;

fn main() {
    xtests::transport::main(Candidate::of::<Pipe>("pipe").frames_up_to(|bytes| Pipe::new().frame_max(bytes)));
}
