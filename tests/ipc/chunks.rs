//! `SharedChunks`: arrays whose parts are written to by one process at a time.

use std::fs;
use std::thread;

use concurrent_futures::ipc::{
    self, Abandoned, Chunk, ChunkGuard, FreezeError, Receiver, Sender, SharedChunks, SharedSlice,
    channel,
};
use concurrent_futures::{CodecSide, Error, PortableError, ThreadPoolExecutor, call};
use futures::FutureExt;
use futures::executor::block_on;
use serde::{Deserialize, Serialize};

use crate::program::alone;
use crate::support::{scaled, within_limit};
use crate::tools::{LONG, SHORT, end, lost, own_pid, pool};
use crate::watch::kill;

fn fill(chunk: Chunk<u32>) -> Result<(), PortableError> {
    let mut numbers = chunk.lock_blocking().map_err(ipc::Error::from)?;
    for (number, place) in chunk.range().zip(numbers.iter_mut()) {
        *place += number as u32;
    }
    Ok(())
}

fn sum(slice: SharedSlice<u32>) -> u64 {
    slice.iter().copied().map(u64::from).sum()
}

/// M-12, M-10.
#[test]
fn the_chunks_are_the_items_of_a_map_and_then_the_whole_is_a_slice() {
    within_limit(|| {
        for workers in [1, 2] {
            let pool = pool(workers);
            for (len, chunk_len) in [(1000, 7), (1000, 1000), (1000, usize::MAX), (12, 4), (1, 1)] {
                let array = SharedChunks::zeroed(len, chunk_len).unwrap();
                assert_eq!((array.len(), array.is_empty()), (len, false));
                assert_eq!(array.chunk_len(), chunk_len.min(len));
                let chunks = array.chunks();
                assert_eq!(chunks.len(), len.div_ceil(chunk_len));
                pool.try_map(fill, chunks).result().unwrap();
                let slice = array.freeze().unwrap();
                assert!(slice.iter().copied().eq(0..len as u32));
                let expected = (0..len as u64).sum::<u64>();
                assert_eq!(pool.submit(call!(sum(slice))).result().unwrap(), expected);
            }
            end(&pool);
        }
        let empty = SharedChunks::<f64>::zeroed(0, 5).unwrap();
        assert!(empty.is_empty() && empty.chunks().next().is_none());
        assert!(empty.freeze().unwrap().is_empty());
    });
}

/// Takes the chunk, says so, and has it until it is told to go on.
fn hold(chunk: Chunk<u64>, held: Sender<u32>, go_on: Receiver<()>) -> bool {
    match chunk.lock_blocking() {
        Ok(mut guard) => {
            guard[0] += 1;
            held.send_blocking(own_pid()).unwrap();
            go_on.recv_blocking().unwrap();
            guard[1] += 1;
            false
        }
        Err(_) => true,
    }
}

/// M-12.
#[test]
fn a_chunk_has_one_holder_in_whatever_process_and_the_others_are_free() {
    within_limit(|| {
        let pool = pool(1);
        let array = SharedChunks::zeroed(6, 2).unwrap();
        let chunk = array.chunk(1);
        let ((held, is_held), (go_on, goes_on)) = (channel(1).unwrap(), channel(1).unwrap());
        let holds = pool.submit(call!(hold(chunk.clone(), held, goes_on)));
        is_held.recv_blocking().unwrap();
        assert!(chunk.try_lock().is_none());
        assert!(chunk.lock_timeout(SHORT).is_none());
        assert!(chunk.lock().now_or_never().is_none());
        let (first, last) = (array.chunk(0), array.chunk(2));
        let mut others = [first.lock_blocking().unwrap(), last.try_lock().unwrap().unwrap()];
        others.iter_mut().for_each(|guard| guard.fill(9));
        let error = array.clone().freeze().unwrap_err();
        assert!(matches!(error, FreezeError::OtherHandle(_)), "{error}");
        drop(error);
        go_on.send_blocking(()).unwrap();
        assert_eq!(chunk.lock_blocking().unwrap()[..], [1, 1]);
        assert!(!holds.result().unwrap());
        drop((others, chunk, first, last));
        assert_eq!(array.freeze().unwrap()[..], [9, 9, 1, 1, 9, 9]);
        end(&pool);
    });
}

/// M-12, in one process, by threads and futures; a guard may go to another thread.
#[test]
fn threads_and_futures_wait_for_a_chunk() {
    within_limit(|| {
        let array = SharedChunks::zeroed(2, 1).unwrap();
        let add = |guard: Result<ChunkGuard<u64>, Abandoned<ChunkGuard<u64>>>| {
            let mut guard = guard.unwrap();
            let before = guard[0];
            thread::yield_now();
            guard[0] = before + 1;
            thread::spawn(move || drop(guard)).join().unwrap();
        };
        let times = scaled(300);
        thread::scope(|scope| {
            for n in 0..4 {
                let chunk = array.chunk(1);
                scope.spawn(move || {
                    for _ in 0..times {
                        add(match n % 3 {
                            0 => chunk.lock_blocking(),
                            1 => block_on(chunk.lock()),
                            _ => chunk.lock_timeout(LONG).unwrap(),
                        });
                    }
                });
            }
        });
        assert_eq!(array.freeze().unwrap()[..], [0, 4 * times as u64]);
    });
}

/// M-12.
#[test]
fn processes_take_turns_at_a_chunk_that_all_want() {
    fn add((array, times): (SharedChunks<u64>, u32)) {
        let chunk = array.chunk(0);
        for _ in 0..times {
            let mut guard = chunk.lock_blocking().unwrap();
            let [a, b] = &mut guard[..] else { panic!("it has two elements") };
            assert_eq!(a, b);
            *a += 1;
            *b += 1;
        }
    }
    within_limit(|| {
        let pool = pool(3);
        let array = SharedChunks::zeroed(2, 2).unwrap();
        let times = scaled(2_000) as u32;
        let items: Vec<_> = (0..6).map(|_| (array.clone(), times)).collect();
        pool.map(add, items).chunk_size(1).result().unwrap();
        // Also though some of them have waited until now.
        assert_eq!(array.freeze().unwrap()[..], [u64::from(6 * times); 2]);
        end(&pool);
    });
}

/// M-12, C-2: one that waits in any way has the chunk when its holder is killed, and is told.
#[test]
fn the_next_holder_after_one_that_was_killed_is_told() {
    within_limit(|| {
        let pool = pool(1);
        let array = SharedChunks::zeroed(4, 2).unwrap();
        let chunk = array.chunk(1);
        for round in 0..kills() {
            let ((held, is_held), (_go_on, goes_on)) = (channel(1).unwrap(), channel(1).unwrap());
            let holds = pool.submit(call!(hold(chunk.clone(), held, goes_on)));
            let pid = is_held.recv_blocking().unwrap();
            let waits = thread::spawn({
                let chunk = chunk.clone();
                move || {
                    let locked = match round % 3 {
                        0 => chunk.lock_blocking(),
                        1 => block_on(chunk.lock()),
                        _ => chunk.lock_timeout(LONG).unwrap(),
                    };
                    let abandoned = locked.unwrap_err();
                    assert!(abandoned.to_string().contains("half written"));
                    let mut guard = abandoned.into_inner();
                    assert_eq!(guard[..], [1, 0], "round {round}");
                    guard.fill(0);
                }
            });
            kill(pid);
            waits.join().unwrap();
            assert_eq!(chunk.try_lock().unwrap().unwrap()[..], [0, 0]);
            lost(holds.result());
        }
        drop(chunk);
        assert_eq!(array.freeze().unwrap()[..], [0; 4]);
        end(&pool);
    });
}

/// 200, or more by hand.
fn kills() -> usize {
    let kills = std::env::var("CF_TEST_KILLS").ok().map(|kills| kills.parse().unwrap());
    kills.unwrap_or_else(|| scaled(200))
}

/// M-12: processes that are killed at any moment, while four of them change two numbers of one chunk.
#[test]
fn a_chunk_that_is_half_written_is_seen_only_by_one_that_is_told() {
    fn change(chunk: Chunk<u64>, pids: Sender<u32>) {
        pids.send_blocking(own_pid()).unwrap();
        loop {
            let mut guard = chunk.lock_blocking().unwrap_or_else(|abandoned| {
                let mut guard = abandoned.into_inner();
                // Killed between its two stores, or before or after both.
                let [a, b] = guard[..2] else { panic!("it has three elements") };
                assert!(a == b || a == b + 1, "{a} {b}");
                guard[1] = a;
                guard
            });
            assert_eq!(guard[0], guard[1]);
            guard[0] += 1;
            std::hint::black_box(&mut guard);
            guard[1] += 1;
        }
    }
    within_limit(|| {
        let pool = pool(4);
        let array = SharedChunks::zeroed(3, 3).unwrap();
        let chunk = array.chunk(0);
        let (sender, pids) = channel(8).unwrap();
        let start = || pool.submit(call!(change(chunk.clone(), sender.clone())));
        let mut running: Vec<_> =
            (0..4).map(|_| (start(), pids.recv_blocking().unwrap())).collect();
        for round in 0..kills() {
            // Something was done since the last kill.
            let before = read(&chunk);
            while read(&chunk) == before {
                thread::yield_now();
            }
            let pid = running[round % 4].1;
            kill(pid);
            let started = (start(), pids.recv_blocking().unwrap());
            // It may have begun before the one that was killed had ended.
            let killed = std::mem::replace(&mut running[round % 4], started);
            lost(killed.0.result());
        }
        for (task, pid) in running {
            kill(pid);
            lost(task.result());
        }
        end(&pool);
    });

    fn read(chunk: &Chunk<u64>) -> u64 {
        let guard = chunk.lock_blocking().unwrap_or_else(|abandoned| {
            let mut guard = abandoned.into_inner();
            guard[1] = guard[0];
            guard
        });
        assert_eq!(guard[0], guard[1]);
        guard[0]
    }
}

/// M-13.
#[test]
fn there_may_be_very_many_chunks_and_no_more() {
    fn add(chunk: Chunk<u8>) -> usize {
        chunk.lock_blocking().unwrap()[0] += 1;
        chunk.index()
    }
    fn die_within(chunk: Chunk<u8>) {
        let _guard = chunk.lock_blocking();
        std::process::abort();
    }
    within_limit(|| {
        let pool = pool(2);
        let many = SharedChunks::zeroed(100_000, 1).unwrap();
        let indices = pool.map(add, many.chunks()).result().unwrap();
        assert!(indices.into_iter().eq(0..100_000));
        assert!(many.freeze().unwrap().iter().all(|byte| *byte == 1));
        let most = SharedChunks::zeroed(2 * 131_072, 2).unwrap();
        assert_eq!(most.chunks().len(), 131_072);
        lost(pool.submit(call!(die_within(most.chunk(131_071)))).result());
        assert!(most.chunk(131_071).lock_blocking().is_err());
        assert!(most.chunk(131_071).lock_blocking().is_ok());
        assert!(most.chunk(131_070).lock_blocking().is_ok());
        let error = SharedChunks::<u8>::zeroed(400_000, 2).unwrap_err();
        let text = "200000 chunks are more than 131072, the most that an array may have; make each at \
                    least 4 elements long";
        assert_eq!(error.to_string(), text);
        assert_eq!(SharedChunks::<u8>::zeroed(400_000, 4).unwrap().chunks().len(), 100_000);
        assert_eq!(
            SharedChunks::<u8>::zeroed(131_073, 1).unwrap_err().to_string().len(),
            text.len()
        );
        let error = SharedChunks::<u8>::zeroed(10, 0).unwrap_err();
        assert!(matches!(error, ipc::Error::InvalidSetting(_)), "{error}");
        let error = SharedChunks::<u64>::zeroed(usize::MAX, 1 << 50).unwrap_err();
        assert!(matches!(error, ipc::Error::Io { .. }), "{error}");
        end(&pool);
    });
}

/// M-7, M-10: also of those that were waited for.
#[test]
fn nothing_is_left_of_chunks() {
    fn wait(chunk: Chunk<u32>, waits: Sender<()>) -> u32 {
        waits.send_blocking(()).unwrap();
        chunk.lock_blocking().unwrap()[0]
    }
    alone("chunks::nothing_is_left_of_chunks", || {
        let descriptors = |pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let mappings = |pid| {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
            maps.lines().filter(|line| line.contains("memfd")).count()
        };
        let pool = pool(1);
        let (waits, is_there) = channel(1).unwrap();
        let round = |len: usize| {
            let array = SharedChunks::zeroed(len, 10).unwrap();
            let chunk = array.chunk(0);
            let mut guard = chunk.lock_blocking().unwrap();
            let task = pool.submit(call!(wait(chunk.clone(), waits.clone())));
            is_there.recv_blocking().unwrap();
            guard[0] = 5;
            drop((guard, chunk));
            assert_eq!(task.result().unwrap(), 5);
            // Nobody is left who waits, or has waited.
            assert_eq!(array.freeze().unwrap()[..2], [5, 0]);
        };
        round(20);
        let processes = [std::process::id(), pool.worker_pids()[0]];
        let before = processes.map(|pid| (descriptors(pid), mappings(pid)));
        (0..300).for_each(|n| round(20 + 1000 * (n % 10)));
        // A thread may look for a moment at what was waited for, also when there was nothing else yet.
        let is_more =
            |(now, before): ((usize, usize), (usize, usize))| now.0 > before.0 || now.1 > before.1;
        let now = || processes.map(|pid| (descriptors(pid), mappings(pid)));
        while now().into_iter().zip(before).any(is_more) {
            thread::yield_now();
        }
        end(&pool);
    });
}

#[test]
fn on_threads_chunks_are_the_same() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder().max_workers(2).build().unwrap();
        let array = SharedChunks::zeroed(100, 9).unwrap();
        pool.try_map(fill, array.chunks()).result().unwrap();
        pool.shutdown_blocking(concurrent_futures::Shutdown::Drain).unwrap();
        assert!(array.freeze().unwrap().iter().copied().eq(0..100));
    });
}

/// W-6, W-7.
#[test]
fn chunks_travel_as_other_handles_do_and_as_nothing_else() {
    #[derive(Serialize)]
    struct Sent(Chunk<u64>);
    // A type whose two sides do not agree.
    impl<'de> Deserialize<'de> for Sent {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Chunk::<f64>::deserialize(deserializer)?;
            unreachable!("it is of another type")
        }
    }
    fn receive(_: Sent) {}
    fn indices((array, chunk): (SharedChunks<u64>, Chunk<u64>)) -> (usize, Chunk<u64>) {
        chunk.lock_blocking().unwrap()[0] = 3;
        let last = array.chunk(array.chunks().len() - 1);
        assert!(last.lock_blocking().unwrap().iter().all(|number| *number == 0));
        (chunk.index(), last)
    }
    within_limit(|| {
        let pool = pool(1);
        let array = SharedChunks::zeroed(10, 4).unwrap();
        let json = serde_json::to_string(&array.chunk(0)).unwrap_err().to_string();
        assert!(json.starts_with("a Chunk<u64> can only be sent to a process"), "{json}");
        let error = pool.submit(call!(receive(Sent(array.chunk(0))))).result().unwrap_err();
        let Error::Codec(codec) = &error else { panic!("{error}") };
        assert_eq!(codec.side, CodecSide::DecodeArguments);
        assert!(codec.message.contains("a Chunk<u64> instead of a Chunk<f64>"), "{error}");
        let task = pool.submit(call!(indices((array.clone(), array.chunk(1)))));
        let (index, last) = task.result().unwrap();
        assert_eq!((index, last.index(), last.range()), (1, 2, 8..10));
        last.lock_blocking().unwrap()[1] = 7;
        drop(last);
        assert_eq!(array.freeze().unwrap()[4..], [3, 0, 0, 0, 0, 7]);
        end(&pool);
    });
}
