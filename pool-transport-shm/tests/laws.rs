//! The laws of `pool_core::transport`, held against this transport.

fn main() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use pool_transport_shm::Shm;
        use xtests::transport::{Candidate, main};

        main(Candidate::of::<Shm>("shm").frames_up_to(|bytes| Shm::new().frame_max(bytes)));
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    println!("skipped: there is no such transport on this system\n\n0 passed, 0 failed");
}
