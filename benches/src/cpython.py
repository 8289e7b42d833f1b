"""CPython's ProcessPoolExecutor (start method fork): prints µs per round trip and calls per second."""
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor

WORKERS, ROUND_TRIPS, CALLS = int(sys.argv[1]), 2000, 5000


def noop(n):
    return n


def main():
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        for handle in [pool.submit(noop, n) for n in range(100)]:
            handle.result()
        start = time.perf_counter()
        for n in range(ROUND_TRIPS):
            assert pool.submit(noop, n).result() == n
        round_trip = (time.perf_counter() - start) * 1e6 / ROUND_TRIPS
        start = time.perf_counter()
        handles = [pool.submit(noop, n) for n in range(CALLS)]
        assert [handle.result() for handle in handles] == list(range(CALLS))
        print(round_trip, CALLS / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
