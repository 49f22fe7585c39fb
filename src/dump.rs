//! A pool at one moment, as a text that a person reads when something is wrong: who runs what since
//! when, what is queued, who waits for whom.
//!
//! A [`Dump`] comes from [`ThreadPoolExecutor::dump`](crate::ThreadPoolExecutor::dump), or from the
//! method of the same name of a process pool. It can be taken at any time: when all workers hang,
//! inside of a job, during a shutdown. It holds the pool's lock for a short time that does not grow
//! with the queue, and runs no code of yours under it.
//!
//! ```
//! use concurrent_futures::ThreadPoolExecutor;
//! use std::sync::mpsc;
//!
//! let pool = ThreadPoolExecutor::builder().max_workers(1).name("render").build()?;
//! let (sender, receiver) = mpsc::channel::<()>();
//! let (started, running) = mpsc::channel();
//! let stuck = pool.task().label("thumb").submit(move || {
//!     let _ = started.send(());
//!     receiver.recv().is_ok()
//! });
//! let queued = pool.submit(|| 6 * 7);
//! # running.recv().unwrap();
//! let text = pool.dump().to_string();
//! // pool "render" is open: 1 worker of at most 1, 0 idle
//! // running:
//! //   render_0: task 1 "thumb" for 1.3ms
//! // queued: 1 task, the oldest for 1.2ms
//! //   1 without a label
//! //   task 2 for 1.2ms
//! assert!(text.contains("\"thumb\"") && text.contains("queued: 1 task,"));
//! # drop(sender);
//! # stuck.result()?;
//! # assert_eq!(queued.result()?, 42);
//! # Ok::<(), concurrent_futures::Error>(())
//! ```

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

pub use crate::core::Awaited;

use crate::clock;
use crate::core::TaskId;
use crate::error::Mebibytes;
use crate::executor_state::ExecutorState;
use crate::label::Label;

/// Maximum number of queued tasks that are inspected while the lock is held.
pub(crate) const LOOKED_AT: usize = 4096;

/// Maximum number of each kind in the text.
const LISTED: usize = 10;

/// Maximum number of workers in the text; each has something to tell.
const LISTED_WORKERS: usize = 64;

/// Longer labels are cut in the text.
const LABEL_LENGTH: usize = 80;

/// A pool at one moment. See the [module](self).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dump {
    /// The name of the pool.
    pub pool: String,
    /// The phase of the pool's life.
    pub state: ExecutorState,
    /// The largest number of workers that run tasks at the same time.
    pub max_workers: usize,
    /// The workers that there are, idle ones and spares included.
    pub workers: Vec<Worker>,
    /// Tasks that wait for a worker.
    pub queue: Queue,
    /// Tasks of `submit_future` that have started and wait for something else than a worker: at
    /// most some thousands of them.
    pub suspended: Vec<Waiting>,
}

/// A worker: a thread or a process.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Worker {
    /// The name of its thread or process.
    pub name: String,
    /// The number of its process, if that is not this one and has begun.
    pub pid: Option<u32>,
    /// CPU time of its process so far. `None` for threads, and where [`pid`](Self::pid) is `None` or has
    /// ended.
    pub cpu_time: Option<Duration>,
    /// Largest amount of memory that its process has had in RAM at a time, in bytes. `None` as above.
    pub peak_memory: Option<u64>,
    /// The tasks that it runs. More than one if a task waits for others that run in place, on its stack: then
    /// each waits for the next. None if the worker is idle, or between two tasks.
    pub tasks: Vec<Running>,
    /// It gets no more tasks, as it is about to end.
    pub is_leaving: bool,
    /// A signal such as SIGSTOP has stopped its process. Until SIGCONT continues it, its task does
    /// not get on, and others do what it has not begun. Threads are never stopped alone.
    pub is_stopped: bool,
    /// A freezer has frozen the control group of its process, which is not that of this one. Until it is
    /// thawed, its task does not get on. A kill ends it at once; if the group is of version 1, once it is
    /// thawed. Looked up below `/sys/fs/cgroup`; `false` for threads.
    pub is_frozen: bool,
}

/// A task that a worker runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Running {
    /// Its number.
    pub id: TaskId,
    /// Its label, if it was given one.
    pub label: Option<Label>,
    /// Time since it came to its worker.
    pub elapsed: Duration,
    /// 1, or more if it runs again since earlier workers were lost with it.
    pub attempt: u32,
    /// Somebody has cancelled it, or its time limit has passed, or the pool's shutdown can't wait
    /// any longer; it has not reacted yet.
    pub stop_requested: bool,
    /// Tasks and other futures that it waits for at this moment. Of a task in a worker process: the tasks that it has
    /// submitted to its pool and that are not done, while it waits for any of them.
    pub waits_for: Vec<Awaited>,
    /// Number of other futures that it waits for, beyond those.
    pub waits_for_more: usize,
}

/// Tasks that wait for a worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Queue {
    /// Number of tasks.
    pub count: usize,
    /// Maximum number that may be waiting to start, if that is limited.
    pub capacity: Option<usize>,
    /// The wait of the task that was submitted first.
    pub oldest: Option<Duration>,
    /// The tasks that are next; at most ten.
    pub next: Vec<Waiting>,
    /// Number of tasks with each label, the most frequent first; of the first so many tasks as
    /// `looked_at` says.
    pub labels: Vec<(Option<Label>, usize)>,
    /// Number of tasks that were looked at; the others are only counted.
    pub looked_at: usize,
}

/// A task that is on no worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Waiting {
    /// Its number.
    pub id: TaskId,
    /// Its label, if it was given one.
    pub label: Option<Label>,
    /// Time since its submission.
    pub elapsed: Duration,
}

/// A task that waits, as it is noted under a pool's lock.
pub(crate) struct Noted {
    pub(crate) id: TaskId,
    pub(crate) label: Option<Label>,
    /// Ticks of the clock since its submission.
    pub(crate) ticks: u64,
}

impl Noted {
    pub(crate) fn into_waiting(tasks: impl IntoIterator<Item = Self>) -> Vec<Waiting> {
        let waiting = |task: Self| Waiting {
            id: task.id,
            label: task.label,
            elapsed: clock::duration(task.ticks),
        };
        tasks.into_iter().map(waiting).collect()
    }
}

impl Queue {
    /// `noted` are the first tasks of `count`.
    pub(crate) fn new(count: usize, capacity: Option<usize>, noted: Vec<Noted>) -> Self {
        let mut labels = HashMap::<Option<Label>, usize>::new();
        for task in &noted {
            *labels.entry(task.label.clone()).or_default() += 1;
        }
        let mut labels: Vec<_> = labels.into_iter().collect();
        // Labels of the same count are ordered by name, so that texts can be compared.
        labels.sort_by(|(label, count), (other, others)| others.cmp(count).then(label.cmp(other)));
        let mut next = Noted::into_waiting(noted);
        // Not that of the first: a woken task is queued again at the end, and keeps its time of
        // submission.
        let oldest = next.iter().map(|task| task.elapsed).max();
        let looked_at = next.len();
        next.truncate(LISTED);
        Self { count, capacity, oldest, next, labels, looked_at }
    }
}

impl Dump {
    /// The dump of an executor without workers and queue.
    pub(crate) fn of_none(pool: &str, state: ExecutorState, max_workers: usize) -> Self {
        Self {
            pool: pool.to_owned(),
            state,
            max_workers,
            workers: Vec::new(),
            queue: Queue::new(0, None, Vec::new()),
            suspended: Vec::new(),
        }
    }

    /// Threads beyond `max_workers`, which stand in for workers that wait.
    pub fn spares(&self) -> usize {
        self.workers.len().saturating_sub(self.max_workers)
    }

    /// Returns whether there are tasks that run, and all of them wait for what other processes do.
    fn all_wait_for_others(&self) -> bool {
        let mut tasks = self.workers.iter().flat_map(|worker| &worker.tasks).peekable();
        let waits = |task: &Running| match task.waits_for[..] {
            [awaited] => awaited.is_of_others() && task.waits_for_more == 0,
            _ => false,
        };
        tasks.peek().is_some() && tasks.all(waits)
    }

    fn idle(&self) -> usize {
        self.workers.iter().filter(|worker| worker.is_idle()).count()
    }
}

impl Worker {
    fn is_idle(&self) -> bool {
        self.tasks.is_empty() && !self.is_leaving && !self.is_stopped && !self.is_frozen
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (workers, spares) = (self.workers.len(), self.spares());
        write!(f, "pool {:?} {}: {}", self.pool, self.state, Count(workers, "worker"))?;
        write!(f, " of at most {}, {} idle", self.max_workers, self.idle())?;
        if spares > 0 {
            write!(f, ", {} for workers that wait", Count(spares, "spare"))?;
        }
        writeln!(f)?;
        let told: Vec<_> = self.workers.iter().filter(|worker| !worker.is_idle()).collect();
        if !told.is_empty() {
            writeln!(f, "running:")?;
        }
        for worker in told.iter().take(LISTED_WORKERS) {
            write!(f, "{worker}")?;
        }
        and_more(f, told.len(), LISTED_WORKERS, "worker")?;
        if !self.suspended.is_empty() {
            // As many as are looked at: there may be more.
            let least = if self.suspended.len() == LOOKED_AT { "at least " } else { "" };
            let count = Count(self.suspended.len(), "task");
            writeln!(f, "suspended: {least}{count} of `submit_future`")?;
            for task in self.suspended.iter().take(LISTED) {
                writeln!(f, "  {task}")?;
            }
            and_more(f, self.suspended.len(), LISTED, "task")?;
        }
        if self.queue.count > 0 && self.all_wait_for_others() {
            writeln!(
                f,
                "no task is begun: all that run wait for other processes (see `max_waiting`)"
            )?;
        }
        write!(f, "{}", self.queue)
    }
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}", self.name)?;
        if let Some(pid) = self.pid {
            write!(f, ", process {pid}")?;
        }
        if self.is_stopped {
            write!(f, ", stopped by a signal")?;
        }
        if self.is_frozen {
            write!(f, ", frozen")?;
        }
        if self.is_leaving {
            write!(f, ", about to end")?;
        }
        let mut tasks = self.tasks.iter().take(LISTED);
        match tasks.next() {
            Some(task) => writeln!(f, ": {task}")?,
            None => writeln!(f)?,
        }
        for task in tasks {
            writeln!(f, "    which runs in place: {task}")?;
        }
        and_more(f, self.tasks.len(), LISTED, "task")?;
        if let (Some(time), Some(peak)) = (self.cpu_time, self.peak_memory) {
            writeln!(f, "    {time:.1?} of CPU time, up to {} of memory", Mebibytes(peak))?;
        }
        Ok(())
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}{} for {:.1?}", self.id, Quoted(&self.label), self.elapsed)?;
        if self.attempt > 1 {
            write!(f, ", attempt {}", self.attempt)?;
        }
        if self.stop_requested {
            write!(f, ", stop requested")?;
        }
        for (n, awaited) in self.waits_for.iter().enumerate() {
            write!(f, "{}{awaited}", if n == 0 { ", waits for " } else { " and " })?;
        }
        if self.waits_for_more > 0 {
            write!(f, " and {} more", Count(self.waits_for_more, "future"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "queued: {}", Count(self.count, "task"))?;
        if let Some(capacity) = self.capacity {
            write!(f, " of at most {}", Grouped(capacity))?;
        }
        if let Some(oldest) = self.oldest {
            write!(f, ", the oldest for {oldest:.1?}")?;
        }
        writeln!(f)?;
        if self.looked_at < self.count && self.looked_at > 0 {
            writeln!(f, "  of the first {}:", Grouped(self.looked_at))?;
        }
        for (label, count) in self.labels.iter().take(LISTED) {
            match label {
                Some(_) => writeln!(f, "  {} with the label{}", Grouped(*count), Quoted(label))?,
                None => writeln!(f, "  {} without a label", Grouped(*count))?,
            }
        }
        and_more(f, self.labels.len(), LISTED, "label")?;
        for task in &self.next {
            writeln!(f, "  {task}")?;
        }
        and_more(f, self.count, self.next.len(), "task")
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}{} for {:.1?}", self.id, Quoted(&self.label), self.elapsed)
    }
}

/// A line about those that are not listed.
fn and_more(f: &mut fmt::Formatter<'_>, count: usize, listed: usize, what: &str) -> fmt::Result {
    match count.saturating_sub(listed) {
        0 => Ok(()),
        more => writeln!(f, "  and {} more {what}{}", Grouped(more), plural(more)),
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// A count with its noun: `1 task`, `2 tasks`.
struct Count<'a>(usize, &'a str);

impl fmt::Display for Count<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", Grouped(self.0), self.1, plural(self.0))
    }
}

/// A number with its digits in groups of three.
struct Grouped(usize);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place) % 3 == 0 {
                write!(f, ",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// A label in quotes, on one line, with a space in front of it; nothing, if there is none.
struct Quoted<'a>(&'a Option<Label>);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(label) = self.0 else { return Ok(()) };
        // `{:?}` quotes, so that a line break in a label is none in the text.
        match label.char_indices().nth(LABEL_LENGTH) {
            None => write!(f, " {label:?}"),
            Some((end, _)) => write!(f, " {:?}...", &label[..end]),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn noted(label: Option<&str>, ticks: u64) -> Noted {
        Noted { id: TaskId::next(), label: label.map(|label| label.to_owned().into()), ticks }
    }

    fn running() -> Running {
        Running {
            id: TaskId::next(),
            label: None,
            elapsed: Duration::from_millis(1500),
            attempt: 1,
            stop_requested: false,
            waits_for: Vec::new(),
            waits_for_more: 0,
        }
    }

    fn dump(workers: Vec<Worker>, queue: Queue) -> Dump {
        let pool = "render".to_owned();
        Dump {
            pool,
            state: ExecutorState::Open,
            max_workers: 2,
            workers,
            queue,
            suspended: Vec::new(),
        }
    }

    #[test]
    fn numbers_are_grouped() {
        let numbers = [0, 12, 123, 1_234, 123_456, 1_234_567];
        let texts = numbers.map(|number| Grouped(number).to_string());
        assert_eq!(texts, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
    }

    #[test]
    fn an_empty_pool_needs_two_lines() {
        let text = dump(Vec::new(), Queue::new(0, None, Vec::new())).to_string();
        let open = "pool \"render\" is open: 0 workers of at most 2, 0 idle";
        assert_eq!(text, format!("{open}\nqueued: 0 tasks\n"));
    }

    #[test]
    fn what_a_worker_runs_is_told_on_one_line_each() {
        let (mut outer, inner) = (running(), running());
        outer.label = Some("two\nlines".into());
        outer.attempt = 2;
        outer.stop_requested = true;
        outer.waits_for = vec![Awaited::Task(inner.id), Awaited::Set(2)];
        outer.waits_for_more = 3;
        let (first, second) = (outer.id, inner.id);
        let worker = Worker {
            name: "worker-0".to_owned(),
            pid: Some(4711),
            cpu_time: Some(Duration::from_millis(1_500)),
            peak_memory: Some(84 << 20),
            tasks: vec![outer, inner],
            is_leaving: true,
            is_stopped: true,
            is_frozen: true,
        };
        let text = dump(vec![worker], Queue::new(0, Some(1_000), Vec::new())).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[2..],
            [
                format!(
                    "  worker-0, process 4711, stopped by a signal, frozen, about to end: task {first} \"two\\nlines\" for 1.5s, \
                     attempt 2, stop requested, waits for task {second} and a set of 2 futures and 3 \
                     futures more"
                ),
                format!("    which runs in place: task {second} for 1.5s"),
                "    1.5s of CPU time, up to 84.0 MiB of memory".to_owned(),
                "queued: 0 tasks of at most 1,000".to_owned(),
            ]
        );
    }

    #[test]
    fn a_long_queue_is_summed_up() {
        let mut all: Vec<_> = (0..9).map(|n| noted(Some("thumb"), n)).collect();
        all.push(noted(None, 1_000_000_000_000));
        all.extend((0..20).map(|n| noted(Some(&format!("label {n:02}")), n)));
        let queue = Queue::new(12_355, None, all);
        assert_eq!((queue.next.len(), queue.looked_at, queue.labels.len()), (10, 30, 22));
        assert!(queue.oldest > Some(Duration::from_secs(60)), "{:?}", queue.oldest);
        let text = queue.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("queued: 12,355 tasks, the oldest for "), "{text}");
        assert_eq!(
            lines[1..4],
            ["  of the first 30:", "  9 with the label \"thumb\"", "  1 without a label"]
        );
        assert_eq!(lines[12], "  and 12 more labels");
        assert_eq!(lines.last(), Some(&"  and 12,345 more tasks"));
        assert_eq!(lines.len(), 1 + 1 + 10 + 1 + 10 + 1);
    }

    #[test]
    fn long_labels_are_cut() {
        let label = Some("ä".repeat(100).into());
        let cut = Quoted(&label).to_string();
        assert_eq!(cut, format!(" \"{}\"...", "ä".repeat(80)));
    }
}
