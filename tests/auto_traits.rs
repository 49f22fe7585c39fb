//! Which auto traits the public types have. A trait that is lost is a breaking change that no
//! other test sees.
//!
//! What must not compile is in `compile_fail`; where "not" is a fact and no promise, it is
//! neither here nor there.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use concurrent_futures::dump::{Awaited, Dump, Queue, Running, Waiting, Worker};
use concurrent_futures::task::TaskId;
use concurrent_futures::{
    AnyExecutor, AsCompleted, AsCompletedTimeout, Blocking, BrokenPool, Call, Closed, CodecError,
    CodecSide, Completer, DoneAndNotDone, Error, Executor, ExecutorState, HasRun, Histogram,
    InlineExecutor, Label, LossCause, Map, MapFuture, Metrics, Next, NextTimeout, PanicLocation,
    Panicked, Permit, PortableError, ReturnWhen, RunningTask, SharedTask, Shutdown, ShutdownFuture,
    ShutdownReport, StopSource, StopToken, Stopped, TaskBuilder, TaskDone, TaskFuture, TaskHandle,
    TaskOptions, TaskSet, ThreadPoolBuilder, ThreadPoolExecutor, TryMap, TryMapError, TryMapFuture,
    TrySubmitError, Unfinished, UnobservedFailure, Unordered, Wait, WorkerInfo, WorkerLost,
};
use futures::future::FusedFuture;
use futures::stream::FusedStream;

fn send<T: Send>() {}
fn sync<T: Sync>() {}
fn unpin<T: Unpin>() {}
fn unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
fn is_static<T: 'static>() {}
fn clone<T: Clone>() {}
fn debug<T: Debug>() {}
fn error<T: std::error::Error + Send + Sync + 'static>() {}
fn value<T: Copy + Eq + Debug>() {}

fn send_value<T: Send>(_: &T) {}

/// Can move to another thread, but can't be shared.
type NotSync = Cell<u8>;

macro_rules! all {
    ($($check:ident: $($type:ty),+ $(,)?;)+) => { $($( $check::<$type>(); )+)+ };
}

#[test]
fn executors_and_what_they_give() {
    all! {
        send: ThreadPoolExecutor, InlineExecutor, ThreadPoolBuilder, TaskOptions, TaskBuilder<&'static ThreadPoolExecutor>,
            Permit<ThreadPoolExecutor>, Permit<InlineExecutor>;
        sync: ThreadPoolExecutor, InlineExecutor, ThreadPoolBuilder, TaskOptions, TaskBuilder<&'static ThreadPoolExecutor>,
            Permit<ThreadPoolExecutor>, Permit<InlineExecutor>;
        unpin: ThreadPoolExecutor, InlineExecutor, ThreadPoolBuilder, TaskOptions, TaskBuilder<&'static ThreadPoolExecutor>,
            Permit<ThreadPoolExecutor>, Permit<InlineExecutor>;
        is_static: ThreadPoolExecutor, InlineExecutor, ThreadPoolBuilder,
            Permit<ThreadPoolExecutor>, Permit<InlineExecutor>;
        clone: ThreadPoolExecutor, InlineExecutor, ThreadPoolBuilder, TaskOptions, TaskBuilder<&'static ThreadPoolExecutor>;
        debug: ThreadPoolExecutor, InlineExecutor, ThreadPoolBuilder, TaskOptions, TaskBuilder<&'static ThreadPoolExecutor>,
            Permit<ThreadPoolExecutor>, Permit<InlineExecutor>;
        unwind_safe: ThreadPoolExecutor, InlineExecutor, ThreadPoolBuilder, TaskOptions, TaskBuilder<&'static ThreadPoolExecutor>,
            Permit<ThreadPoolExecutor>, Permit<InlineExecutor>;
    }
    all! {
        send: AnyExecutor, Permit<AnyExecutor>, ExecutorState;
        sync: AnyExecutor, Permit<AnyExecutor>, ExecutorState;
        unpin: AnyExecutor, Permit<AnyExecutor>, ExecutorState;
        is_static: AnyExecutor, Permit<AnyExecutor>, ExecutorState;
        clone: AnyExecutor, ExecutorState;
        debug: AnyExecutor, Permit<AnyExecutor>, ExecutorState;
        unwind_safe: AnyExecutor, Permit<AnyExecutor>, ExecutorState;
    }
    all! {
        send: TaskBuilder<Permit<InlineExecutor>>;
        sync: TaskBuilder<Permit<InlineExecutor>>;
        unpin: TaskBuilder<Permit<InlineExecutor>>;
        is_static: TaskBuilder<Permit<InlineExecutor>>;
        debug: TaskBuilder<Permit<InlineExecutor>>;
        unwind_safe: TaskBuilder<Permit<InlineExecutor>>;
    }
    all! {
        send: WorkerInfo;
        sync: WorkerInfo;
        unpin: WorkerInfo;
        is_static: WorkerInfo;
        clone: WorkerInfo;
        debug: WorkerInfo;
        unwind_safe: WorkerInfo;
    }
}

#[cfg(feature = "process")]
#[test]
fn worker_processes_and_what_goes_there() {
    use concurrent_futures::{
        Buffer, BufferIntoIter, ParentPool, Process, ProcessBuilder, ProcessExit, ProcessHandle,
        ProcessPoolBuilder, ProcessPoolExecutor, Usage, WorkerStderr, ipc,
    };
    all! {
        send: ProcessPoolExecutor, ProcessPoolBuilder, TaskBuilder<&'static ProcessPoolExecutor>, ParentPool,
            Permit<ProcessPoolExecutor>, Permit<ParentPool>,
            Buffer<f64>, BufferIntoIter<f64>, WorkerStderr;
        sync: ProcessPoolExecutor, ProcessPoolBuilder, TaskBuilder<&'static ProcessPoolExecutor>, ParentPool,
            Permit<ProcessPoolExecutor>, Permit<ParentPool>,
            Buffer<f64>, BufferIntoIter<f64>, WorkerStderr;
        unpin: ProcessPoolExecutor, ProcessPoolBuilder, TaskBuilder<&'static ProcessPoolExecutor>, ParentPool,
            Permit<ProcessPoolExecutor>, Permit<ParentPool>,
            Buffer<f64>, BufferIntoIter<f64>, WorkerStderr;
        unwind_safe: ProcessPoolExecutor, ProcessPoolBuilder, TaskBuilder<&'static ProcessPoolExecutor>,
            ParentPool, Permit<ProcessPoolExecutor>, Permit<ParentPool>,
            Buffer<f64>, BufferIntoIter<f64>, WorkerStderr;
        is_static: ProcessPoolExecutor, ProcessPoolBuilder, ParentPool,
            Permit<ProcessPoolExecutor>, Permit<ParentPool>,
            Buffer<f64>, BufferIntoIter<f64>, WorkerStderr;
        clone: ProcessPoolExecutor, ProcessPoolBuilder, TaskBuilder<&'static ProcessPoolExecutor>,
            ParentPool, Buffer<f64>, BufferIntoIter<f64>, WorkerStderr;
        debug: ProcessPoolExecutor, ProcessPoolBuilder, TaskBuilder<&'static ProcessPoolExecutor>, ParentPool,
            Permit<ProcessPoolExecutor>, Permit<ParentPool>,
            Buffer<f64>, BufferIntoIter<f64>, WorkerStderr;
    }
    all! {
        send: Process<NotSync>, ProcessHandle, ProcessBuilder, ProcessExit, Usage;
        sync: Process<NotSync>, ProcessHandle, ProcessBuilder, ProcessExit, Usage;
        unpin: Process<NotDebug>, ProcessHandle, ProcessBuilder, ProcessExit, Usage;
        unwind_safe: Process<NotSync>, ProcessHandle, ProcessBuilder, ProcessExit, Usage;
        is_static: Process<u8>, ProcessHandle, ProcessBuilder, ProcessExit, Usage;
        clone: ProcessHandle, ProcessBuilder, ProcessExit;
        debug: Process<NotDebug>, ProcessHandle, ProcessBuilder, ProcessExit;
        value: Usage;
    }
    fn waits_are_send(process: &Process<NotSync>) {
        fn waits<T: Send + 'static>(_: T) {}
        waits(process.started());
        waits(process.join());
        waits(process.handle().started());
        waits(process.handle().join());
    }
    let _ = waits_are_send;
    all! {
        send: ipc::Shared<u8>, ipc::SharedSlice<u8>, ipc::SharedArray<u8>, ipc::SharedChunks<u8>,
            ipc::Chunk<u8>, ipc::SharedVec<u8>;
        sync: ipc::Shared<u8>, ipc::SharedSlice<u8>, ipc::SharedArray<u8>, ipc::SharedChunks<u8>,
            ipc::Chunk<u8>, ipc::SharedVec<u8>;
        unpin: ipc::Shared<u8>, ipc::SharedSlice<u8>, ipc::SharedArray<u8>, ipc::SharedChunks<u8>,
            ipc::Chunk<u8>, ipc::SharedVec<u8>, ipc::Error;
        unwind_safe: ipc::Shared<u8>, ipc::SharedSlice<u8>, ipc::SharedArray<u8>, ipc::SharedChunks<u8>,
            ipc::Chunk<u8>, ipc::SharedVec<u8>, ipc::Error;
        is_static: ipc::Shared<u8>, ipc::SharedSlice<u8>, ipc::SharedArray<u8>, ipc::SharedChunks<u8>,
            ipc::Chunk<u8>, ipc::SharedVec<u8>;
        clone: ipc::Shared<u8>, ipc::SharedSlice<u8>, ipc::SharedArray<u8>, ipc::SharedChunks<u8>,
            ipc::Chunk<u8>, ipc::Error;
        debug: ipc::Shared<u8>, ipc::SharedSlice<u8>, ipc::SharedArray<u8>, ipc::SharedChunks<u8>,
            ipc::Chunk<u8>, ipc::SharedVec<u8>;
        error: ipc::Error;
    }
    all! {
        send: ipc::ChunkGuard<u8>, ipc::Abandoned<u8>;
        sync: ipc::ChunkGuard<u8>, ipc::Abandoned<u8>;
        unpin: ipc::ChunkGuard<u8>, ipc::Abandoned<u8>;
        unwind_safe: ipc::ChunkGuard<u8>, ipc::Abandoned<u8>;
        is_static: ipc::ChunkGuard<u8>, ipc::Abandoned<u8>;
        debug: ipc::ChunkGuard<u8>, ipc::Abandoned<NotDebug>;
        error: ipc::Abandoned<NotDebug>;
    }
    let _ = chunk_waits_are_send;
    fn chunk_waits_are_send(chunk: &ipc::Chunk<u8>) {
        fn waits<T: Send>(_: T) {}
        waits(chunk.lock());
    }
    all! {
        send: ipc::Lock, ipc::Semaphore, ipc::Event, ipc::Barrier, ipc::Value<u8>,
            ipc::LockGuard, ipc::SemaphorePermit, ipc::BarrierWaitResult, ipc::BrokenBarrier;
        sync: ipc::Lock, ipc::Semaphore, ipc::Event, ipc::Barrier, ipc::Value<u8>,
            ipc::LockGuard, ipc::SemaphorePermit, ipc::BarrierWaitResult, ipc::BrokenBarrier;
        unpin: ipc::Lock, ipc::Semaphore, ipc::Event, ipc::Barrier, ipc::Value<u8>,
            ipc::LockGuard, ipc::SemaphorePermit, ipc::BarrierWaitResult, ipc::BrokenBarrier;
        unwind_safe: ipc::Lock, ipc::Semaphore, ipc::Event, ipc::Barrier, ipc::Value<u8>,
            ipc::LockGuard, ipc::SemaphorePermit, ipc::BarrierWaitResult, ipc::BrokenBarrier;
        is_static: ipc::Lock, ipc::Semaphore, ipc::Event, ipc::Barrier, ipc::Value<u8>,
            ipc::LockGuard, ipc::SemaphorePermit;
        clone: ipc::Lock, ipc::Semaphore, ipc::Event, ipc::Barrier, ipc::Value<u8>,
            ipc::BarrierWaitResult, ipc::BrokenBarrier;
        debug: ipc::Lock, ipc::Semaphore, ipc::Event, ipc::Barrier, ipc::Value<u8>,
            ipc::LockGuard, ipc::SemaphorePermit, ipc::BarrierWaitResult, ipc::BrokenBarrier;
        error: ipc::BrokenBarrier;
    }
    let _ = lock_waits_are_send;
    fn lock_waits_are_send(
        (lock, slots): (&ipc::Lock, &ipc::Semaphore),
        (event, barrier): (&ipc::Event, &ipc::Barrier),
        value: &ipc::Value<u8>,
    ) {
        fn waits<T: Send>(_: T) {}
        waits(lock.lock());
        waits(slots.acquire());
        waits(slots.acquire_many(2));
        waits(event.wait());
        waits(barrier.wait());
        waits(value.set(1));
        waits(value.with(|it| *it += 1));
        waits(value.wait_until(|it| *it > 1));
    }
    all! {
        send: ipc::FreezeError<u8>;
        sync: ipc::FreezeError<u8>;
        unpin: ipc::FreezeError<u8>;
        unwind_safe: ipc::FreezeError<u8>;
        is_static: ipc::FreezeError<u8>;
        clone: ipc::FreezeError<u8>;
        debug: ipc::FreezeError<NotDebug>;
        error: ipc::FreezeError<u8>;
    }
    all! {
        send: ipc::Sender<NotSync>, ipc::Receiver<NotSync>, ipc::ChannelBuilder;
        sync: ipc::Sender<NotSync>, ipc::Receiver<NotSync>, ipc::ChannelBuilder;
        unpin: ipc::Sender<NotSync>, ipc::Receiver<NotSync>, ipc::ChannelBuilder;
        unwind_safe: ipc::Sender<NotSync>, ipc::Receiver<NotSync>, ipc::ChannelBuilder;
        is_static: ipc::Sender<u8>, ipc::Receiver<u8>, ipc::ChannelBuilder;
        clone: ipc::Sender<NotSync>, ipc::Receiver<NotSync>, ipc::ChannelBuilder;
        debug: ipc::Sender<NotDebug>, ipc::Receiver<NotDebug>, ipc::ChannelBuilder;
    }
    all! {
        send: ipc::SendError<NotSync>, ipc::TrySendError<NotSync>, ipc::SendTimeoutError<NotSync>;
        sync: ipc::SendError<u8>, ipc::TrySendError<u8>, ipc::SendTimeoutError<u8>;
        unpin: ipc::SendError<u8>, ipc::TrySendError<u8>, ipc::SendTimeoutError<u8>,
            ipc::RecvError, ipc::TryRecvError, ipc::RecvTimeoutError;
        unwind_safe: ipc::SendError<u8>, ipc::TrySendError<u8>, ipc::SendTimeoutError<u8>,
            ipc::RecvError, ipc::TryRecvError, ipc::RecvTimeoutError;
        is_static: ipc::SendError<u8>, ipc::TrySendError<u8>, ipc::SendTimeoutError<u8>;
        clone: ipc::SendError<u8>, ipc::TrySendError<u8>, ipc::SendTimeoutError<u8>,
            ipc::RecvError, ipc::TryRecvError, ipc::RecvTimeoutError;
        debug: ipc::SendError<NotDebug>, ipc::TrySendError<NotDebug>, ipc::SendTimeoutError<NotDebug>;
        error: ipc::RecvError, ipc::TryRecvError, ipc::RecvTimeoutError, ipc::SendError<u8>,
            ipc::TrySendError<u8>, ipc::SendTimeoutError<u8>;
    }
    fn channel_waits_are_send(sender: &ipc::Sender<u8>, receiver: &ipc::Receiver<u8>) {
        fn waits<T: Send>(_: T) {}
        waits(sender.send(1));
        waits(sender.closed());
        waits(receiver.recv());
    }
    let _ = channel_waits_are_send;
}

#[test]
fn futures_and_streams_move_with_whatever_they_yield() {
    // The result needs to be `Send`, since a worker makes it, and nothing else.
    all! {
        send: TaskFuture<NotSync>, Completer<NotSync>, AsCompleted<NotSync>,
            AsCompletedTimeout<NotSync>, Wait<NotSync>, DoneAndNotDone<NotSync>, Map<NotSync>,
            Unordered<NotSync>, ShutdownFuture;
        unpin: TaskFuture<NotSync>, Completer<NotSync>, AsCompleted<NotSync>,
            AsCompletedTimeout<NotSync>, Wait<NotSync>, DoneAndNotDone<NotSync>, Map<NotSync>,
            Unordered<NotSync>, ShutdownFuture;
        // Shared, they let go of a result only to an owner.
        sync: TaskFuture<NotSync>, Completer<NotSync>, AsCompleted<NotSync>,
            AsCompletedTimeout<NotSync>, Wait<NotSync>, DoneAndNotDone<NotSync>, Map<u8>,
            Unordered<u8>, ShutdownFuture;
        debug: TaskFuture<NotDebug>, Completer<NotDebug>, AsCompleted<NotDebug>,
            AsCompletedTimeout<NotDebug>, Wait<NotDebug>, DoneAndNotDone<u8>, Map<NotDebug>,
            Unordered<NotDebug>, ShutdownFuture;
        is_static: TaskFuture<u8>, Completer<u8>, AsCompleted<u8>, AsCompletedTimeout<u8>,
            Wait<u8>, DoneAndNotDone<u8>, Map<u8>, Unordered<u8>, ShutdownFuture;
    }
    all! {
        send: SharedTask<u8>, TaskSet<u8, NotSync>, NextTimeout<'_, u8, NotSync>, TaskHandle,
            TaskDone, StopToken, StopSource, Stopped, Closed, Next<'_, AsCompleted<NotSync>>;
        sync: SharedTask<u8>, TaskSet<u8, NotSync>, TaskHandle, TaskDone, StopToken, StopSource,
            Stopped, Closed, NextTimeout<'_, u8, NotSync>, Next<'_, AsCompleted<u8>>;
        unpin: SharedTask<NotSync>, TaskSet<NotSync, NotSync>, NextTimeout<'_, u8, NotSync>,
            TaskHandle, TaskDone, StopToken, StopSource, Stopped, Closed, Next<'_, AsCompleted<NotSync>>;
        debug: SharedTask<NotDebug>, TaskSet<NotDebug, NotDebug>, TaskHandle, TaskDone, StopToken,
            StopSource, Stopped, Closed, NextTimeout<'_, NotDebug, NotDebug>,
            Next<'_, AsCompleted<NotDebug>>;
        clone: SharedTask<NotDebug>, TaskHandle, StopToken, StopSource;
        is_static: SharedTask<u8>, TaskSet<u8, u8>, TaskHandle, TaskDone, StopToken, StopSource,
            Stopped, Closed;
    }
}

#[test]
fn what_a_map_becomes_moves_with_its_results() {
    all! {
        send: MapFuture<NotSync>, TryMap<NotSync, NotSync>, TryMapFuture<NotSync, NotSync>,
            TryMapError<NotSync>, Blocking<Map<NotSync>>, Next<'_, Map<NotSync>>;
        unpin: MapFuture<NotDebug>, TryMap<NotDebug, NotDebug>, TryMapFuture<NotDebug, NotDebug>,
            TryMapError<u8>, Blocking<Map<NotDebug>>, Next<'_, Map<NotDebug>>;
        sync: MapFuture<u8>, TryMap<u8, u8>, TryMapFuture<u8, u8>, TryMapError<u8>,
            Blocking<Map<u8>>;
        debug: MapFuture<NotDebug>, TryMap<NotDebug, NotDebug>, TryMapFuture<NotDebug, NotDebug>,
            TryMapError<u8>, Blocking<Map<NotDebug>>;
        is_static: MapFuture<u8>, TryMap<u8, u8>, TryMapFuture<u8, u8>, TryMapError<u8>,
            Blocking<Map<u8>>;
        error: TryMapError<String>;
        clone: TryMapError<u8>;
        unwind_safe: MapFuture<NotSync>, TryMap<NotSync, NotSync>,
            TryMapFuture<NotSync, NotSync>, TryMapError<u8>, Blocking<Map<NotSync>>;
    }
}

/// A panic that is caught around one of them leaves it whole, whatever its result is.
#[test]
fn futures_and_streams_are_unwind_safe() {
    all! {
        unwind_safe: TaskFuture<NotSync>, Completer<NotSync>, SharedTask<NotSync>, TaskHandle,
            TaskDone, StopToken, StopSource, Stopped, Closed, TaskSet<NotSync, NotSync>,
            AsCompleted<NotSync>, AsCompletedTimeout<NotSync>, Wait<NotSync>,
            DoneAndNotDone<NotSync>, Map<NotSync>, Unordered<NotSync>, ShutdownFuture;
    }
}

#[test]
fn what_ends_says_so() {
    fn future<T: FusedFuture>() {}
    fn stream<T: FusedStream>() {}
    all! {
        future: Wait<NotSync>, ShutdownFuture, TaskDone, Stopped, Closed, Next<'_, AsCompleted<NotSync>>,
            Next<'_, Map<NotSync>>, NextTimeout<'_, u8, NotSync>, MapFuture<NotSync>, TryMapFuture<NotSync, NotSync>;
        stream: AsCompleted<NotSync>, AsCompletedTimeout<NotSync>, Map<NotSync>,
            TryMap<NotSync, NotSync>, Unordered<NotSync>, TaskSet<u8, NotSync>;
    }
    #[cfg(feature = "process")]
    {
        use concurrent_futures::ipc;
        all! {
            stream: ipc::Receiver<u8>;
        }
    }
}

/// Without `Debug`, which no future asks of its result; nor `Unpin`.
struct NotDebug(std::marker::PhantomPinned);

#[test]
fn a_result_that_is_pinned_pins_no_future() {
    all! {
        unpin: TaskFuture<NotDebug>, SharedTask<NotDebug>, TaskSet<NotDebug, NotDebug>, AsCompleted<NotDebug>, AsCompletedTimeout<NotDebug>,
            Wait<NotDebug>, Map<NotDebug>, Unordered<NotDebug>;
    }
}

#[test]
fn errors() {
    all! {
        error: Error, Panicked, BrokenPool, Unfinished, TrySubmitError<fn()>, CodecError, WorkerLost;
        unpin: Error, Panicked, BrokenPool, Unfinished, TrySubmitError<fn()>, CodecError, WorkerLost,
            PortableError, UnobservedFailure<'_>, HasRun, LossCause, CodecSide;
        send: PortableError, HasRun, LossCause, CodecSide, UnobservedFailure<'_>;
        sync: PortableError, HasRun, LossCause, CodecSide, UnobservedFailure<'_>;
        debug: PortableError, HasRun, LossCause, CodecSide, UnobservedFailure<'_>;
        send: BrokenPool;
        sync: BrokenPool;
        clone: Error, Panicked, BrokenPool, CodecError, WorkerLost, LossCause, UnobservedFailure<'_>;
        debug: TrySubmitError<NotDebug>;
        unwind_safe: Error, Panicked, BrokenPool, Unfinished, TrySubmitError<fn()>, CodecError,
            WorkerLost, PortableError, HasRun, LossCause, CodecSide, PanicLocation,
            UnobservedFailure<'_>;
    }
    // Boxed and questioned like any error.
    fn boxed() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Err(Error::Cancelled)?
    }
    assert!(boxed().unwrap_err().is::<Error>());
}

#[test]
fn plain_values() {
    fn hash<T: Hash + Ord + Copy + Display>() {}
    hash::<TaskId>();
    all! {
      value: TaskId, ReturnWhen, Shutdown, Unfinished, HasRun, CodecSide;
      clone: Label, Metrics, Histogram, ShutdownReport, RunningTask, PanicLocation;
      debug: Label, Metrics, Histogram, ShutdownReport, RunningTask, PanicLocation;
      send: TaskId, Label, ReturnWhen, Shutdown, Metrics, Histogram, ShutdownReport, RunningTask,
          PanicLocation;
      sync: TaskId, Label, ReturnWhen, Shutdown, Metrics, Histogram, ShutdownReport, RunningTask,
          PanicLocation;
      unpin: TaskId, Label, ReturnWhen, Shutdown, Metrics, Histogram, ShutdownReport, RunningTask,
          PanicLocation;
      unwind_safe: TaskId, Label, ReturnWhen, Shutdown, Metrics, Histogram, ShutdownReport,
          RunningTask, PanicLocation;
      is_static: TaskId, Label, ReturnWhen, Shutdown, Metrics, Histogram, ShutdownReport, RunningTask,
          PanicLocation;
    }
    all! {
        send: Dump, Worker, Running, Queue, Waiting, Awaited;
        sync: Dump, Worker, Running, Queue, Waiting, Awaited;
        unpin: Dump, Worker, Running, Queue, Waiting, Awaited;
        unwind_safe: Dump, Worker, Running, Queue, Waiting, Awaited;
        is_static: Dump, Worker, Running, Queue, Waiting, Awaited;
        clone: Dump, Worker, Running, Queue, Waiting, Awaited;
        debug: Dump, Worker, Running, Queue, Waiting, Awaited;
    }
}

#[test]
fn a_call_is_as_its_arguments_are() {
    all! {
        send: Call<NotSync, NotSync>, Call<NotSync, Rc<u8>>;
        sync: Call<u8, Rc<u8>>;
        unpin: Call<u8, NotDebug>;
        unwind_safe: Call<u8, NotSync>;
        is_static: Call<u8, u8>;
        debug: Call<u8, NotDebug>;
        clone: Call<u8, NotDebug>;
    }
}

/// What an `async fn` gives has no name; that it may be spawned is a promise all the same.
#[test]
fn the_futures_of_async_methods_are_send() {
    fn generic<E: Executor>(executor: &E) {
        send_value(&executor.reserve());
        send_value(&executor.map(u32::count_ones, 0..3));
    }

    let (pool, inline) = (ThreadPoolExecutor::new(), InlineExecutor::new());
    send_value(&pool.reserve());
    send_value(&inline.reserve());
    generic(&pool);
    generic(&inline);
    let all = concurrent_futures::as_completed([pool.submit(|| 1)]);
    send_value(&async move {
        let mut all = all;
        futures::StreamExt::next(&mut all).await
    });
    send_value(&async move { pool.shutdown(Shutdown::Drain).await });
}

/// Neither a job nor a body has to be `Sync` or `Unpin`, and its result neither.
#[test]
fn jobs_and_bodies_need_no_more_than_send() {
    let pool = ThreadPoolExecutor::new();
    let cell = Cell::new(7);
    assert_eq!(pool.submit(move || cell).result().unwrap().get(), 7);
    let cell = Cell::new(8);
    let body = async move {
        let pinned = std::marker::PhantomPinned;
        futures::future::ready(()).await;
        let _ = pinned;
        cell
    };
    assert_eq!(pool.submit_future(body).result().unwrap().get(), 8);
    let cells = pool.map(|cell: Cell<u8>| cell, [Cell::new(9)]).result().unwrap();
    assert_eq!(cells[0].get(), 9);
}

/// Each trait that `docs/public-api.txt` lists for a type is checked here. The list's own test finds what the
/// code no longer has, on a nightly toolchain only.
#[test]
fn no_public_type_is_missing_here() {
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/public-api.txt");
    let Ok(list) = std::fs::read_to_string(list) else { return }; // no part of the package
    let checks: [(&str, &[&str]); 9] = [
        ("core::marker::Send", &["send", "error"]),
        ("core::marker::Sync", &["sync", "error"]),
        ("core::marker::Unpin", &["unpin"]),
        ("core::panic::unwind_safe::UnwindSafe", &["unwind_safe"]),
        ("core::clone::Clone", &["clone", "value"]),
        ("core::fmt::Debug", &["debug", "value", "error"]),
        ("core::error::Error", &["error"]),
        ("futures_core::future::FusedFuture", &["future"]),
        ("futures_core::stream::FusedStream", &["stream"]),
    ];
    let mut count = 0;
    let mut missing = Vec::new();
    for (name, checks) in checks {
        let checked: BTreeSet<_> = checks.iter().flat_map(|check| checked_by(check)).collect();
        let implemented = format!(" {name} for concurrent_futures::");
        let types = list.lines().filter_map(|line| Some(line.split_once(&implemented)?.1));
        for path in types.map(until_parameters) {
            count += 1;
            // Those of these modules are imported above.
            let imported = path.strip_prefix("dump::").or(path.strip_prefix("task::"));
            if !checked.contains(imported.unwrap_or(path)) {
                missing.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(count > 300, "{count} found in the list");
    assert!(missing.is_empty(), "not checked:\n{}", missing.join("\n"));
}

fn until_parameters(path: &str) -> &str {
    path.split(['<', '(', ' ']).next().unwrap_or(path)
}

/// The names of the types that this file gives to a check, without those of their parameters.
fn checked_by(check: &str) -> Vec<&'static str> {
    let start = format!(" {check}: ");
    let lists = include_str!("auto_traits.rs").split(&*start).skip(1);
    let lists = lists.map(|rest| rest.split_once(';').map_or(rest, |(types, _)| types));
    let mut depth = 0;
    let words = lists.flat_map(|types| types.split_inclusive([',', '<', '>']));
    let names = words.filter_map(|word| {
        let name = (depth == 0).then(|| word.trim_end_matches([',', '<']).trim());
        match word.as_bytes()[word.len() - 1] {
            b'<' => depth += 1,
            b'>' => depth -= 1,
            _ => {}
        }
        name
    });
    names.collect()
}
