//! Executors for async Rust in the manner of Python's `concurrent.futures`: hand a computation to a
//! pool of threads or of worker processes and await the result, while the runtime's threads stay free
//! for I/O. `submit`, futures, `map`, `as_completed`, `wait`.
//!
#![doc = include_str!("../docs/flow.svg")]
//!
//! ```
//! use concurrent_futures::{ThreadPoolExecutor, as_completed};
//!
//! # fn render_row(y: u32) -> u32 { y }
//! # futures::executor::block_on(async {
//! let pool = ThreadPoolExecutor::new();
//!
//! // One computation.
//! let answer = pool.submit(|| 6 * 7).await?;
//! # assert_eq!(answer, 42);
//!
//! // The same function over many items: all results in order, or one by one.
//! let squares: Vec<u64> = pool.map(|x| x * x, 0..1_000).await?;
//! # assert_eq!(squares.len(), 1_000);
//! let mut rows = pool.map(render_row, 0..100).buffer_size(16);
//! while let Some(row) = rows.next().await {
//!     let row = row?;
//! #   let _ = row;
//! }
//!
//! // Different computations, in the order in which they finish.
//! let futures: Vec<_> = ["a", "bb"].map(|word| pool.submit(|| word.len())).into();
//! let mut done = as_completed(futures);
//! while let Some((index, length)) = done.next().await {
//!     assert_eq!(length?, index + 1);
//! }
//! # Ok::<(), concurrent_futures::Error>(())
//! # }).unwrap();
//! ```
//!
//! The [guide] says how things are done: [which executor](guide::which_executor), [how big a task
//! should be](guide::task_size), [cancellation](guide::cancellation),
//! [backpressure](guide::backpressure), [testing](guide::testing), [progress](guide::progress),
//! [what happens when something fails](guide::failures), and how to come [from
//! `concurrent.futures`](guide::from_concurrent_futures), [from
//! `multiprocessing`](guide::from_multiprocessing), [from
//! `spawn_blocking`](guide::from_spawn_blocking) and others.
//!
//! # The way of a task
//!
//! 1. [`submit`](ThreadPoolExecutor::submit) takes a [`Job`], a closure or a
//!    [`call!`], and gives a [`TaskFuture`]. If the queue may be full, take
//!    [`try_submit`](ThreadPoolExecutor::try_submit) or wait with
//!    [`reserve`](ThreadPoolExecutor::reserve). [`task()`](ThreadPoolExecutor::task) sets a label
//!    and time limits.
//! 2. The task waits in the queue, first in, first out. Dropping its future withdraws it.
//! 3. A worker runs it. The job can look at [`task::stop_requested`], submit to its own pool, and
//!    wait for that.
//! 4. Done-callbacks run, then the future is ready: with the job's value or an [`Error`]. It is
//!    awaited alone, or in a set: [`as_completed()`], [`wait()`].
//! 5. [`shutdown`](ThreadPoolExecutor::shutdown) ends the pool and reports what became of the
//!    rest. So does dropping the last handle, without a report.
//!
//! # Which executor
//!
//! [`ThreadPoolExecutor`] runs jobs on threads of its own: any closure, and nothing is copied.
//! [`ProcessPoolExecutor`] runs calls of plain functions in worker processes: a crash fails one
//! task, a task that runs can be killed, and memory is isolated; for that, arguments and results
//! are serialised, and a task costs microseconds. It comes with the feature `process`, which is
//! on by default, and needs Linux; so does [`Process`], one call in a process of its own. [`InlineExecutor`] runs jobs on the caller's thread, for unit
//! tests. Code that is generic over [`Executor`] runs on all of them.
//!
//! Which function a worker process is to call, it learns from where that is in the program's file.
//! So functions need no macro, and `main` no extra line.
//!
//! # Values, errors and panics
//!
//! A job's own `Result` is its value, so a fallible job is awaited with `??`. [`Error`] says why
//! there is no value. A panic of a job is [`Error::Panicked`], and the worker goes on; panics of
//! callbacks, wakers and destructors that run on a worker are reported by the panic hook and go
//! no further. To know where a job panicked, the crate puts a hook in front of the existing one
//! when the first executor is made. A pool that is built with
//! [`print_panics(false)`](ThreadPoolBuilder::print_panics) leaves a job's panic to its error.
//!
//! # Time limits
//!
//! They hold on any executor, also without a tokio runtime: a thread of the crate's own keeps
//! the time. It starts with the first limit and ends soon after the last. If the system refuses it, a
//! task with a limit ends with [`Error::NoTimer`]; what only waits keeps its limit all the same.
//!
//! # How the crate is laid out
//!
//! A file uses only what is below it, or beside it in its folder.
//!
//! ```text
//! 9  lib.rs              this page
//!    any_executor.rs     an executor whose kind is chosen at run time
//!    unwind_safe.rs      auto traits of the public types
//!    guide.rs            the guide, of docs/guide
//! 8  process_pool/       ProcessPoolExecutor, its builder and options
//!    process/            Process: one call in a process of its own
//! 7  local/              one worker process on this machine: the pool's record of it, shared memory
//!    local/start/        how it comes to be: before main, the helper process, fork
//! 6  remote/             calls that run in another process, whatever carries them
//!    remote/scheduler/   which worker gets which call, and what a lost worker leaves
//! 5  thread_pool/        ThreadPoolExecutor, its builder, queue and workers
//!    inline.rs           InlineExecutor
//! 4  executor/           the traits Executor and ExecutorService, Permit, TaskBuilder
//!    lifecycle.rs        open, closed, broken: what all pools have
//!    room.rs             room in a bounded queue
//!    settings.rs         rules that builders share
//!    initializer.rs      the results of initializers
//! 3  map/                Map: windows, chunks, order; built on what a crew can do
//!    as_completed.rs     results as they finish
//!    task_set.rs         the same for a set that grows
//!    shared_task.rs      a result that many can await
//!    portable_error.rs   any error, on its way to another process
//!    wait.rs             wait, ReturnWhen
//!    shutdown.rs         how an executor ends
//!    dump.rs             a pool at one moment, as a text for people
//! 2  future.rs           TaskFuture: poll, cancel, result, callbacks; the drop rule
//!    task.rs             what a running job sees
//!    stop_token.rs       a stop request as a value
//!    task_handle.rs      a task as others than its future's owner see it
//!    task_options.rs     options of a task: label, limits, retries, token
//!    next.rs             the next item of a stream, as a future
//!    blocking.rs         iteration by blocking
//!    closed.rs           the end of an executor, as a future
//!    ipc/                what processes share: arrays, values, channels
//!    worker_info.rs      the worker that code runs on
//!    job.rs              Job, Call and call!
//!    function/           how a plain function is named for another process
//!    codec/              values as bytes, in one format that describes itself; Buffer
//! 1  core/               the task cell: state, memory, run, outcome; sets of tasks
//!    core/worker/        what a worker's thread has: context, local queue, waits
//! 0  reactor/            the thread that waits for descriptors
//!    sys/                what the operating system offers, as safe functions
//!    error.rs, executor_state.rs, label.rs, portable.rs, panic.rs, metrics.rs, instruments.rs, trace/, timer.rs, fork.rs,
//!    clock.rs, sync.rs, shrink.rs, cache_padded.rs
//! ```
#![cfg_attr(
    not(feature = "process"),
    doc = "[`ProcessPoolExecutor`]: #which-executor\n[`Process`]: #which-executor"
)]
#![cfg_attr(docsrs, feature(doc_cfg))] // docs.rs shows which feature an item needs
#![deny(unsafe_code)]
#![cfg_attr(
    any(not(target_os = "linux"), no_process_pool),
    allow(dead_code, reason = "there are no worker processes to run their side of the pool")
)]

// # Three walks
//
// The files in the order in which work passes through them; a test checks that they exist. What files
// below `remote`, `local`, `codec` and `function` do in which process, their first lines say. The others
// run where an executor was made, which may be a worker process whose tasks have executors of their own.
//
// A closure on a thread:
//
//   thread_pool/mod.rs             `submit`
//   room.rs                        room in a bounded queue, if it has a bound
//   thread_pool/body.rs            the closure is the body of a task
//   core/submit.rs, core/cell.rs   the task: a block that the future and the pool share
//   thread_pool/pool/mod.rs        the pool's lock: the task goes into the queue
//   thread_pool/queue.rs
//   thread_pool/sleep.rs           an idle worker is called ..
//   thread_pool/pool/workers.rs    .. or one more is started
//   thread_pool/worker.rs          the worker takes the task
//   core/runnable.rs               its claim: it runs once, or was withdrawn
//   core/task.rs                   its run, in a frame of
//   core/worker/context.rs         .. its own: what `task::` functions see
//   core/outcome.rs                the result is published, callbacks run, the future is woken
//   future.rs                      `poll` takes the result
//
// A call in a worker process; those marked with * run there:
//
//   process_pool/mod.rs            `submit`
//   remote/call.rs                 function and arguments are packed ..
//   function/mod.rs                .. by the function's place in the program
//   codec/encoder/mod.rs           .. and as bytes that describe themselves
//   remote/submission.rs           what the scheduler is given, with a sink for the reply
//   remote/scheduler/mod.rs        the pool's lock: the task goes into the queue
//   remote/scheduler/dispatch.rs   a worker is chosen or started
//   remote/scheduler/transport.rs  the seam
//   process_pool/transport/mod.rs  worker processes, behind the seam
//   local/worker_handle.rs         the claim is armed, and the frame put in line ..
//   local/outgoing.rs              .. and sent once the lock is released
//   local/parent_connection.rs     * the frame is read
//   remote/worker.rs               * the claim is taken
//   remote/run.rs                  * the function is called
//   remote/reply.rs                * its value, panic or error
//   reactor/mod.rs                 the socket is readable
//   reactor/relay.rs               the thread that reads, and where the user's code runs
//   remote/frame.rs                the frame, which may be anything
//   remote/scheduler/replies.rs    the pool's lock: the task leaves the pool, the worker gets more
//   remote/call.rs                 the reply is unpacked
//   core/promise.rs                the future is finished
//   future.rs                      `poll` takes the result
//
// An item of a map:
//
//   map/consumer.rs                its start, by the first poll
//   map/engine.rs                  a driver is queued on the executor's threads
//   map/state.rs, map/input.rs     it takes its share under the window
//   map/apply.rs, map/chunk.rs     on threads: the function is applied, item by item
//   map/elsewhere.rs               on processes: the chunk leaves the thread ..
//   remote/map.rs                  .. as one task, which goes the way of a call
//   remote/map_context.rs          what all items share goes ahead of a worker's first chunk
//   remote/run_chunk.rs            * item by item
//   remote/checkpoint.rs           * what a dead worker leaves behind
//   remote/map.rs                  the reply is the next step of its chunk
//   map/engine.rs                  the driver goes on; the chunk is finished
//   map/segment.rs                 results in their places
//   map/consumer.rs                the consumer gets them in order

mod any_executor;
mod as_completed;
mod blocking;
mod cache_padded;
mod clock;
mod closed;
#[cfg(feature = "process")]
mod codec;
#[allow(unsafe_code)]
mod core;
pub mod dump;
mod error;
mod executor;
mod executor_state;
#[allow(unsafe_code)]
mod fork;
#[cfg(feature = "process")]
#[allow(unsafe_code)]
mod function;
mod future;
#[cfg(any(doc, all(doctest, feature = "process")))]
pub mod guide;
mod initializer;
mod inline;
mod instruments;
#[cfg(feature = "process")]
pub mod ipc;
mod job;
mod label;
mod lifecycle;
#[cfg(feature = "process")]
mod local;
mod map;
mod metrics;
mod next;
mod panic;
mod portable;
mod portable_error;
#[cfg(feature = "process")]
mod process;
#[cfg(feature = "process")]
mod process_pool;
#[cfg(feature = "process")]
mod reactor;
#[cfg(feature = "process")]
mod remote;
mod room;
mod settings;
mod shared_task;
mod shrink;
mod shutdown;
mod stop_token;
mod sync;
#[cfg(feature = "process")]
#[allow(unsafe_code)]
mod sys;
pub mod task;
mod task_handle;
mod task_options;
mod task_set;
mod thread_pool;
mod timer;
mod trace;
mod unwind_safe;
mod wait;
mod worker_info;

pub use any_executor::AnyExecutor;
pub use as_completed::{AsCompleted, AsCompletedTimeout, as_completed};
pub use blocking::Blocking;
pub use closed::Closed;
#[cfg(feature = "process")]
pub use codec::buffer::{Buffer, BufferIntoIter, Element};
pub use core::UnobservedFailure;
pub use error::{
    BrokenPool, CodecError, CodecSide, Error, HasRun, LossCause, TrySubmitError, Unfinished,
    WorkerLost,
};
pub use executor::{Executor, ExecutorService, Permit, TaskBuilder};
pub use executor_state::ExecutorState;
pub use future::{Completer, TaskFuture};
pub use initializer::InitializerOutcome;
pub use inline::InlineExecutor;
#[cfg(feature = "metrics")]
pub use instruments::export_metrics;
pub use job::{Call, Job, PortableCall};
pub use label::Label;
#[cfg(feature = "process")]
pub use local::start::init;
#[cfg(feature = "process")]
pub use local::start::zygote::WorkerStderr;
pub use map::{Map, MapFuture, TryMap, TryMapError, TryMapFuture, Unordered};
pub use metrics::{Histogram, Metrics};
pub use next::Next;
pub use panic::{PanicLocation, Panicked};
pub use portable::Portable;
pub use portable_error::PortableError;
#[cfg(feature = "process")]
pub use process::{Process, ProcessBuilder, ProcessExit, ProcessHandle};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use process_pool::fuzzing;
#[cfg(feature = "process")]
pub use process_pool::{ProcessPoolBuilder, ProcessPoolExecutor};
#[cfg(feature = "process")]
pub use remote::parent_pool::ParentPool;
pub use shared_task::SharedTask;
pub use shutdown::{RunningTask, Shutdown, ShutdownFuture, ShutdownReport};
pub use stop_token::{StopSource, StopToken, Stopped};
#[cfg(feature = "process")]
pub use sys::Usage;
pub use task_handle::{TaskDone, TaskHandle};
pub use task_options::TaskOptions;
pub use task_set::{NextTimeout, TaskSet};
pub use thread_pool::{ThreadPoolBuilder, ThreadPoolExecutor};
pub use wait::{DoneAndNotDone, ReturnWhen, Wait, wait};
pub use worker_info::WorkerInfo;

/// The README's code is compiled and run with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
