//! What workers keep of handles between their tasks. Each test is alone in its program, through whose processes it
//! looks.

use std::process;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use concurrent_futures::ipc::{Shared, SharedSlice};
use concurrent_futures::{ProcessPoolExecutor, Shutdown, call};
use serde::{Deserialize, Serialize};

use crate::memory::Memory;
use crate::program::alone;
use crate::support::within_limit;
use crate::tools::{Gate, Reports, end, occupy, pool};

type Slice = SharedSlice<u64>;

/// 1 MiB.
const LEN: usize = 1 << 17;

fn slice(len: usize) -> (Slice, Memory) {
    let slice = SharedSlice::new(vec![1; len]).unwrap();
    let memory = Memory::of(&slice);
    (slice, memory)
}

fn sum((slice, _): (Slice, usize)) -> (u64, usize) {
    (slice.iter().sum(), slice.as_ptr().addr())
}

fn sum_of(pool: &ProcessPoolExecutor, slice: &Slice) -> (u64, usize) {
    pool.submit(call!(sum((slice.clone(), 0)))).result().unwrap()
}

/// M-14.
#[test]
fn a_worker_keeps_a_mapping_as_long_as_the_pool_s_process_has_a_handle() {
    alone("kept::a_worker_keeps_a_mapping_as_long_as_the_pool_s_process_has_a_handle", || {
        let pool = pool(1);
        for _ in 0..20 {
            let (slice, memory) = slice(LEN);
            let first = sum_of(&pool, &slice);
            assert_eq!(first.0, LEN as u64);
            let worker = pool.worker_pids()[0];
            assert!(memory.is_mapped(worker), "between its tasks");
            let other = slice.slice(5..);
            drop(slice);
            assert_eq!(sum_of(&pool, &other), (LEN as u64 - 5, first.1 + 40));
            assert!(memory.is_mapped(worker));
            drop(other);
            memory.until_with(&pool, &[]);
        }
        let (slice, memory) = slice(LEN - 1);
        sum_of(&pool, &slice);
        assert!(!memory.is_mapped(pool.worker_pids()[0]), "a small one is mapped again");
        end(&pool);
    });
}

/// M-14: whichever way it has come.
#[test]
fn what_items_contexts_and_initializers_have_is_kept_as_well() {
    fn sum_with(slice: &Slice, from: usize) -> u64 {
        slice[from..].iter().sum()
    }
    fn receive(_: Slice) {}
    alone("kept::what_items_contexts_and_initializers_have_is_kept_as_well", || {
        let (first, first_memory) = slice(LEN);
        let builder = ProcessPoolExecutor::builder().max_workers(1);
        let pool = builder.initializer(call!(receive(first.clone()))).build().unwrap();
        let worker = pool.submit(call!(process::id())).result().unwrap();
        let (item, item_memory) = slice(LEN);
        let (context, context_memory) = slice(LEN);
        pool.map(sum, vec![(item.clone(), 0); 3]).result().unwrap();
        pool.map_with(context.clone(), sum_with, 0..3).result().unwrap();
        for memory in [&first_memory, &item_memory, &context_memory] {
            assert!(memory.is_mapped(worker));
        }
        drop((first, item, context));
        item_memory.until_with(&pool, &[]);
        context_memory.until_with(&pool, &[]);
        assert!(first_memory.is_mapped(worker), "the pool has it for its next worker");
        end(&pool);
    });
}

/// M-14: the worker comes to it when its task is done.
#[test]
fn a_busy_worker_lets_go_after_its_task() {
    alone("kept::a_busy_worker_lets_go_after_its_task", || {
        let pool = pool(1);
        let (slice, memory) = slice(LEN);
        sum_of(&pool, &slice);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let worker = pool.worker_pids()[0];
        drop(slice);
        assert!(memory.is_mapped(worker));
        gate.open();
        held.result().unwrap();
        memory.until_with(&pool, &[]);
        end(&pool);
    });
}

/// M-14: what comes back from a worker is the same memory, known by another descriptor.
#[test]
fn memory_that_comes_back_is_kept_as_long_as_any_handle() {
    fn back(slice: Slice) -> Slice {
        slice
    }
    alone("kept::memory_that_comes_back_is_kept_as_long_as_any_handle", || {
        let pool = pool(1);
        for _ in 0..20 {
            let (slice, memory) = slice(LEN);
            sum_of(&pool, &slice);
            let worker = pool.worker_pids()[0];
            // Its last handle here goes before the other one comes.
            let task = pool.submit(call!(back(slice)));
            let slice = task.result().unwrap();
            let (_, address) = sum_of(&pool, &slice);
            assert!(memory.is_mapped(worker));
            assert_eq!(sum_of(&pool, &slice).1, address);
            drop(slice);
            memory.until_with(&pool, &[]);
        }
        end(&pool);
    });
}

#[test]
fn a_handle_may_outlive_its_pool_and_go_to_another() {
    alone("kept::a_handle_may_outlive_its_pool_and_go_to_another", || {
        let (slice, memory) = slice(LEN);
        for _ in 0..3 {
            let pools = [pool(1), pool(2)];
            for pool in &pools {
                assert_eq!(sum_of(pool, &slice).0, LEN as u64);
            }
            pools[0].shutdown_blocking(Shutdown::Drain).unwrap();
            end(&pools[1]);
        }
        let pools = [pool(1), pool(1)];
        for pool in &pools {
            sum_of(pool, &slice);
        }
        drop(slice);
        pools.iter().for_each(|pool| memory.until_with(pool, &[]));
        pools.iter().for_each(end);
    });
}

/// A value that tells when a worker drops it.
#[derive(Serialize)]
struct Told {
    dropped: Option<Reports>,
    numbers: Vec<u32>,
}

static DECODED: AtomicUsize = AtomicUsize::new(0);

impl<'de> Deserialize<'de> for Told {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            dropped: Option<Reports>,
            numbers: Vec<u32>,
        }
        DECODED.fetch_add(1, Relaxed);
        let Fields { dropped, numbers } = Fields::deserialize(deserializer)?;
        Ok(Self { dropped, numbers })
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // Not in the process that reads the reports.
        if DECODED.load(Relaxed) > 0 {
            self.dropped.iter().for_each(|dropped| dropped.add(process::id()));
        }
    }
}

/// M-15: however small it is.
#[test]
fn a_value_is_decoded_once_in_each_worker_and_dropped_with_the_last_handle() {
    fn look((value, at): (Shared<Told>, usize)) -> (u32, usize) {
        (value.numbers[at], DECODED.load(Relaxed))
    }
    within_limit(|| {
        for workers in [1, 2] {
            let pool = pool(workers);
            let dropped = Reports::new();
            let told = Told { dropped: Some(dropped.clone()), numbers: (0..100).collect() };
            let value = Shared::new(told).unwrap();
            for at in 0..100 {
                let looked = pool.submit(call!(look((value.clone(), at)))).result().unwrap();
                assert_eq!(looked, (at as u32, 1));
            }
            let items = vec![(value.clone(), 5); 100];
            assert_eq!(pool.map(look, items).result().unwrap(), vec![(5, 1); 100]);
            assert!(dropped.get().is_empty());
            let mut pids = pool.worker_pids();
            drop(value);
            // A worker may have had none of the tasks.
            let dropped = dropped.wait_for(1);
            pids.retain(|pid| dropped.contains(pid));
            assert_eq!(pids.len(), dropped.len());
            end(&pool);
        }
    });
}
