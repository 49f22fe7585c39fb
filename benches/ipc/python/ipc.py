"""A `multiprocessing.Queue` on the same work: `ipc.py MEASURE BYTES COUNT CPU CPU`; prints seconds."""

import multiprocessing
import os
import sys
import time


def other(measure, requests, replies, count, cpu):
    os.sched_setaffinity(0, {cpu})
    replies.put(b"ready")
    for _ in range(count):
        item = requests.get()
        if measure == "round_trip":
            replies.put(item)
    replies.put(b"done")


def main():
    measure, size, count, here, there = sys.argv[1], *map(int, sys.argv[2:])
    context = multiprocessing.get_context("fork")
    requests, replies = context.Queue(), context.Queue()
    process = context.Process(target=other, args=(measure, requests, replies, count, there))
    process.start()
    os.sched_setaffinity(0, {here})
    item = "x" * size if measure == "stream_text" else b"x" * size
    replies.get()
    begin = time.perf_counter()
    for _ in range(count):
        requests.put(item)
        if measure == "round_trip":
            replies.get()
    replies.get()
    print(time.perf_counter() - begin)
    process.join()


main()
