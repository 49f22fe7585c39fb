"""The workloads that make sense in Python, for the comparison: one workload on one executor.

    python3 peers.py {threads|processes|pool} WORKLOAD COUNT

Prints the value of each metric on a line of its own, in the units of the Rust side.
"""

import concurrent.futures
import multiprocessing
import resource
import sys
import time

WORKERS = 2


def nothing():
    return None


def nothing_of(_):
    return None


def square(x):
    return x * x


def spin(steps):
    x = 1
    for _ in range(steps):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
    return x


def calibrate():
    """Steps of `spin` in a microsecond, on an idle thread."""
    steps, fastest = 10_000, float("inf")
    started = time.perf_counter()
    while time.perf_counter() - started < 0.05:
        start = time.perf_counter()
        spin(steps)
        fastest = min(fastest, time.perf_counter() - start)
    return steps / (fastest * 1e6)


def cpu_time():
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


class Executor:
    """`concurrent.futures`, with threads or processes."""

    def __init__(self, make):
        self.executor = make(max_workers=WORKERS)

    def burst(self, function, arguments):
        futures = [self.executor.submit(function, *a) for a in arguments]
        for future in futures:
            future.result()

    def as_completed(self, count):
        futures = [self.executor.submit(nothing) for _ in range(count)]
        for future in concurrent.futures.as_completed(futures):
            future.result()

    def one(self):
        self.executor.submit(nothing).result()

    def map(self, function, items):
        # The documentation advises large chunks for long inputs; it matters to processes only.
        chunk = max(1, len(items) // (WORKERS * 8))
        return list(self.executor.map(function, items, chunksize=chunk))

    def close(self):
        self.executor.shutdown()


class Pool:
    """`multiprocessing.Pool`."""

    def __init__(self):
        self.pool = multiprocessing.Pool(WORKERS)

    def burst(self, function, arguments):
        results = [self.pool.apply_async(function, a) for a in arguments]
        for result in results:
            result.get()

    def as_completed(self, count):
        for _ in self.pool.imap_unordered(nothing_of, range(count)):
            pass

    def one(self):
        self.pool.apply(nothing)

    def map(self, function, items):
        return self.pool.map(function, items)

    def close(self):
        self.pool.close()
        self.pool.join()


def share(count, micros, seconds):
    return count * micros / 1e6 / (WORKERS * seconds)


def timed(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure(executor, workload, count, steps_per_micro):
    """The values of all metrics but the CPU time."""
    if workload == "burst":
        return [timed(lambda: executor.burst(nothing, [()] * count)) * 1e9 / count]
    if workload == "as_completed":
        return [timed(lambda: executor.as_completed(count)) * 1e9 / count]
    if workload == "latency":
        times = sorted(timed(executor.one) * 1e6 for _ in range(count))
        return [times[len(times) // 2], times[len(times) * 99 // 100]]
    if workload == "map_squares":
        return [timed(lambda: executor.map(square, range(count))) * 1e9 / count]

    work, values = count, []
    lengths = [1, 10, 100, 1000] if workload == "efficiency" else [1, 10, 100]
    for micros in lengths:
        steps, tasks = int(steps_per_micro * micros), max(1, work // micros)
        if workload == "efficiency":
            seconds = timed(lambda: executor.burst(spin, [(steps,)] * tasks))
        else:
            seconds = timed(lambda: executor.map(spin, [steps] * tasks))
        values.append(share(tasks, micros, seconds))
    return values


def main():
    kind, workload, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    steps_per_micro = calibrate() if "efficiency" in workload else 0
    executor = {
        "threads": lambda: Executor(concurrent.futures.ThreadPoolExecutor),
        "processes": lambda: Executor(concurrent.futures.ProcessPoolExecutor),
        "pool": Pool,
    }[kind]()
    executor.burst(nothing, [()] * 100)  # All workers have started.

    before = cpu_time()
    values = measure(executor, workload, count, steps_per_micro)
    executor.close()  # The time of child processes counts when they have ended.
    for value in values:
        print(value)
    if workload == "burst":
        print((cpu_time() - before) * 1e9 / count)


if __name__ == "__main__":
    main()
