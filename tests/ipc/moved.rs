//! A handle that was moved into a task lives where the task has it, and nowhere else. Each test is alone in its
//! program, through whose processes it looks.

use std::process;

use concurrent_futures::ipc::SharedSlice;
use concurrent_futures::{ParentPool, ProcessPoolExecutor, call};
use serde::{Deserialize, Serialize};

use crate::memory::Memory;
use crate::program::alone;
use crate::tools::{Gate, Reports, builder, end, occupy, own_pid, pool};

type Slice = SharedSlice<u8>;

/// What a task does with a slice, one step after the other, as the test wants it.
#[derive(Clone, Serialize, Deserialize)]
struct Steps {
    told: Reports,
    drop: Gate,
    end: Gate,
}

impl Steps {
    fn new() -> Self {
        Self { told: Reports::new(), drop: Gate::new(), end: Gate::new() }
    }
}

fn keep_for_a_while(slice: Slice, steps: Steps) -> u8 {
    steps.told.add(process::id());
    steps.drop.wait();
    let first = slice[0];
    drop(slice);
    steps.told.add(0);
    steps.end.wait();
    first
}

fn slice() -> (Slice, Memory) {
    let slice = SharedSlice::new([7; 5000]).unwrap();
    let memory = Memory::of(&slice);
    (slice, memory)
}

/// Sees that the task alone has the slice, which the test has dropped, and after the task no process.
fn follow(pool: &ProcessPoolExecutor, memory: &Memory, steps: &Steps) {
    let worker = steps.told.wait_for(1)[0];
    memory.until_with(pool, &[worker]);
    steps.drop.open();
    steps.told.wait_for(2);
    memory.until_with(pool, &[]);
}

/// W-16.
#[test]
fn what_was_moved_into_a_task_is_gone_when_the_task_drops_it() {
    alone("moved::what_was_moved_into_a_task_is_gone_when_the_task_drops_it", || {
        for (is_fresh, is_queued) in [(true, false), (false, false), (false, true)] {
            let pool = pool(1);
            if !is_fresh {
                pool.submit(call!(own_pid())).result().unwrap();
            }
            let gate = Gate::new();
            let held = is_queued.then(|| occupy(&pool, &gate));
            let (slice, memory) = slice();
            let steps = Steps::new();
            let task = pool.submit(call!(keep_for_a_while(slice, steps.clone())));
            if let Some(held) = held {
                assert_eq!(memory.holders(&pool), [process::id()], "it lies behind no other task");
                gate.open();
                held.result().unwrap();
            }
            follow(&pool, &memory, &steps);
            assert!(!task.is_done());
            steps.end.open();
            assert_eq!(task.result().unwrap(), 7);
            end(&pool);
        }
    });
}

/// W-16, of a task of a worker's.
#[test]
fn what_a_worker_has_moved_into_a_task_is_gone_when_the_task_drops_it() {
    fn hand_on(slice: Slice, steps: Steps) -> Result<u8, String> {
        let pool = ParentPool::current().ok_or("no pool")?;
        let task = pool.submit(call!(keep_for_a_while(slice, steps)));
        task.result().map_err(|error| error.to_string())
    }
    alone("moved::what_a_worker_has_moved_into_a_task_is_gone_when_the_task_drops_it", || {
        for workers in [1, 2] {
            let pool = pool(workers);
            let (slice, memory) = slice();
            let steps = Steps::new();
            let task = pool.submit(call!(hand_on(slice, steps.clone())));
            follow(&pool, &memory, &steps);
            assert!(!task.is_done());
            steps.end.open();
            assert_eq!(task.result().unwrap(), Ok(7));
            end(&pool);
        }
    });
}

/// W-16, of results.
#[test]
fn what_a_task_has_returned_is_gone_when_its_receiver_drops_it() {
    fn back(slice: Slice) -> Slice {
        slice
    }
    alone("moved::what_a_task_has_returned_is_gone_when_its_receiver_drops_it", || {
        let pool = pool(1);
        let (slice, memory) = slice();
        let slice = pool.submit(call!(back(slice))).result().unwrap();
        memory.until_with(&pool, &[process::id()]);
        let slices = pool.map(back, [slice.clone(), slice]).result().unwrap();
        memory.until_with(&pool, &[process::id()]);
        drop(slices);
        memory.until_with(&pool, &[]);
        end(&pool);
    });
}

/// W-16: what may be needed again is kept.
#[test]
fn what_may_be_sent_again_is_kept_by_the_pool() {
    fn look(_slice: Slice) {}
    alone("moved::what_may_be_sent_again_is_kept_by_the_pool", || {
        let pool = pool(1);
        let (slice, memory) = slice();
        let steps = Steps::new();
        let task = pool.task().retries(1).submit(call!(keep_for_a_while(slice, steps.clone())));
        steps.told.wait_for(1);
        steps.drop.open();
        steps.told.wait_for(2);
        memory.until_with(&pool, &[process::id()]);
        steps.end.open();
        assert_eq!(task.result().unwrap(), 7);
        memory.until_with(&pool, &[]);
        end(&pool);
        let (slice, memory) = self::slice();
        let pool = builder(1).initializer(call!(look(slice))).build().unwrap();
        pool.submit(call!(own_pid())).result().unwrap();
        memory.until_with(&pool, &[process::id()]);
        end(&pool);
        drop(pool);
        assert!(!memory.is_open(process::id()) && !memory.is_mapped(process::id()));
    });
}
