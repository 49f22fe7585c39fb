//! Futures of tasks in processes and in threads, together.

use concurrent_futures::{
    AnyExecutor, Error, Executor, ExecutorService, ExecutorState, ParentPool, PortableError,
    ReturnWhen, Shutdown, ThreadPoolExecutor, as_completed, call, wait,
};
use futures::StreamExt;

use crate::tools::{Gate, lost, occupy_all};
use crate::{over_pools, over_pools_async};

fn square(n: u64) -> u64 {
    n * n
}

#[test]
fn as_completed_takes_futures_of_both_pools() {
    over_pools_async(|processes| async move {
        let threads = ThreadPoolExecutor::builder().max_workers(2).build().unwrap();
        let futures: Vec<_> = (0..100)
            .map(|n| match n % 2 {
                0 => processes.submit(call!(square(n))),
                _ => threads.submit(move || square(n)),
            })
            .collect();
        let mut results: Vec<_> = as_completed(futures).collect().await;
        results.sort_by_key(|(index, _)| *index);
        for (n, (index, result)) in (0..).zip(results) {
            assert_eq!((index as u64, result.unwrap()), (n, n * n));
        }
    });
}

#[test]
fn wait_sees_the_first_of_both_pools() {
    over_pools(|processes| {
        let threads = ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
        let gate = Gate::new();
        let mut futures = occupy_all(processes, &gate);
        futures.push(threads.submit(|| 7));
        let parts = wait(futures, ReturnWhen::FirstCompleted).result();
        assert_eq!(parts.done.len(), 1);
        assert_eq!(parts.not_done.len(), processes.max_workers());
        gate.open();
        let parts = wait(parts.not_done, ReturnWhen::AllCompleted).result();
        assert!(parts.not_done.is_empty());
        assert!(parts.done.into_iter().all(|future| future.result().is_ok()));
    });
}

fn abort_at(n: u64) -> u64 {
    if n == 3 { std::process::abort() } else { n }
}

#[test]
fn wait_stops_at_the_first_lost_task() {
    over_pools(|processes| {
        let threads = ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
        let (completer, never) = concurrent_futures::TaskFuture::promise();
        let mut finished = wait([threads.submit(|| 1)], ReturnWhen::AllCompleted).result().done;
        let finished = finished.pop().unwrap();
        let futures = vec![never, finished, processes.submit(call!(abort_at(3)))];
        let mut parts = wait(futures, ReturnWhen::FirstError).result();
        assert_eq!(parts.not_done.len(), 1);
        assert!(lost(parts.done.pop().unwrap().result()).signal.is_some());
        completer.complete(Ok(0));
    });
}

/// The same function on any executor.
async fn sum<E: Executor>(pool: &E) -> Result<u64, Error> {
    let squares = pool.map(square, 0..10).await?;
    let more = pool.reserve().await?.submit_call(call!(square(10))).await?;
    Ok(squares.iter().sum::<u64>() + more)
}

#[test]
fn generic_code_runs_on_both_pools() {
    over_pools_async(|processes| async move {
        let threads = ThreadPoolExecutor::builder().max_workers(2).build().unwrap();
        assert_eq!(sum(&processes).await.unwrap(), 385);
        assert_eq!(sum(&threads).await.unwrap(), 385);
    });
}

/// The sum of the numbers, by halves, on the executor that it runs on.
fn sum_of_halves(mut numbers: Vec<u64>) -> u64 {
    if numbers.len() < 10 {
        return numbers.iter().sum();
    }
    let right = numbers.split_off(numbers.len() / 2);
    let right = AnyExecutor::current().unwrap().submit(call!(sum_of_halves(right)));
    sum_of_halves(numbers) + right.result().unwrap()
}

/// Which kind of executor the job finds, and how it is ended.
fn kind_and_end() -> (bool, bool) {
    let Some(executor) = AnyExecutor::current() else { return (false, false) };
    let report = executor.shutdown_blocking(Shutdown::Drain).unwrap();
    let is_open = matches!(executor.state(), ExecutorState::Open);
    (matches!(executor, AnyExecutor::Parent(_)), is_open && report.completed == 0)
}

#[test]
fn a_job_in_a_worker_process_finds_its_pool_and_can_not_end_it() {
    over_pools(|pool| {
        let all = pool.submit(call!(sum_of_halves((1..=100).collect())));
        assert_eq!(all.result().unwrap(), 5_050);
        assert_eq!(pool.submit(call!(kind_and_end())).result().unwrap(), (true, true));
        assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
        // The input of a map runs on a thread of the crate's own.
        let inputs = (0..3).map(|_| AnyExecutor::current().is_none());
        assert_eq!(pool.map(|is_none: bool| is_none, inputs).result().unwrap(), [true; 3]);
    });
}

#[test]
fn a_permit_of_the_parent_pool_is_had_at_once() {
    fn by_permit(n: u64) -> Result<u64, PortableError> {
        let pool = ParentPool::current().ok_or("no parent")?;
        let permit = futures::executor::block_on(Executor::reserve(&pool))?;
        let one = permit.submit_call(call!(square(n)));
        let other = Executor::try_submit(&pool, call!(square(n)));
        let other = other.map_err(|refused| refused.into_parts().1)?;
        Ok(one.result()? + other.result()?)
    }
    over_pools(|pool| assert_eq!(pool.submit(call!(by_permit(3))).result().unwrap().unwrap(), 18));
}
