"""The measures that make sense in Python: one measure with one way of starting workers.

    python3 processes.py MEASURE {fork|forkserver|spawn} COUNT

Prints the value of each metric on a line of its own, in the units of the Rust side.
"""

import multiprocessing
import os
import random
import signal
import statistics
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor


def nothing():
    return None


def square(x):
    return x * x


def ones(data):
    """Reads all bytes; their sum would be a loop of the interpreter."""
    return data.count(1)


def spin():
    x = 1
    for _ in range(2_000):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
    return x


def spin_and_add(number):
    return spin() + number


def timed(action):
    start = time.perf_counter()
    value = action()
    return value, time.perf_counter() - start


def squares(pool, count, **options):
    """Milliseconds."""
    values, seconds = timed(lambda: list(pool.map(square, range(count), **options)))
    assert values[-1] == (count - 1) ** 2
    return seconds * 1e3


def round_trips(pool, count):
    trip = lambda: pool.submit(nothing).result()
    for _ in range(count // 20 + 1):
        trip()
    times = sorted(timed(trip)[1] * 1e6 for _ in range(count))
    return [times[len(times) // 2], times[len(times) * 99 // 100]]


def memory(pid):
    """In MB, by kind."""
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        lines = [line.split() for line in rollup][1:]
    return {kind: int(size) * 1024 / 1e6 for kind, size, *_ in lines}


def parent_of(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(next(line for line in status if line.startswith("PPid:")).split()[1])


class Bench:
    def __init__(self, method):
        self.context = multiprocessing.get_context(method)

    def pool(self, workers, **options):
        return ProcessPoolExecutor(workers, mp_context=self.context, **options)

    def start(self, count):
        times = []
        for _ in range(count):
            start = time.perf_counter()
            pool = self.pool(1)
            pool.submit(os.getpid).result()
            times.append(time.perf_counter() - start)
            pool.shutdown()
        return [times[0] * 1e3, statistics.median(times[1:]) * 1e3]

    def process(self, count):
        def run():
            process = self.context.Process(target=nothing)
            process.start()
            process.join()
            assert process.exitcode == 0

        times = [timed(run)[1] * 1e3 for _ in range(count)]
        further = statistics.median(times[1:])
        return [times[0], further, further]

    def replacement(self, count):
        with self.pool(1, max_tasks_per_child=1) as pool:
            worker, times = pool.submit(os.getpid).result(), []
            for _ in range(count):
                following, seconds = timed(lambda: pool.submit(os.getpid).result())
                assert following != worker
                worker = following
                times.append(seconds)
        return [statistics.median(times) * 1e3]

    def round_trip(self, count):
        with self.pool(1) as pool:
            return round_trips(pool, count)

    def round_trip_apart(self, count):
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cpus[:1])
        with self.pool(1) as pool:
            os.sched_setaffinity(pool.submit(os.getpid).result(), cpus[-1:])
            return round_trips(pool, count)

    def burst(self, count):
        def burst(count):
            futures = [pool.submit(nothing) for _ in range(count)]
            for future in futures:
                future.result()

        with self.pool(2) as pool:
            burst(max(1, count // 10))
            rates = [count / timed(lambda: burst(count))[1] for _ in range(3)]
        return [statistics.median(rates)]

    def map(self, count):
        """In the default chunks of one item, once; the time is scaled to 1,000,000."""
        with self.pool(2) as pool:
            pool.submit(nothing).result()
            return [squares(pool, count) * 1_000_000 / count]

    def map_in_chunks(self, count):
        with self.pool(2) as pool:
            pool.submit(nothing).result()
            return [statistics.median(squares(pool, count, chunksize=10_000) for _ in range(5))]

    def payload(self, mebibytes):
        data = bytes(i % 251 for i in range(251)) * ((mebibytes << 20) // 251)
        right = data.count(1)
        with self.pool(1) as pool:
            times = []
            for _ in range(7):
                value, seconds = timed(lambda: pool.submit(ones, data).result())
                assert value == right
                times.append(seconds)
        return [statistics.median(times[2:]) * 1e3]

    def chaos(self, count):
        work, done, killed = spin(), threading.Event(), 0

        def kill():
            nonlocal killed
            while not done.wait(0.05):
                # Once it is broken, the pool has no workers.
                if workers := list(pool._processes or ()):
                    os.kill(random.choice(workers), signal.SIGKILL)
                    killed += 1

        def result(future):
            try:
                return future.result()
            except Exception:
                return None

        pool = self.pool(2)
        pool.submit(nothing).result()
        killer = threading.Thread(target=kill)
        killer.start()

        def run():
            futures = []
            for number in range(count):
                try:
                    futures.append(pool.submit(spin_and_add, number))
                except Exception:
                    break
            return sum(result(f) == work + n for n, f in enumerate(futures))

        right, seconds = timed(run)
        done.set()
        killer.join()
        pool.shutdown()
        return [right, killed, seconds * 1e3]

    def idle(self, count):
        with self.pool(1) as pool:
            for _ in range(count):
                worker = pool.submit(os.getpid).result()
            time.sleep(0.005)
            own, parent = memory(worker), parent_of(worker)
            helper = float("nan") if parent == os.getpid() else memory(parent)["Pss:"]
        return [own["Pss:"], own["Private_Clean:"] + own["Private_Dirty:"], helper]


def main():
    signal.alarm(60)  # A limit against hangs.
    measure, method, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    for value in getattr(Bench(method), measure)(count):
        print(value)


if __name__ == "__main__":
    main()
