//! `SharedArray`: numbers that all processes write to.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use concurrent_futures::ipc::{self, AtomicElement, FreezeError, SharedArray, SharedSlice};
use concurrent_futures::{CodecSide, Error, Process, ThreadPoolExecutor, call};
use serde::{Deserialize, Serialize};

use crate::program::{Program, alone, part, say};
use crate::support::within_limit;
use crate::tools::{Gate, Reports, end, pool};

/// M-1, M-6.
#[test]
fn a_process_reads_what_was_put_in_and_its_maker_what_it_writes() {
    fn square(numbers: SharedArray<i64>, floats: SharedArray<f64>) -> (i64, f64) {
        for index in 0..numbers.len() {
            numbers.update(index, |number| number * number);
            floats.store(index, floats.load(index) / 2.0);
        }
        (numbers.to_vec().iter().sum(), floats.to_vec().iter().sum())
    }
    fn made(len: usize) -> SharedArray<i64> {
        SharedArray::new(vec![7; len]).unwrap()
    }
    within_limit(|| {
        for workers in [1, 2] {
            let pool = pool(workers);
            let numbers = SharedArray::new([1, -2, 3]).unwrap();
            let floats = SharedArray::new([1.0, 0.5, -4.0]).unwrap();
            let task = pool.submit(call!(square(numbers.clone(), floats.clone())));
            assert_eq!(task.result().unwrap(), (14, -1.25));
            assert_eq!(numbers.to_vec(), [1, 4, 9]);
            assert_eq!(floats.to_vec(), [0.5, 0.25, -2.0]);
            // Its maker has dropped its own.
            let task = pool.submit(call!(square(numbers, floats)));
            assert_eq!(task.result().unwrap(), (98, -0.625));
            let made = pool.submit(call!(made(300_000))).result().unwrap();
            assert_eq!((made.len(), made.add(299_999, 1), made.load(299_999)), (300_000, 7, 8));
            end(&pool);
        }
    });
}

/// M-2.
#[test]
fn zeros_are_there_for_elements_of_all_types() {
    fn zeros<T: AtomicElement + From<u8>>() {
        let array = SharedArray::<T>::zeroed(1000).unwrap();
        assert_eq!((array.len(), array.is_empty()), (1000, false));
        assert!(array.to_vec().iter().all(|element| *element == T::from(0)));
        array.store(999, T::from(9));
        assert_eq!(array.swap(999, T::from(3)), T::from(9));
        assert_eq!(array.sub(999, T::from(1)), T::from(3));
        assert_eq!(array.max(999, T::from(7)), T::from(2));
        assert_eq!(array.min(999, T::from(8)), T::from(7));
        assert_eq!(array.compare_exchange(999, T::from(6), T::from(1)), Err(T::from(7)));
        assert_eq!(array.compare_exchange(999, T::from(7), T::from(1)), Ok(T::from(7)));
        assert_eq!([array.load(998), array.load(999)], [T::from(0), T::from(1)]);
    }
    zeros::<u8>();
    zeros::<u16>();
    zeros::<u32>();
    zeros::<u64>();
    zeros::<usize>();
    zeros::<i16>();
    zeros::<i32>();
    zeros::<i64>();
    zeros::<isize>();
    zeros::<f32>();
    zeros::<f64>();
    assert_eq!(SharedArray::new([-1_i8]).unwrap().load(0), -1);
}

/// M-3.
#[test]
fn parts_are_copied_in_and_out_and_others_panic() {
    let array = SharedArray::<u16>::zeroed(10).unwrap();
    array.write(3, &[1, 2, 3]);
    array.write(10, &[]);
    let mut part = [9; 5];
    array.read(2, &mut part);
    assert_eq!(part, [0, 1, 2, 3, 0]);
    array.read(10, &mut []);
    assert_eq!(format!("{array:?}"), "[0, 0, 0, 1, 2, 3, 0, 0, 0, 0]");
    let wrong: [&dyn Fn(); 8] = [
        &|| assert_eq!(array.load(10), 1),
        &|| array.store(usize::MAX, 1),
        &|| assert_eq!(array.add(10, 1), 1),
        &|| assert_eq!(array.update(10, |_| 1), 1),
        &|| array.write(8, &[7; 3]),
        &|| array.write(11, &[]),
        &|| array.read(8, &mut [7; 3]),
        &|| array.read(usize::MAX, &mut [7; 3]),
    ];
    for wrong in wrong {
        let panic = catch_unwind(AssertUnwindSafe(wrong)).unwrap_err();
        let text = panic.downcast::<String>().unwrap();
        assert!(text.contains("out of"), "{text}");
    }
    assert_eq!(array.to_vec(), [0, 0, 0, 1, 2, 3, 0, 0, 0, 0]);
}

/// M-4.
#[test]
fn arrays_may_be_empty_and_a_length_that_overflows_is_an_error() {
    fn len(array: SharedArray<f32>) -> (usize, Vec<f32>) {
        (array.len(), array.to_vec())
    }
    within_limit(|| {
        let pool = pool(1);
        let array = SharedArray::zeroed(0).unwrap();
        assert!(array.is_empty());
        assert_eq!(pool.submit(call!(len(array.clone()))).result().unwrap(), (0, vec![]));
        assert!(array.freeze().unwrap().is_empty());
        end(&pool);
    });
    for len in [usize::MAX, usize::MAX / 8, isize::MAX as usize / 8 + 1, 1 << 58] {
        let error = SharedArray::<u64>::zeroed(len).unwrap_err();
        assert_eq!(error.to_string(), "there is no shared memory for the elements");
        assert!(std::error::Error::source(&error).is_some());
    }
}

/// M-10.
#[test]
fn an_array_is_frozen_when_no_other_process_has_it() {
    fn fill((array, from): (SharedArray<u32>, u32)) {
        (from..from + 100).for_each(|n| array.store(n as usize, n));
    }
    fn hold(array: SharedArray<u32>, has_it: Reports, gate: Gate) -> usize {
        has_it.add(1);
        gate.wait();
        array.len()
    }
    fn sum(slice: SharedSlice<u32>) -> u32 {
        slice.iter().sum()
    }
    within_limit(|| {
        for workers in [1, 2] {
            let pool = pool(workers);
            for _ in 0..20 {
                let array = SharedArray::zeroed(1000).unwrap();
                // What is written before the result is there, and so is the end of the mapping.
                let all = array.clone();
                let items = (0..1000).step_by(100).map(move |n| (all.clone(), n));
                pool.map(fill, items).result().unwrap();
                let slice = array.freeze().unwrap();
                assert!(slice.iter().copied().eq(0..1000));
                assert_eq!(pool.submit(call!(sum(slice))).result().unwrap(), 499_500);
            }
            let array = SharedArray::zeroed(1000).unwrap();
            let (has_it, gate) = (Reports::new(), Gate::new());
            let held = pool.submit(call!(hold(array.clone(), has_it.clone(), gate.clone())));
            has_it.wait_for(1);
            let error = array.freeze().unwrap_err();
            let FreezeError::OtherProcess(array) = error else { panic!("{error}") };
            assert_eq!(array.add(5, 5), 0);
            let clone = array.clone();
            let error = array.freeze().unwrap_err();
            assert!(matches!(error, FreezeError::OtherHandle(_)), "{error}");
            let array = error.into_inner();
            drop(clone);
            gate.open();
            assert_eq!(held.result().unwrap(), 1000);
            assert_eq!(array.freeze().unwrap()[4..6], [0, 5]);
            end(&pool);
        }
    });
}

/// M-10: a task that waits in the queue has none, and nor has one whose worker dies.
#[test]
fn what_is_on_its_way_to_a_task_and_what_a_process_had_that_died_is_no_handle() {
    fn len(array: SharedArray<u32>) -> usize {
        array.len()
    }
    fn die(array: SharedArray<u32>) {
        array.store(0, 1);
        std::process::abort();
    }
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = crate::tools::occupy(&pool, &gate);
        let array = SharedArray::zeroed(10).unwrap();
        let queued = pool.submit(call!(len(array.clone())));
        let slice = array.freeze().unwrap();
        gate.open();
        held.result().unwrap();
        let error = queued.result().unwrap_err();
        let Error::Codec(codec) = &error else { panic!("{error}") };
        assert!(codec.message.contains("frozen"), "{error}");
        assert_eq!(slice.len(), 10);
        let array = SharedArray::zeroed(10).unwrap();
        assert!(pool.submit(call!(die(array.clone()))).result().is_err());
        assert_eq!(array.freeze().unwrap()[..2], [1, 0]);
        end(&pool);
    });
}

/// M-10: whoever has the last handle.
#[test]
fn a_worker_freezes_what_it_was_given() {
    fn freeze(array: SharedArray<u8>) -> Result<SharedSlice<u8>, String> {
        array.store(1, 1);
        array.freeze().map_err(|error| error.to_string())
    }
    within_limit(|| {
        let pool = pool(1);
        let array = SharedArray::zeroed(3).unwrap();
        let refused = pool.submit(call!(freeze(array.clone()))).result().unwrap().unwrap_err();
        assert!(refused.contains("another process has it mapped"), "{refused}");
        let slice = pool.submit(call!(freeze(array))).result().unwrap().unwrap();
        assert_eq!(slice[..], [0, 1, 0]);
        end(&pool);
    });
}

/// M-10: the items of a message share a mapping, until the last of them is there.
#[test]
fn items_that_come_together_are_mapped_once_and_each_may_freeze_its_own() {
    fn mappings_without(array: SharedArray<u8>) -> usize {
        drop(array);
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains("memfd")).count()
    }
    fn freeze(array: SharedArray<u8>) -> Option<u8> {
        Some(array.freeze().ok()?[2])
    }
    within_limit(|| {
        let pool = pool(1);
        let array = SharedArray::<u8>::zeroed(3).unwrap();
        let counts = pool.map(mappings_without, vec![array.clone(); 10]).chunk_size(10);
        let counts = counts.result().unwrap();
        let (last, others) = counts.split_last().unwrap();
        assert_eq!(others, [last + 1; 9]);
        array.freeze().unwrap();
        let arrays: Vec<_> = (0..3).map(|n| SharedArray::new([n; 3]).unwrap()).collect();
        let frozen = pool.map(freeze, arrays).chunk_size(3).result().unwrap();
        assert_eq!(frozen, [Some(0), Some(1), Some(2)]);
        end(&pool);
    });
}

/// M-11.
#[test]
fn what_four_processes_add_is_all_there() {
    const EACH: u32 = 25_000;
    fn add(counts: SharedArray<u64>, sums: SharedArray<f64>, rest: SharedArray<u8>) {
        for n in 0..EACH {
            counts.add(0, 1);
            counts.max(1, n.into());
            sums.add(0, f64::from(n));
            sums.sub(1, 1.0);
            rest.add(0, 1);
        }
    }
    within_limit(|| {
        let counts = SharedArray::zeroed(2).unwrap();
        let sums = SharedArray::zeroed(2).unwrap();
        let rest = SharedArray::zeroed(1).unwrap();
        let start = || Process::spawn(call!(add(counts.clone(), sums.clone(), rest.clone())));
        let processes: Vec<_> = (0..4).map(|_| start()).collect();
        for process in processes {
            assert!(process.join_blocking().success());
            process.into_task().result().unwrap();
        }
        assert_eq!(counts.to_vec(), [4 * u64::from(EACH), u64::from(EACH) - 1]);
        let sum = f64::from(EACH) * f64::from(EACH - 1) * 2.0;
        assert_eq!(sums.to_vec(), [sum, -4.0 * f64::from(EACH)]);
        assert_eq!(rest.load(0), (4 * EACH) as u8);
    });
}

/// M-16.
#[test]
fn memory_beyond_a_limit_is_an_error_and_no_signal() {
    let name = "arrays::memory_beyond_a_limit_is_an_error_and_no_signal";
    if part().is_some() {
        let ipc::Error::Io { source, .. } = SharedArray::<u8>::zeroed(200_000).unwrap_err() else {
            panic!("another error")
        };
        assert!(source.to_string().contains("RLIMIT_FSIZE"), "{source}");
        assert_eq!(SharedArray::new(vec![1_u8; 50_000]).unwrap().len(), 50_000);
        return say(&[1]);
    }
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg("ulimit -f 100\nexec \"$0\" \"$@\"");
    shell.arg(std::env::current_exe().unwrap());
    let mut program = Program::of(shell, name, "with a limit");
    assert_eq!(program.hear(), [1], "{}", program.output());
    assert!(program.ended().success(), "{}", program.output());
}

/// M-7: no descriptor, no mapping; also of those that were frozen.
#[test]
fn nothing_is_left_of_arrays() {
    fn fill(array: SharedArray<u64>) -> usize {
        array.write(0, &vec![1; array.len()]);
        array.len()
    }
    alone("arrays::nothing_is_left_of_arrays", || {
        let descriptors = |pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let mappings = |pid| {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
            maps.lines().filter(|line| line.contains("memfd")).count()
        };
        let pool = pool(1);
        assert_eq!(pool.submit(call!(fill(SharedArray::zeroed(1).unwrap()))).result().unwrap(), 1);
        let processes = [std::process::id(), pool.worker_pids()[0]];
        let before = processes.map(|pid| (descriptors(pid), mappings(pid)));
        // 1 MiB is where a worker would keep a slice.
        for count in (0..300).chain([1 << 17, 1 << 18]) {
            let array = SharedArray::zeroed(count).unwrap();
            assert_eq!(pool.submit(call!(fill(array.clone()))).result().unwrap(), count);
            assert_eq!(array.freeze().unwrap().iter().sum::<u64>(), count as u64);
        }
        assert_eq!(processes.map(|pid| (descriptors(pid), mappings(pid))), before);
        end(&pool);
    });
}

#[test]
fn on_threads_it_is_the_same_array() {
    fn count((array, index): (SharedArray<u64>, usize)) -> u64 {
        array.add(index, 1)
    }
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder().max_workers(2).build().unwrap();
        let array = SharedArray::zeroed(1).unwrap();
        let items = vec![(array.clone(), 0); 1000];
        let mut counts = pool.map(count, items).result().unwrap();
        counts.sort_unstable();
        assert!(counts.into_iter().eq(0..1000));
        pool.shutdown_blocking(concurrent_futures::Shutdown::Drain).unwrap();
        assert_eq!(array.freeze().unwrap()[..], [1000]);
    });
}

/// W-6, W-7.
#[test]
fn an_array_travels_as_other_handles_do_and_as_nothing_else() {
    #[derive(Serialize)]
    struct Sent(SharedArray<u64>);
    // A type whose two sides do not agree.
    impl<'de> Deserialize<'de> for Sent {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            SharedArray::<f64>::deserialize(deserializer)?;
            unreachable!("it is of another type")
        }
    }
    fn receive(_: Sent) {}
    fn twice((one, other): (SharedArray<u64>, SharedArray<u64>)) -> u64 {
        one.add(0, 1) + other.add(0, 1)
    }
    let array = SharedArray::new([1_u64]).unwrap();
    let json = serde_json::to_string(&array).unwrap_err().to_string();
    assert!(json.starts_with("a SharedArray<u64> can only be sent to a process"), "{json}");
    within_limit(move || {
        let pool = pool(1);
        let error = pool.submit(call!(receive(Sent(array.clone())))).result().unwrap_err();
        let Error::Codec(codec) = &error else { panic!("{error}") };
        assert_eq!(codec.side, CodecSide::DecodeArguments);
        let text = "a SharedArray<u64> instead of a SharedArray<f64>";
        assert!(codec.message.contains(text), "{error}");
        assert_eq!(pool.submit(call!(twice((array.clone(), array.clone())))).result().unwrap(), 3);
        assert_eq!(array.load(0), 3);
        end(&pool);
    });
}
