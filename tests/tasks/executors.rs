//! Code that is generic over the executor, the inline executor, and `call!`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use concurrent_futures::{
    AnyExecutor, Call, Error, Executor, ExecutorService, InlineExecutor, Job, Shutdown, TaskFuture,
    ThreadPoolExecutor, as_completed, call, task,
};
use futures::executor::block_on;

use crate::support::{Gate, POOL_SIZES, occupy, on_runtimes, pool, within_limit};
use crate::tools::{Drops, soon};

fn double(n: u32) -> u32 {
    2 * n
}

fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn refuse(n: u32) -> u32 {
    panic!("{n} is refused")
}

// ---- The executor of a job ----

fn current() -> Option<String> {
    AnyExecutor::current().map(|executor| executor.dump().pool)
}

#[test]
fn a_job_finds_the_executor_that_it_runs_on() {
    within_limit(|| {
        for workers in POOL_SIZES {
            assert_eq!(current(), None);
            let pool = |name: &str| {
                let builder = ThreadPoolExecutor::builder().max_workers(workers);
                builder.name(name).build().unwrap()
            };
            let (one, other) = (pool("one"), pool("other"));
            let of = |name: &str| Some(name.to_owned());
            assert_eq!(one.submit(current).result().unwrap(), of("one"));
            assert_eq!(one.submit_future(async { current() }).result().unwrap(), of("one"));
            assert_eq!(one.map(|()| current(), [(); 3]).result().unwrap(), vec![of("one"); 3]);
            let inner = other.clone();
            let nested = move || (current(), inner.submit(current).result().unwrap(), current());
            let expected = (of("one"), of("other"), of("one"));
            assert_eq!(one.submit(nested).result().unwrap(), expected);

            let inline = InlineExecutor::new();
            assert_eq!(inline.submit(current).result().unwrap(), of("inline"));
            assert_eq!(inline.map(|()| current(), [()]).result().unwrap(), [of("inline")]);
            assert!(inline.submit(|| panic!("no harm")).result().is_err());
            assert_eq!(current(), None);
            let nested = move || (inline.submit(current).result().unwrap(), current());
            assert_eq!(one.submit(nested).result().unwrap(), (of("inline"), of("one")));
        }
    });
}

/// Its driver runs on the job's thread, and stops with the map; the job does not.
#[test]
fn an_inline_map_in_a_job_stops_only_itself() {
    within_limit(|| {
        let pool = pool(1);
        let job = pool.submit(|| {
            let inline = InlineExecutor::new();
            let all = inline.map(|n: u32| n, 0..3).result().unwrap();
            let mut half = inline.map(|_| task::stop_requested(), 0..3).chunk_size(1);
            let inside = block_on(half.next()).unwrap().unwrap();
            drop(half);
            (all.len(), inside, task::stop_requested())
        });
        assert_eq!(job.result().unwrap(), (3, false, false));
    });
}

/// The sum of the numbers, by halves, on the executor that it runs on.
fn sum(mut numbers: Vec<u64>) -> u64 {
    if numbers.len() < 10 {
        return numbers.iter().sum();
    }
    let right = numbers.split_off(numbers.len() / 2);
    let right = AnyExecutor::current().unwrap().submit(call!(sum(right)));
    sum(numbers) + right.result().unwrap()
}

#[test]
fn recursive_code_need_not_hand_its_executor_on() {
    within_limit(|| {
        let numbers: Vec<_> = (1..=1_000).collect();
        for workers in POOL_SIZES {
            let numbers = numbers.clone();
            assert_eq!(pool(workers).submit(call!(sum(numbers))).result().unwrap(), 500_500);
        }
        assert_eq!(InlineExecutor::new().submit(call!(sum(numbers))).result().unwrap(), 500_500);
    });
}

#[test]
fn a_job_whose_pool_takes_nothing_more_has_no_executor() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let wait = gate.clone();
        let job = pool.submit(move || {
            wait.wait();
            current()
        });
        drop(pool);
        gate.open();
        assert_eq!(job.result().unwrap(), None);
    });
}

#[test]
fn try_reserve_takes_room_or_says_why_not() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder().max_workers(1).queue_capacity(1).build().unwrap();
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let any = AnyExecutor::from(pool.clone());
        let permit = pool.try_reserve().unwrap();
        assert!(matches!(pool.try_reserve(), Err(Error::QueueFull { .. })));
        assert!(matches!(any.try_reserve(), Err(Error::QueueFull { .. })));
        drop(permit);
        // The room is the same for both kinds of permits.
        let permit = any.try_reserve().unwrap();
        assert!(matches!(pool.try_reserve(), Err(Error::QueueFull { .. })));
        drop(permit);
        let waits = block_on(any.reserve()).unwrap().submit_call(call!(double(4)));
        assert!(matches!(any.try_reserve(), Err(Error::QueueFull { .. })));
        gate.open();
        held.result().unwrap();
        assert_eq!(waits.result().unwrap(), 8);
        any.shutdown_blocking(Shutdown::Drain).unwrap();
        assert!(matches!(pool.try_reserve(), Err(Error::ShutDown)));
        let unbounded = InlineExecutor::new();
        assert_eq!(unbounded.try_reserve().unwrap().submit(|| 1).result().unwrap(), 1);
        unbounded.shutdown_blocking(Shutdown::Drain).unwrap();
        assert!(matches!(unbounded.try_reserve(), Err(Error::ShutDown)));
    });
}

// ---- One function for every executor ----

/// Uses all that the trait has, then ends the executor.
async fn use_everything<E: ExecutorService>(executor: &E) {
    assert!(executor.max_workers() >= 1);
    assert_eq!(executor.submit(call!(add(1, 2))).await.unwrap(), 3);
    assert_eq!(executor.try_submit(call!(double(4))).unwrap().await.unwrap(), 8);
    let permit = executor.reserve().await.unwrap();
    assert_eq!(permit.submit_call(call!(double(5))).await.unwrap(), 10);
    drop(executor.reserve().await.unwrap()); // not used

    match executor.submit(call!(refuse(6))).await {
        Err(Error::Panicked(panicked)) => assert_eq!(panicked.message(), "6 is refused"),
        other => panic!("{other:?}"),
    }

    assert_eq!(executor.map(double, 0..5).await.unwrap(), [0, 2, 4, 6, 8]);
    // A closure that captures nothing is a plain function.
    assert_eq!(executor.map(|n: u32| n + 1, vec![1, 2]).await.unwrap(), [2, 3]);
    assert!(executor.map(double, std::iter::empty()).await.unwrap().is_empty());
    let mut ordered = executor.map(double, 0..).buffer_size(2);
    for n in 0..4 {
        assert_eq!(ordered.next().await.unwrap().unwrap(), 2 * n);
    }
    drop(ordered);
    let mut unordered = executor.map(double, 0..4).unordered();
    let mut sum = 0;
    while let Some((index, value)) = unordered.next().await {
        assert_eq!(value.unwrap() as usize, 2 * index);
        sum += index;
    }
    assert_eq!(sum, 6);

    let futures: Vec<_> = (0..10).map(|n| executor.submit(call!(double(n)))).collect();
    let mut done = as_completed(futures);
    let mut seen = Vec::new();
    while let Some((index, value)) = done.next().await {
        assert_eq!(value.unwrap() as usize, 2 * index);
        seen.push(index);
    }
    seen.sort_unstable();
    assert_eq!(seen, Vec::from_iter(0..10));

    let metrics = executor.metrics();
    assert!(metrics.completed >= 13 && metrics.failed == 1, "{metrics:?}");

    let clone = executor.clone();
    let report = executor.shutdown(Shutdown::Drain).await;
    assert!(report.running.is_empty() && report.queued == 0);
    assert!(matches!(clone.submit(call!(double(1))).await, Err(Error::ShutDown)));
    let refused = clone.try_submit(call!(double(21))).unwrap_err();
    assert!(matches!(refused.error(), Error::ShutDown));
    assert_eq!(refused.into_job().run(), 42, "the call comes back");
    assert!(matches!(clone.reserve().await, Err(Error::ShutDown)));
    assert!(matches!(clone.map(double, 0..3).await, Err(Error::ShutDown)));
    let again = clone.shutdown_blocking(Shutdown::CancelQueued).unwrap();
    assert_eq!((again.queued, again.running.len()), (0, 0));
}

#[test]
fn one_function_runs_on_any_executor() {
    on_runtimes(|| async {
        use_everything(&InlineExecutor::new()).await;
        use_everything(&InlineExecutor::default()).await;
        for workers in POOL_SIZES {
            use_everything(&pool(workers)).await;
            let bounded = ThreadPoolExecutor::builder().max_workers(workers).queue_capacity(16);
            use_everything(&bounded.build().unwrap()).await;
        }
    });
}

#[test]
fn one_function_runs_without_a_runtime() {
    within_limit(|| {
        block_on(use_everything(&InlineExecutor::new()));
        block_on(use_everything(&pool(2)));
    });
}

#[test]
fn generic_code_can_be_spawned() {
    on_runtimes(|| async {
        fn spawn<E: ExecutorService>(executor: E) -> tokio::task::JoinHandle<u32> {
            tokio::spawn(async move {
                let permit = executor.reserve().await.unwrap();
                permit.submit_call(call!(double(21))).await.unwrap()
            })
        }
        assert_eq!(spawn(InlineExecutor::new()).await.unwrap(), 42);
        assert_eq!(spawn(pool(1)).await.unwrap(), 42);
    });
}

#[test]
fn a_permit_held_over_the_end_is_refused_when_used() {
    async fn check<E: ExecutorService>(executor: E) {
        let (used, dropped) =
            (executor.reserve().await.unwrap(), executor.reserve().await.unwrap());
        executor.shutdown(Shutdown::Drain).await;
        assert!(matches!(used.submit_call(call!(double(1))).await, Err(Error::ShutDown)));
        drop(dropped);
    }

    within_limit(|| {
        block_on(check(InlineExecutor::new()));
        block_on(check(pool(1)));
        let bounded = ThreadPoolExecutor::builder().max_workers(1).queue_capacity(2).build();
        block_on(check(bounded.unwrap()));
    });
}

// ---- The inline executor ----

#[test]
fn inline_jobs_run_at_their_submission_on_this_thread_in_program_order() {
    within_limit(|| {
        let executor = InlineExecutor::new();
        let here = thread::current().id();
        let ran = Arc::new(AtomicUsize::new(0));
        for n in 0..3 {
            let count = Arc::clone(&ran);
            let future =
                executor.submit(move || (count.fetch_add(1, SeqCst), thread::current().id()));
            assert_eq!(ran.load(SeqCst), n + 1);
            assert!(future.is_done() && !future.is_running() && !future.is_cancelled());
            assert_eq!(soon(future).unwrap(), (n, here));
        }
    });
}

#[test]
fn inline_futures_are_finished_so_nothing_can_be_cancelled_or_withdrawn() {
    within_limit(|| {
        let executor = InlineExecutor::new();
        let (values, closures) = (Drops::new(), Drops::new());
        let (value, captured) = (values.clone(), closures.value());
        let future = executor.submit(move || {
            let _captured = captured;
            value.value()
        });
        closures.assert_here(1);
        assert!(!future.cancel() && !future.is_cancelled());
        drop(future);
        values.assert_here(1);
        let value = values.clone();
        executor.submit(move || value.value()).detach();
        values.assert_here(2);
        assert_eq!(executor.metrics().completed, 2);
    });
}

#[test]
fn an_inline_job_may_submit_to_its_executor_and_end_it() {
    within_limit(|| {
        let executor = InlineExecutor::new();
        let inner = executor.clone();
        let nested = executor.submit(move || {
            let value = inner.submit(|| 20).result().unwrap();
            let report = inner.shutdown_blocking(Shutdown::Drain).unwrap();
            let refused = inner.submit(|| 1).result();
            (value + 1, report.completed, matches!(refused, Err(Error::ShutDown)))
        });
        assert_eq!(soon(nested).unwrap(), (21, 0, true));
    });
}

#[test]
fn an_inline_map_computes_its_items_when_asked() {
    within_limit(|| {
        let executor = InlineExecutor::new();
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        let function = move |n: u32| {
            count.fetch_add(1, SeqCst);
            (n, thread::current().id())
        };
        let mut map = executor.map(function, 0..3).chunk_size(1);
        assert_eq!(ran.load(SeqCst), 0);
        for n in 0..3 {
            let item = futures::FutureExt::now_or_never(map.next()).expect("it never waits");
            assert_eq!(item.unwrap().unwrap(), (n, thread::current().id()));
            assert!(ran.load(SeqCst) > n as usize);
        }
        assert!(futures::FutureExt::now_or_never(map.next()).unwrap().is_none());
        assert_eq!(ran.load(SeqCst), 3);
    });
}

#[test]
fn an_inline_permit_runs_closures_too() {
    within_limit(|| {
        let executor = InlineExecutor::new();
        let n = 20;
        let permit = block_on(executor.reserve()).unwrap();
        assert_eq!(soon(permit.submit(move || n + 1)).unwrap(), 21);
        let (job, error) = {
            executor.shutdown_blocking(Shutdown::Drain).unwrap();
            executor.try_submit(move || n + 2).unwrap_err().into_parts()
        };
        assert!(matches!(error, Error::ShutDown));
        assert_eq!(job(), 22);
    });
}

// ---- call! ----

mod deep {
    pub(crate) mod deeper {
        pub(crate) fn triple(n: u32) -> u32 {
            3 * n
        }

        pub(crate) fn through_super(n: u32) -> u32 {
            use concurrent_futures::{Executor, InlineExecutor, call};
            Executor::submit(&InlineExecutor::new(), call!(super::super::double(n)))
                .result()
                .unwrap()
        }
    }
}

struct Point {
    x: u32,
}

impl Point {
    fn new(x: u32) -> Self {
        Self { x }
    }

    fn scaled(self, by: u32) -> u32 {
        self.x * by
    }
}

trait Shape {
    fn corners(n: u32) -> u32;
}

impl Shape for Point {
    fn corners(n: u32) -> u32 {
        n
    }
}

fn length<T: AsRef<str>>(text: T) -> usize {
    text.as_ref().len()
}

fn size<T>() -> usize {
    size_of::<T>()
}

fn convert<A, B: From<A>>(value: A) -> B {
    B::from(value)
}

fn first(items: &'static [u32]) -> Option<u32> {
    items.first().copied()
}

fn nothing() {}

fn later(mut text: String) -> String {
    text.push('!');
    text
}

#[test]
fn call_takes_any_plain_function_by_any_path() {
    within_limit(|| {
        let pool = pool(1);
        // By name, by path, from a module, of a type, of a trait.
        assert_eq!(soon(pool.submit(call!(double(21)))).unwrap(), 42);
        assert_eq!(soon(pool.submit(call!(self::double(21)))).unwrap(), 42);
        assert_eq!(soon(pool.submit(call!(crate::executors::double(21)))).unwrap(), 42);
        assert_eq!(soon(pool.submit(call!(deep::deeper::triple(14)))).unwrap(), 42);
        assert_eq!(deep::deeper::through_super(21), 42);
        assert_eq!(soon(pool.submit(call!(Point::new(7)))).unwrap().x, 7);
        assert_eq!(soon(pool.submit(call!(Point::scaled(Point::new(6), 7)))).unwrap(), 42);
        assert_eq!(soon(pool.submit(call!(<Point as Shape>::corners(4)))).unwrap(), 4);
        assert_eq!(soon(pool.submit(call!(u64::pow(2, 10)))).unwrap(), 1024);
        assert_eq!(soon(pool.submit(call!(::std::cmp::max(1, 2)))).unwrap(), 2);
        assert_eq!(soon(pool.submit(call!(<[u32]>::len(&[1, 2, 3])))).unwrap(), 3);
    });
}

#[test]
fn call_takes_generic_functions() {
    within_limit(|| {
        let pool = pool(1);
        assert_eq!(soon(pool.submit(call!(length("four")))).unwrap(), 4);
        assert_eq!(soon(pool.submit(call!(length::<String>("four".into())))).unwrap(), 4);
        assert_eq!(soon(pool.submit(call!(size::<u64>()))).unwrap(), 8);
        assert_eq!(soon(pool.submit(call!(size::<(u32, u32)>()))).unwrap(), 8);
        assert_eq!(soon(pool.submit(call!(size::<[u8; 3]>()))).unwrap(), 3);
        assert_eq!(soon(pool.submit(call!(size::<Option<Vec<(u8, u8)>>>()))).unwrap(), 24);
        assert_eq!(soon(pool.submit(call!(convert::<u32, u64>(7)))).unwrap(), 7);
        assert_eq!(soon(pool.submit(call!(Vec::<(u8, u8)>::with_capacity(9)))).unwrap().len(), 0);
        let text: TaskFuture<String> = pool.submit(call!(convert('c')));
        assert_eq!(soon(text).unwrap(), "c");
    });
}

#[test]
fn call_evaluates_its_arguments_at_once_and_moves_them() {
    within_limit(|| {
        let pool = pool(1);
        let text = String::from("moved");
        let mut evaluated = 0;
        let call = call!(later({
            evaluated += 1;
            text
        }));
        assert_eq!(evaluated, 1);
        assert_eq!(soon(pool.submit(call)).unwrap(), "moved!");
        // Arguments are expressions of any kind, and may use the names that the macro uses.
        let (argument, next, function, name) = (1, 2, 3, 4);
        assert_eq!(soon(pool.submit(call!(add(argument, next)))).unwrap(), 3);
        assert_eq!(soon(pool.submit(call!(add(function + name, 2 * 3)))).unwrap(), 13);
        assert_eq!(soon(pool.submit(call!(add(double(2), if true { 1 } else { 2 })))).unwrap(), 5);
        // They are coerced as in a direct call.
        static ITEMS: [u32; 2] = [7, 8];
        assert_eq!(soon(pool.submit(call!(first(&ITEMS)))).unwrap(), Some(7));
    });
}

#[test]
#[rustfmt::skip]
fn call_takes_a_trailing_comma_and_line_breaks() {
    within_limit(|| {
        let pool = pool(1);
        assert_eq!(soon(pool.submit(call!(add(1, 2,)))).unwrap(), 3);
        assert_eq!(soon(pool.submit(call!(double(1,)))).unwrap(), 2);
        assert_eq!(soon(pool.submit(call!(
            add(
                1,
                2,
            )
        ))).unwrap(), 3);
        assert_eq!(soon(pool.submit(call![add(1, 2)])).unwrap(), 3);
        assert_eq!(soon(pool.submit(call! { add(1, 2) })).unwrap(), 3);
    });
}

#[test]
fn call_takes_no_arguments_and_up_to_twelve() {
    macro_rules! functions {
        ($($name:ident($($argument:ident),*);)*) => {
            $(#[allow(clippy::too_many_arguments, reason = "as many as there can be")]
            fn $name($($argument: u32),*) -> u32 { 0 $(+ $argument)* })*
        };
    }
    functions! {
        f0();
        f1(a);
        f2(a, b);
        f3(a, b, c);
        f4(a, b, c, d);
        f5(a, b, c, d, e);
        f6(a, b, c, d, e, f);
        f7(a, b, c, d, e, f, g);
        f8(a, b, c, d, e, f, g, h);
        f9(a, b, c, d, e, f, g, h, i);
        f10(a, b, c, d, e, f, g, h, i, j);
        f11(a, b, c, d, e, f, g, h, i, j, k);
        f12(a, b, c, d, e, f, g, h, i, j, k, l);
    }

    /// As in generic code, where arguments must be serialisable.
    fn run<E: ExecutorService>(executor: &E) {
        let sums = [
            executor.submit(call!(f0())),
            executor.submit(call!(f1(1))),
            executor.submit(call!(f2(1, 2))),
            executor.submit(call!(f3(1, 2, 3))),
            executor.submit(call!(f4(1, 2, 3, 4))),
            executor.submit(call!(f5(1, 2, 3, 4, 5))),
            executor.submit(call!(f6(1, 2, 3, 4, 5, 6))),
            executor.submit(call!(f7(1, 2, 3, 4, 5, 6, 7))),
            executor.submit(call!(f8(1, 2, 3, 4, 5, 6, 7, 8))),
            executor.submit(call!(f9(1, 2, 3, 4, 5, 6, 7, 8, 9))),
            executor.submit(call!(f10(1, 2, 3, 4, 5, 6, 7, 8, 9, 10))),
            executor.submit(call!(f11(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11))),
            executor.submit(call!(f12(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12))),
        ];
        for (n, sum) in sums.into_iter().enumerate() {
            assert_eq!(soon(sum).unwrap() as usize, n * (n + 1) / 2);
        }
        soon(executor.submit(call!(nothing()))).unwrap();
    }

    within_limit(|| {
        run(&pool(1));
        run(&InlineExecutor::new());
    });
}

#[test]
fn a_call_is_a_value() {
    within_limit(|| {
        let call: Call<(u32, u32), u32> = call!(add(1, 2));
        assert_eq!(format!("{call:?}"), "Call { function: add, arguments: (1, 2), .. }");
        assert_eq!(call.run(), 3);
        let call = Call::new(double, 21);
        assert_eq!(format!("{call:?}"), "Call { arguments: 21, .. }");
        assert_eq!(soon(pool(1).submit(call)).unwrap(), 42);
        assert_eq!(
            format!("{:?}", call!(nothing())),
            "Call { function: nothing, arguments: (), .. }"
        );
        let calls: Vec<Call<(u32,), u32>> = vec![call!(double(1)), call!(refuse(2))];
        assert_eq!(calls.len(), 2);
    });
}
