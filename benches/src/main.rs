//! Side-by-side measurements.
use process_pool::*;
use std::time::Instant;
fn noop(n: u64) -> u64 {
    n
}
fn main() {
    process_pool::init();
    let pool = Executor::builder().max_workers(2).build().unwrap();
    pool.submit(noop, 1).unwrap().result().unwrap();
    pool.submit(noop, 1).unwrap().result().unwrap();
    for _ in 0..3 {
        let n = 20000;
        let t = Instant::now();
        for i in 0..n {
            assert_eq!(pool.submit(noop, i).unwrap().result().unwrap(), i);
        }
        println!("rt {:.1} us", t.elapsed().as_secs_f64() * 1e6 / n as f64);
        let n = 200000;
        let t = Instant::now();
        let hs: Vec<_> = (0..n).map(|i| pool.submit(noop, i).unwrap()).collect();
        let t1 = t.elapsed();
        for (i, h) in hs.into_iter().enumerate() {
            assert_eq!(h.result().unwrap(), i as u64);
        }
        println!("w2 {:.0}/s (submit {:?} of {:?})", n as f64 / t.elapsed().as_secs_f64(), t1, t.elapsed());
        let t = Instant::now();
        let n = 5_000_000u64;
        let s: u64 = pool.map(noop, 0..n).chunksize(1000).buffersize(100000).map(|r| r.unwrap()).sum();
        assert_eq!(s, n * (n - 1) / 2);
        println!("w3 {:.1} M/s", n as f64 / t.elapsed().as_secs_f64() / 1e6);
    }
}
