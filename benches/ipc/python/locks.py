"""What `multiprocessing` has of the same: `locks.py MEASURE COUNT`; prints seconds."""

import multiprocessing
import sys
import time

context = multiprocessing.get_context("fork")


def take_turns(lock, ready, start, count):
    ready.wait()
    start.wait()
    for _ in range(count):
        with lock:
            pass


def come(barrier, count):
    for _ in range(count):
        barrier.wait()


def uncontended(count):
    lock = context.Lock()
    begin = time.perf_counter()
    for _ in range(count):
        with lock:
            pass
    return time.perf_counter() - begin


def turns(count):
    lock, ready, start = context.Lock(), context.Barrier(5), context.Event()
    others = [context.Process(target=take_turns, args=(lock, ready, start, count // 4)) for _ in range(4)]
    for other in others:
        other.start()
    ready.wait()
    begin = time.perf_counter()
    start.set()
    for other in others:
        other.join()
    return time.perf_counter() - begin


def values(count):
    value = context.Value("Q", 0)
    begin = time.perf_counter()
    for _ in range(count):
        with value.get_lock():
            value.value += 1
    return time.perf_counter() - begin


def rounds(count):
    barrier = context.Barrier(4)
    others = [context.Process(target=come, args=(barrier, count + 1)) for _ in range(3)]
    for other in others:
        other.start()
    barrier.wait()
    begin = time.perf_counter()
    come(barrier, count)
    taken = time.perf_counter() - begin
    for other in others:
        other.join()
    return taken


measure, count = map(int, sys.argv[1:])
print({0: uncontended, 1: turns, 2: values, 4: rounds}[measure](count))
