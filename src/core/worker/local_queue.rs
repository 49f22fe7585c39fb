//! The tasks that a worker has taken from the queue and not started: a ring that its worker
//! fills, and from which any thread may take, oldest first.
//!
//! Both ends of the ring are in one word, so that a task is taken by one compare-and-swap. They
//! only grow, and a place is written again only after both ends have moved on by a whole round: a
//! thread that has read an old pointer there finds the word changed and tries again.

use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::core::cell::{Header, TaskRef};
use crate::sync::atomic::{
    AtomicPtr, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};

/// The number of tasks for which a local queue has room. A power of two, so that positions that
/// wrap at 2^32 go on with the next place.
const CAPACITY: u32 = 64;

struct Ring {
    /// The positions where the next task is taken (upper half) and where the next one is put (lower half).
    ends: AtomicU64,
    places: [AtomicPtr<Header>; CAPACITY as usize],
}

fn split(ends: u64) -> (u32, u32) {
    ((ends >> 32) as u32, ends as u32)
}

fn join(take: u32, put: u32) -> u64 {
    u64::from(take) << 32 | u64::from(put)
}

/// The tasks that a worker took ahead, as any thread may see and take them.
#[derive(Clone)]
pub(crate) struct LocalQueue(Arc<Ring>);

/// The local queue of this worker, which alone fills it.
pub(crate) struct OwnLocalQueue(LocalQueue);

impl OwnLocalQueue {
    pub(crate) fn new() -> Self {
        let places = std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut()));
        Self(LocalQueue(Arc::new(Ring { ends: AtomicU64::new(0), places })))
    }

    /// Returns the number of tasks that still fit.
    pub(crate) fn room(&self) -> usize {
        CAPACITY as usize - self.0.len()
    }

    /// Puts tasks at the end, as many as there is room for.
    pub(crate) fn fill(&mut self, tasks: impl Iterator<Item = TaskRef>) {
        let ring = &self.0.0;
        let mut ends = ring.ends.load(Acquire);
        let mut put = split(ends).1;
        for task in tasks.take(self.room()) {
            // The ring has the task's reference from here on. Relaxed: the swap below publishes it.
            ring.places[(put % CAPACITY) as usize].store(task.forget().as_ptr(), Relaxed);
            put = put.wrapping_add(1);
        }
        // Takers may move their end meanwhile.
        while let Err(changed) =
            ring.ends.compare_exchange_weak(ends, join(split(ends).0, put), AcqRel, Relaxed)
        {
            ends = changed;
        }
    }
}

impl std::ops::Deref for OwnLocalQueue {
    type Target = LocalQueue;

    fn deref(&self) -> &LocalQueue {
        &self.0
    }
}

impl LocalQueue {
    pub(crate) fn len(&self) -> usize {
        let (take, put) = split(self.0.ends.load(Acquire));
        put.wrapping_sub(take) as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a number that changes with every task that is put or taken.
    pub(crate) fn version(&self) -> u64 {
        self.0.ends.load(Relaxed)
    }

    /// Takes the oldest task.
    pub(crate) fn take(&self) -> Option<TaskRef> {
        let ring = &self.0;
        let mut ends = ring.ends.load(Acquire);
        loop {
            let (take, put) = split(ends);
            if take == put {
                return None;
            }
            // This may be the pointer of a later round, or one that another thread takes now: then
            // the swap fails.
            let task = ring.places[(take % CAPACITY) as usize].load(Relaxed);
            let next = join(take.wrapping_add(1), put);
            match ring.ends.compare_exchange_weak(ends, next, AcqRel, Acquire) {
                Ok(_) => {
                    // SAFETY: `fill` put a reference there. The place held it as long as the word was
                    // `ends`, and this is the one thread that has moved the word on from there, so the
                    // reference is its own.
                    return NonNull::new(task).map(|task| unsafe { TaskRef::from_raw(task) });
                }
                Err(changed) => ends = changed,
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let (mut take, put) = split(self.ends.load(Acquire));
        while take != put {
            let task = self.places[(take % CAPACITY) as usize].load(Relaxed);
            // SAFETY: `fill` put a reference there, no thread has taken it, and none can any more.
            drop(NonNull::new(task).map(|task| unsafe { TaskRef::from_raw(task) }));
            take = take.wrapping_add(1);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::core::promise::Promise;

    fn task() -> TaskRef {
        let (promise, mut outcome) = Promise::<()>::of(());
        outcome.abandon();
        promise.task().clone()
    }

    #[test]
    fn tasks_come_out_in_order_and_no_more_go_in_than_fit() {
        let mut own = OwnLocalQueue::new();
        let tasks: Vec<_> = (0..CAPACITY as usize + 3).map(|_| task()).collect();
        let ids: Vec<_> = tasks.iter().map(|task| task.header().id()).collect();
        let mut tasks = tasks.into_iter();
        own.fill(tasks.by_ref());
        assert_eq!((own.room(), tasks.len()), (0, 3));
        let taken: Vec<_> = std::iter::from_fn(|| own.take()).map(|t| t.header().id()).collect();
        assert_eq!(taken, ids[..CAPACITY as usize]);
        own.fill(tasks);
        assert_eq!(own.len(), 3); // dropped with the queue
    }

    #[test]
    fn each_task_is_taken_once_under_stress() {
        const TASKS: usize = if cfg!(miri) { 100 } else { 20_000 };
        let mut own = OwnLocalQueue::new();
        let over = AtomicBool::new(false);
        let take = |queue: &LocalQueue| queue.take().map(|task| task.header().id());
        let taken = std::thread::scope(|scope| {
            let thieves: Vec<_> = (0..3)
                .map(|_| {
                    let (queue, over) = (own.clone(), &over);
                    scope.spawn(move || {
                        let mut ids = Vec::new();
                        while !over.load(Acquire) || !queue.is_empty() {
                            ids.extend(take(&queue));
                        }
                        ids
                    })
                })
                .collect();
            let mut ids = Vec::new();
            let mut tasks = (0..TASKS).map(|_| task());
            let mut left = TASKS;
            while left > 0 {
                let count = own.room().min(7).min(left);
                own.fill(tasks.by_ref().take(count));
                left -= count;
                ids.extend(take(&own));
            }
            over.store(true, std::sync::atomic::Ordering::Release);
            for thief in thieves {
                ids.extend(thief.join().unwrap());
            }
            ids
        });
        assert_eq!(taken.len(), TASKS);
        assert_eq!(taken.into_iter().collect::<HashSet<_>>().len(), TASKS);
    }
}
