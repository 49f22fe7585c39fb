//! `as_completed`.

use std::sync::Arc;
use std::time::Duration;

use concurrent_futures::{
    Error, InlineExecutor, Shutdown, TaskFuture, Unfinished, as_completed, call,
};
use futures::stream::FusedStream;
use futures::{FutureExt, Stream, StreamExt};

use crate::backend::{
    LONG, Pool, SHORT, States, answer, assert_cancelled, assert_panicked, finished_task,
    over_all_pools, over_pools_async,
};
use crate::support::{on_runtimes, within_limit};

/// The next item, which must be there without a wait.
#[track_caller]
fn next_now<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    stream.next().now_or_never().expect("an item is there")
}

/// AC-1.
#[test]
fn futures_in_all_states_are_yielded_once() {
    async fn check<P: Pool>(pool: P) {
        let states = States::new(&pool);
        let futures = [
            states.running,
            states.cancelled,
            states.failed,
            states.pending,
            states.finished,
            states.noticed,
        ];
        let mut done = as_completed(futures);
        assert_eq!(done.size_hint(), (6, Some(6)));

        // Those that have finished come first, in the order of the input.
        let (index, result) = next_now(&mut done).unwrap();
        assert_eq!(index, 1);
        assert_cancelled(&result);
        let (index, result) = next_now(&mut done).unwrap();
        assert_eq!(index, 2);
        assert_panicked(&result, "failed");
        let (index, result) = next_now(&mut done).unwrap();
        assert_eq!((index, result.unwrap()), (4, 42));
        let (index, result) = next_now(&mut done).unwrap();
        assert_eq!(index, 5);
        assert_cancelled(&result);
        assert!(done.next().now_or_never().is_none());
        assert_eq!(done.size_hint(), (2, Some(2)));

        P::open(&states.held);
        let mut rest = [done.next().await.unwrap(), done.next().await.unwrap()];
        if pool.max_workers() > 1 {
            rest.sort_by_key(|(index, _)| *index); // either may be first
        }
        assert_eq!(rest.map(|(index, result)| (index, result.unwrap())), [(0, 42), (3, 42)]);
        for _ in 0..3 {
            assert!(next_now(&mut done).is_none());
            assert!(done.is_terminated());
        }
    }
    over_all_pools!(check);
}

/// AC-1.
#[test]
fn results_come_in_the_order_in_which_futures_end() {
    on_runtimes(|| async {
        let (completers, futures): (Vec<_>, Vec<_>) = (0..5).map(|_| TaskFuture::promise()).unzip();
        let mut completers: Vec<_> = completers.into_iter().map(Some).collect();
        let mut done = as_completed(futures);
        assert!(done.next().now_or_never().is_none());
        for index in [3, 0, 4] {
            completers[index].take().unwrap().complete(Ok(index));
        }
        for expected in [3, 0, 4] {
            let (index, value) = next_now(&mut done).unwrap();
            assert_eq!((index, value.unwrap()), (expected, expected));
        }
        assert!(done.next().now_or_never().is_none());
        for index in [2, 1] {
            drop(completers[index].take()); // cancels its future
            let (at, result) = next_now(&mut done).unwrap();
            assert_eq!(at, index);
            assert_cancelled(&result);
        }
        assert!(next_now(&mut done).is_none());
    });
}

/// AC-2.
#[test]
fn finished_futures_come_before_the_time_limit() {
    async fn check<P: Pool>(pool: P) {
        for limit in [Duration::ZERO, SHORT] {
            let (first, last) = (finished_task(&pool), finished_task(&pool));
            let held = P::held();
            let mut running = pool.occupy_all(&held);
            let queued = pool.submit(call!(answer()));
            let futures = [first, running.remove(0), queued, last];
            let mut done = as_completed(futures).timeout(limit);
            assert_eq!((done.len(), done.size_hint()), (4, (1, Some(4))));
            for expected in [0, 3] {
                let (index, value) = next_now(&mut done).unwrap().unwrap();
                assert_eq!((index, value.unwrap()), (expected, 42));
            }
            assert!(done.len() == 2 && !done.is_empty());
            let late = done.next().await.unwrap().unwrap_err();
            assert_eq!(late, Unfinished::new(2, 4));
            assert_eq!((done.is_empty(), done.size_hint()), (true, (0, Some(0))));
            for _ in 0..3 {
                assert!(next_now(&mut done).is_none());
                assert!(done.is_terminated());
            }
        }
        // What is left was dropped, which withdraws what has not started.
        pool.shutdown(Shutdown::Drain).await;
        let now = pool.metrics();
        assert_eq!((now.completed as usize, now.cancelled), (2 * (2 + pool.max_workers()), 2));
    }
    over_all_pools!(check);
}

/// AC-2.
#[test]
fn a_time_limit_that_is_not_reached_changes_nothing() {
    async fn check<P: Pool>(pool: P) {
        let held = P::held();
        let running = pool.occupy_all(&held);
        let total = running.len();
        let mut done = as_completed(running).timeout(LONG);
        assert!(done.next().now_or_never().is_none());
        let futures = done.into_futures().enumerate().map(|(at, (index, future))| {
            assert_eq!(at, index);
            future
        });
        let mut done = as_completed(futures).timeout(LONG);
        P::open(&held);
        for _ in 0..total {
            assert_eq!(done.next().await.unwrap().unwrap().1.unwrap(), 42);
        }
        assert!(next_now(&mut done).is_none());
    }
    over_all_pools!(check);
}

/// AC-3. A `TaskFuture` is not `Clone` and `as_completed` takes it by value, so the same one can't
/// be given twice. What is left of this is that any iterable will do.
#[test]
fn futures_come_from_any_iterable() {
    fn yielded(futures: impl IntoIterator<Item = TaskFuture<u32>>) -> Vec<(usize, u32)> {
        let mut done = as_completed(futures);
        std::iter::from_fn(|| next_now(&mut done))
            .map(|(index, value)| (index, value.unwrap()))
            .collect()
    }
    within_limit(|| {
        let executor = InlineExecutor::new();
        let submit = |n: u32| executor.submit(move || n);
        let expected = [(0, 0), (1, 1), (2, 2)];
        assert_eq!(yielded([submit(0), submit(1), submit(2)]), expected);
        assert_eq!(yielded(vec![submit(0), submit(1), submit(2)]), expected);
        assert_eq!(yielded((0..3).map(submit)), expected);
        assert_eq!(yielded(std::iter::once(submit(0)).chain((1..3).map(submit))), expected);
        assert_eq!(yielded(Some(submit(0))), [(0, 0)]);
        assert_eq!(yielded(None), []);
        assert!(as_completed::<u32>([]).is_terminated());
    });
}

/// AC-4.
#[test]
fn a_yielded_future_is_not_kept() {
    over_pools_async(|pool| async move {
        // The result lives in the future, until it is yielded.
        let futures: Vec<_> = (0..5).map(|n| pool.submit(move || Arc::new(n))).collect();
        let mut done = as_completed(futures);
        while let Some((_index, value)) = done.next().await {
            let value = value.unwrap();
            let weak = Arc::downgrade(&value);
            drop(value);
            assert!(weak.upgrade().is_none());
        }
    });
}

/// AC-4.
#[test]
fn a_yielded_future_is_not_kept_while_others_complete() {
    on_runtimes(|| async {
        let (completers, futures): (Vec<_>, Vec<_>) = (0..5).map(|_| TaskFuture::promise()).unzip();
        let called = Arc::new(());
        for future in &futures {
            let called = called.clone();
            future.add_done_callback(move |_: &Result<Arc<usize>, Error>| {
                let _called = &called;
            });
        }
        let mut done = as_completed(futures);
        for (index, completer) in completers.into_iter().enumerate() {
            assert!(done.next().now_or_never().is_none());
            completer.complete(Ok(Arc::new(index)));
            let (at, value) = next_now(&mut done).unwrap();
            let value = value.unwrap();
            assert_eq!((at, *value), (index, index));
            let weak = Arc::downgrade(&value);
            drop(value);
            assert!(weak.upgrade().is_none());
            // The callback is gone as well; those of the others are held by this test's futures.
            assert_eq!(Arc::strong_count(&called), 1 + 4 - index);
        }
        assert!(next_now(&mut done).is_none());
    });
}

/// AC-5.
#[test]
fn the_time_limit_says_how_many_are_unfinished() {
    async fn check<P: Pool>(pool: P) {
        let states = States::new(&pool);
        let futures = [states.pending, states.cancelled, states.running, states.failed];
        let mut done = as_completed(futures).timeout(Duration::ZERO);
        assert_cancelled(&done.next().await.unwrap().unwrap().1);
        assert_panicked(&done.next().await.unwrap().unwrap().1, "failed");
        let late = done.next().await.unwrap().unwrap_err();
        assert_eq!(late.to_string(), "2 (of 4) futures unfinished");
        P::open(&states.held);
    }
    over_all_pools!(check);
}
