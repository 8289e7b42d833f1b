"""CPython's pools (start method fork), for one workload: prints `figure NAME VALUE` lines, or `skip WHY`.

Arguments: the workload; `executor` for `ProcessPoolExecutor`, `pool` for `multiprocessing.Pool`; `full`, `quick`
or `first` (as full, the first case only); how many times as many calls.
"""
import collections
import math
import multiprocessing
import multiprocessing.pool
import os
import resource
import signal
import statistics
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

WORKLOAD, POOL, SCALE, TIMES = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
CONTEXT = multiprocessing.get_context("fork")
WORKERS = 2
clock = time.perf_counter


def of(full, quick):
    return (quick if SCALE == "quick" else full) * TIMES


def figure(name, value):
    print("figure", name, value, flush=True)


class Pool:
    """`multiprocessing.Pool` with the names of `ProcessPoolExecutor`."""

    def __init__(self, workers):
        self.pool = CONTEXT.Pool(workers)
        self.map = self.pool.map

    def submit(self, f, *args):
        return self.pool.apply_async(f, args)

    def shutdown(self):
        self.pool.close()
        self.pool.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()


multiprocessing.pool.ApplyResult.result = multiprocessing.pool.ApplyResult.get


def pool(workers=WORKERS):
    if POOL == "pool":
        return Pool(workers)
    return ProcessPoolExecutor(workers, mp_context=CONTEXT)


def warm(executor):
    for handle in [executor.submit(noop, n) for n in range(100)]:
        handle.result()


def usage():
    """CPU µs and context switches of this process and its children, as in `meter.rs`."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    cpu, switches = (own.ru_utime + own.ru_stime) * 1e6, own.ru_nvcsw + own.ru_nivcsw
    for child in multiprocessing.active_children():
        for task in os.listdir(f"/proc/{child.pid}/task"):
            with open(f"/proc/{child.pid}/task/{task}/schedstat") as file:
                cpu += int(file.read().split()[0]) / 1e3
            with open(f"/proc/{child.pid}/task/{task}/status") as file:
                switches += sum(int(line.split()[1]) for line in file if "ctxt_switches:" in line)
    return cpu, switches


def stretch(work, case, calls, report):
    """Runs `work`, and prints what `report` makes of its seconds and result, and what one call cost."""
    costs = os.path.exists("/proc/self/schedstat")
    before = usage() if costs else None
    start = clock()
    result = work()
    seconds = clock() - start
    if costs:
        after = usage()
        figure(f"{case}.cpu", (after[0] - before[0]) / calls)
        figure(f"{case}.switches", (after[1] - before[1]) / calls)
    figure(case, report(seconds, result))


def noop(n):
    return n


def work(us):
    start = clock()
    if us >= 1000:
        time.sleep(us / 1e6)
    while (clock() - start) * 1e6 < us:
        pass


def w1():
    count = of(4000, 500)
    with pool() as executor:
        warm(executor)

        def round_trips():
            means = []
            for first in range(0, count, 100):
                start = clock()
                for n in range(first, first + 100):
                    assert executor.submit(noop, n).result() == n
                means.append((clock() - start) * 1e6 / 100)
            return statistics.median(means)

        stretch(round_trips, "round trip", count, lambda _, result: result)
        figure("calls made", count)


def w2():
    count = of(20_000, 2_000)
    with pool() as executor:
        warm(executor)

        def calls():
            handles = [executor.submit(noop, n) for n in range(count)]
            assert [handle.result() for handle in handles] == list(range(count))

        stretch(calls, "calls", count, lambda seconds, _: count / seconds)
        figure("calls made", count)


def w2x():
    count = of(20_000, 2_000)
    for case, workers, threads in [
        ("2 workers", 2, 1),
        ("16 workers", 16, 1),
        ("64 workers", 64, 1),
        ("4 threads", 2, 4),
        ("16 threads", 2, 16),
    ]:
        with pool(workers) as executor:
            for handle in [executor.submit(work, 10_000) for _ in range(4 * workers)]:
                handle.result()
            each, done = count // threads, []

            def calls():
                handles = [executor.submit(noop, n) for n in range(each)]
                done.append([handle.result() for handle in handles] == list(range(each)))

            def all_calls():
                started = [threading.Thread(target=calls) for _ in range(threads - 1)]
                for thread in started:
                    thread.start()
                calls()
                for thread in started:
                    thread.join()
                assert done == [True] * threads

            stretch(all_calls, case, each * threads, lambda seconds, _: each * threads / seconds)


def w3():
    count = of(2_000_000, 200_000)
    with pool() as executor:
        warm(executor)

        def items():
            assert list(executor.map(noop, range(count), chunksize=1000)) == list(range(count))

        stretch(items, "items", count, lambda seconds, _: count / seconds)
        figure("calls made", count)


def w4():
    with pool() as executor:
        warm(executor)
        for case, size, window, count in [
            ("64 KiB", 64 << 10, 4, of(4000, 400)),
            ("1 MiB", 1 << 20, 4, of(400, 40)),
            ("64 MiB", 64 << 20, 2, of(8, 2)),
        ][: 1 if SCALE == "first" else 3]:
            figure("calls made", count)

            def echoes(blobs, count):
                pending = collections.deque()
                while blobs:
                    blob = blobs.pop(0)
                    pending.append((blob[0], executor.submit(noop, blob)))
                again = count - len(pending)
                while pending:
                    sent, oldest = pending.popleft()
                    blob = oldest.result()
                    del oldest
                    assert len(blob) == size and blob[0] == sent
                    if again > 0:
                        again -= 1
                        pending.append((sent, executor.submit(noop, blob)))

            def blobs():
                return [bytes([n + 1]) * size for n in range(window)]

            echoes(blobs(), window)
            made = blobs()
            stretch(lambda: echoes(made, count), case, count, lambda seconds, _: size * count / 1e9 / seconds)


def arrive():
    ARRIVALS.wait()


def w5():
    global ARRIVALS
    start = clock()
    executor = pool()
    executor.submit(noop, 1).result()
    figure("first result", (clock() - start) * 1e3)
    executor.shutdown()
    ARRIVALS = CONTEXT.Barrier(65)
    start = clock()
    executor = pool(64)
    handles = [executor.submit(arrive) for _ in range(64)]
    ARRIVALS.wait()
    figure("64 up", (clock() - start) * 1e3)
    for handle in handles:
        handle.result()
    start = clock()
    executor.shutdown()
    figure("64 stop", (clock() - start) * 1e3)


def primes(start, end):
    return sum(n > 1 and all(n % factor for factor in range(2, math.isqrt(n) + 1)) for n in range(start, end))


def w6():
    turns, turn, size, first = of(5, 1), 80, 160, 1_000_000
    alone = together = 0
    with pool() as executor:
        warm(executor)
        for at in range(turns):
            ranges = [(first + n * size, first + (n + 1) * size) for n in range(at * turn, (at + 1) * turn)]
            start = clock()
            expected = [primes(*numbers) for numbers in ranges]
            alone += clock() - start

            start = clock()
            handles = [executor.submit(primes, *numbers) for numbers in ranges]
            counts = [handle.result() for handle in handles]
            together += clock() - start
            assert counts == expected
    figure("speed-up", alone / together)


def busy(pid_to):
    os.write(pid_to, os.getpid().to_bytes(4, "little"))
    while True:
        pass


def w7():
    if POOL == "pool":
        print("skip a call whose worker is killed never ends")
        return
    read, write = os.pipe()
    errors, answers = [], []
    for _ in range(of(10, 3)):
        executor = pool(1)
        executor.submit(noop, 1).result()
        handle = executor.submit(busy, write)
        pid = int.from_bytes(os.read(read, 4), "little")
        start = clock()
        os.kill(pid, signal.SIGKILL)
        try:
            handle.result()
            raise AssertionError("it never returns")
        except BrokenProcessPool:
            errors.append(clock() - start)
        other = pool(1)
        other.submit(noop, 1).result()
        answers.append(clock() - start)
        executor.shutdown()
        other.shutdown()
    figure("error", statistics.median(errors) * 1e3)
    figure("next answer", statistics.median(answers) * 1e3)


def hold(arrived, leave):
    os.write(arrived, b"1")
    os.read(leave, 1)


def resident():
    """Memory of its own, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon:"))


def w8():
    count = of(100_000, 20_000)
    (arrivals, arrived), (leave, let_go) = os.pipe(), os.pipe()
    with pool(1) as executor:
        warm(executor)
        held = executor.submit(hold, arrived, leave)
        os.read(arrivals, 1)
        before, descriptors = resident(), len(os.listdir("/proc/self/fd"))
        handles = [executor.submit(noop, n) for n in range(count)]
        figure("each", (resident() - before) / count)
        figure("all", len(os.listdir("/proc/self/fd")) - descriptors)
        os.write(let_go, b"1")
        held.result()
        assert [handle.result() for handle in handles] == list(range(count))


def mixed():
    calls, state, times = of(1000, 200), 1, []
    for _ in range(calls):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        times.append(50_000 if (state >> 33) % 10 == 0 else 1)
    free_at = [0] * WORKERS
    for us in times:
        free_at[free_at.index(min(free_at))] += us
    with pool() as executor:
        warm(executor)

        def schedule():
            for handle in [executor.submit(work, us) for us in times]:
                handle.result()

        stretch(schedule, "schedule", calls, lambda seconds, _: seconds / (max(free_at) / 1e6))


if __name__ == "__main__":
    workloads = [w1, w2, w2x, w3, w4, w5, w6, w7, w8, mixed]
    {workload.__name__: workload for workload in workloads}[WORKLOAD]()
