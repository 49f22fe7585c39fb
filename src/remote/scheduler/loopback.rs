//! The seam in memory and in virtual time, for tests: workers are simulated, and whatever happens is
//! decided by a seed.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::Pool;
use super::transport::{EndBy, Hub, Loss, NotStarted, Progress, Transport, Withdrawn, WorkerLink};
use super::worker::Sent;
use crate::codec::Encoder;
use crate::error::{LossCause, WorkerLost};
use crate::function::Checked;
use crate::reactor::UserCode;
use crate::remote::frame::{Frame, Header, Kind};
use crate::remote::map_context::ChunkDetail;
use crate::remote::message::Payload;
use crate::remote::slots::SLOTS;
use crate::sync::{Mutex, MutexGuard};

/// Numbers that look random (SplitMix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The end that a task finds in its worker. It travels as the detail of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Returns,
    Panics,
    /// Its worker dies of it.
    Dies,
    /// It tells that it waits, half of its time.
    Waits,
    /// It submits two tasks of its kind, of one and of two levels less, and waits for one after the
    /// other. Those below the second level return.
    Nests,
    /// The same; it waits for both at once.
    NestsAndJoins,
}

/// A task's fate, the microseconds that it runs, and its level, if it nests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    pub(super) fate: Fate,
    pub(super) micros: u32,
    pub(super) level: u16,
}

impl Script {
    pub(super) fn to_detail(self) -> u64 {
        (self.fate as u64) << 48 | u64::from(self.level) << 32 | u64::from(self.micros)
    }

    /// The script of a call; an item of a chunk takes 1 ms.
    fn of(Header { kind, detail, .. }: Header) -> Self {
        const FATES: [Fate; 6] = [
            Fate::Returns,
            Fate::Panics,
            Fate::Dies,
            Fate::Waits,
            Fate::Nests,
            Fate::NestsAndJoins,
        ];
        if kind == Kind::Chunk {
            return Self { fate: Fate::Returns, micros: 1_000 * detail as u32, level: 0 };
        }
        let (micros, level) = (detail as u32, (detail >> 32) as u16);
        Self { fate: FATES[(detail >> 48) as usize], micros, level }
    }

    fn nests(self) -> bool {
        matches!(self.fate, Fate::Nests | Fate::NestsAndJoins) && self.level >= 2
    }
}

/// The calls of a task that nests.
struct Nest {
    /// Those without an answer, in order.
    left: VecDeque<u64>,
    is_waiting: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Claimed {
    #[default]
    Nobody,
    Withdrawn,
    Started(Duration),
}

#[derive(Clone, Copy, Default)]
struct Claim {
    /// The number of the task.
    task: u64,
    claimed: Claimed,
    is_asked_to_stop: bool,
}

impl Claim {
    fn withdraw(&mut self) -> bool {
        if self.claimed == Claimed::Nobody {
            self.claimed = Claimed::Withdrawn;
        }
        self.claimed == Claimed::Withdrawn
    }
}

/// A simulated worker.
struct Simulated {
    is_spawned: bool,
    /// It has been lost, as the world knows; the pool may not know yet.
    is_dead: bool,
    /// The pool has been told that nothing more comes from it.
    is_closed: bool,
    /// Set if it dies as soon as it is spawned: whether since it was killed.
    dies_once_spawned: Option<bool>,
    is_dismissed: bool,
    outgoing: Vec<Header>,
    inbox: VecDeque<Header>,
    running: Option<Header>,
    nest: Option<Nest>,
    claims: [Claim; SLOTS],
    /// When the last frame to it, and the last one from it, arrives.
    last_arrivals: [Duration; 2],
    fault: Option<LossCause>,
}

/// Things that happen at a moment of virtual time.
enum Event {
    Timer(Box<dyn FnOnce() + Send>),
    Spawned(u32),
    /// The start is refused after all.
    Refused(u32),
    /// Frames reach the worker.
    Arrived(u32, Vec<Header>),
    /// The worker is asked for a task.
    Asked(u32, Sent),
    /// Its answer reaches the pool.
    Withdrawn(u32, Sent, bool),
    /// The task that the worker runs is over; or it begins or ends to wait, by the number.
    Over(u32, u64),
    Waits(u32, u64, Kind),
    /// The task, which nests, goes on.
    GoesOn(u32, u64),
    /// A frame reaches the pool.
    Reply(u32, Frame),
    Dies(u32),
    Closed(u32),
    Exited(u32, bool),
}

pub(super) struct World {
    inner: Mutex<Inner>,
}

pub(super) struct Inner {
    pub(super) random: Random,
    pub(super) now: Duration,
    next: u64,
    events: BTreeMap<(Duration, u64), Event>,
    jobs: VecDeque<Box<dyn UserCode>>,
    workers: BTreeMap<u32, Simulated>,
    /// One start in so many is refused, at once or later; 0 for none.
    pub(super) refusals: u64,
    /// One withdrawal in this number can't be decided without the worker; 0 for none.
    pub(super) asks: u64,
    /// Answers that have reached the pool.
    pub(super) answers: Vec<(u64, bool)>,
    /// The longest time that a frame takes.
    pub(super) latency: Duration,
    /// The number of times that each task has been started.
    pub(super) starts: BTreeMap<u64, u32>,
    /// The tasks in the order of their starts.
    pub(super) order: Vec<u64>,
    /// The same, of each worker.
    pub(super) orders: BTreeMap<u32, Vec<u64>>,
    /// The calls of tasks may be of no function, as far as the pool knows.
    pub(super) has_suspects: bool,
    /// What workers were sent of contexts, and of what they are to keep.
    pub(super) told: Vec<(u32, Kind, u64)>,
    /// The most tasks that a worker had at a time, that ran at a time, and the most workers.
    pub(super) deepest: usize,
    pub(super) most_running: usize,
    pub(super) most_workers: usize,
    pub(super) spawned: usize,
    /// The number of workers that have run the finalizer.
    pub(super) finalized: usize,
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                random: Random::new(seed),
                now: Duration::from_secs(1),
                next: 0,
                events: BTreeMap::new(),
                jobs: VecDeque::new(),
                workers: BTreeMap::new(),
                refusals: 0,
                asks: 0,
                answers: Vec::new(),
                latency: Duration::from_micros(20),
                starts: BTreeMap::new(),
                order: Vec::new(),
                orders: BTreeMap::new(),
                has_suspects: false,
                told: Vec::new(),
                deepest: 0,
                most_running: 0,
                most_workers: 0,
                spawned: 0,
                finalized: 0,
            }),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Lets the next event happen. `false`: nothing will ever happen again.
    pub(super) fn step(&self, pool: &Arc<Pool<Loopback>>) -> bool {
        let mut inner = self.lock();
        if let Some(job) = inner.jobs.pop_front() {
            drop(inner);
            job.run();
            return true;
        }
        let Some(((at, _), event)) = inner.events.pop_first() else { return false };
        inner.now = at;
        match event {
            Event::Timer(action) => {
                drop(inner);
                action();
            }
            Event::Spawned(number) => {
                inner.spawned += 1;
                let Some(worker) = inner.workers.get_mut(&number) else { return true };
                worker.is_spawned = true;
                match worker.dies_once_spawned {
                    Some(was_killed) => inner.die(number, was_killed),
                    None => inner.go_on(number),
                }
                drop(inner);
                let mut state = pool.state();
                pool.on_spawned(&mut state, number);
                pool.release_to_reader(state);
            }
            Event::Refused(number) => {
                inner.workers.remove(&number);
                drop(inner);
                let mut state = pool.state();
                pool.on_refused(&mut state, number, &io::Error::other("as the seed wants it"));
                pool.release_to_reader(state);
            }
            Event::Arrived(number, headers) => {
                for header in headers {
                    if header.kind == Kind::Answer {
                        inner.answer(number, header.number);
                    } else if let Some(worker) = inner.workers.get_mut(&number) {
                        worker.inbox.push_back(header);
                    }
                }
                inner.go_on(number);
            }
            Event::Asked(number, sent) => inner.decide(number, sent),
            Event::Withdrawn(number, sent, is_withdrawn) => {
                inner.answers.push((sent.number, is_withdrawn));
                drop(inner);
                let mut state = pool.state();
                pool.on_withdrawn(&mut state, number, sent, is_withdrawn);
                pool.release_to_reader(state);
            }
            Event::Over(number, task) => inner.finish(number, task),
            Event::GoesOn(number, task) => inner.next_step(number, task),
            Event::Waits(number, task, kind) => {
                let worker = inner.workers.get(&number).filter(|worker| !worker.is_dead);
                if worker.and_then(|worker| worker.running).is_some_and(|it| it.number == task) {
                    inner.reply(number, Header { kind, slot: 0, number: 0, detail: 0 });
                }
            }
            Event::Reply(number, frame) => {
                let checked = if inner.has_suspects { Checked::Unknown } else { Checked::Known };
                drop(inner);
                let call = (frame.header.kind == Kind::Submit).then_some(Ok(checked));
                let first = pool.received(number, &mut vec![(call, frame)], false, None);
                first.into_iter().for_each(UserCode::run);
            }
            Event::Dies(number) => inner.die(number, true),
            Event::Closed(number) => {
                if let Some(worker) = inner.workers.get_mut(&number) {
                    worker.is_closed = true;
                }
                drop(inner);
                let first = pool.received(number, &mut Vec::new(), true, None);
                first.into_iter().for_each(UserCode::run);
            }
            Event::Exited(number, was_killed) => {
                let fault = inner.workers.remove(&number).and_then(|worker| worker.fault);
                drop(inner);
                let signal = Some(if was_killed { 9 } else { 11 });
                let lost = WorkerLost {
                    pid: number,
                    signal,
                    exit_code: None,
                    cause: fault,
                    stderr: String::new(),
                    cpu_time: None,
                    peak_memory: None,
                    earlier: Vec::new(),
                };
                let loss = Loss { lost, has_failed: !was_killed, is_orphaned: false };
                let mut state = pool.state();
                pool.on_exited(&mut state, number, &loss);
                pool.dispatch(&mut state);
                pool.release_to_reader(state);
            }
        }
        true
    }

    /// Lets happen what happens until nothing is left.
    pub(super) fn run(&self, pool: &Arc<Pool<Loopback>>) {
        for _ in 0..1_000_000 {
            if !self.step(pool) {
                return;
            }
        }
        panic!("there is no end to what happens");
    }
}

impl Inner {
    fn at(&mut self, at: Duration, event: Event) -> (Duration, u64) {
        self.next += 1;
        self.events.insert((at, self.next), event);
        (at, self.next)
    }

    fn latency(&mut self) -> Duration {
        let most = u64::try_from(self.latency.as_nanos()).unwrap_or(1);
        Duration::from_nanos(self.random.below(most.max(1)))
    }

    fn after_latency(&mut self, event: Event) {
        let at = self.now + self.latency();
        self.at(at, event);
    }

    /// Has an event happen after those of the same direction.
    fn in_order(&mut self, number: u32, direction: usize, event: Event) {
        let at = self.now + self.latency();
        let Some(worker) = self.workers.get_mut(&number) else { return };
        let at = at.max(worker.last_arrivals[direction]);
        worker.last_arrivals[direction] = at;
        self.at(at, event);
    }

    fn reply(&mut self, number: u32, header: Header) {
        self.reply_with(number, header, 0);
    }

    /// Replies with a number of results, which are units.
    fn reply_with(&mut self, number: u32, header: Header, results: u64) {
        let mut values = Encoder::new();
        (0..results).for_each(|_| values.push(&()).expect("a unit can be encoded"));
        let frame = Frame::of(header, values.finish().body);
        self.in_order(number, 1, Event::Reply(number, frame));
    }

    /// Has a worker say whether it withdraws a task. The slot may be another task's by now.
    fn decide(&mut self, number: u32, sent: Sent) {
        let worker = self.workers.get_mut(&number).filter(|worker| !worker.is_dead);
        let Some(worker) = worker else { return };
        let claim = &mut worker.claims[usize::from(sent.slot)];
        let is_withdrawn = claim.task == sent.number && claim.withdraw();
        self.in_order(number, 1, Event::Withdrawn(number, sent, is_withdrawn));
    }

    /// Has an idle worker take the next task, or end.
    fn go_on(&mut self, number: u32) {
        let now = self.now;
        loop {
            let Some(worker) = self.workers.get_mut(&number) else { return };
            if worker.is_dead || !worker.is_spawned || worker.running.is_some() {
                return;
            }
            let Some(header) = worker.inbox.pop_front() else {
                if worker.is_dismissed && worker.outgoing.is_empty() {
                    self.die(number, true);
                }
                return;
            };
            if header.kind == Kind::Finalize {
                worker.is_dismissed = true;
                self.finalized += 1;
                continue;
            }
            if header.kind == Kind::Initialize {
                self.reply(number, Header { kind: Kind::Value, detail: 0, ..header });
                continue;
            }
            if !matches!(header.kind, Kind::Call | Kind::Chunk) {
                continue; // an answer to nobody
            }
            let claim = &mut worker.claims[usize::from(header.slot)];
            if claim.claimed == Claimed::Withdrawn {
                self.reply(number, Header { kind: Kind::Skipped, detail: 0, ..header });
                continue;
            }
            claim.claimed = Claimed::Started(now);
            worker.running = Some(header);
            let running = self.workers.values().filter(|worker| worker.running.is_some()).count();
            self.most_running = self.most_running.max(running);
            *self.starts.entry(header.number).or_default() += 1;
            self.order.push(header.number);
            self.orders.entry(number).or_default().push(header.number);
            let script @ Script { fate, micros, .. } = Script::of(header);
            if script.nests() {
                let at = self.soon(script);
                self.at(at, Event::GoesOn(number, header.number));
                return;
            }
            let time = Duration::from_micros(micros.into());
            if fate == Fate::Waits {
                self.at(now + time / 4, Event::Waits(number, header.number, Kind::Waits));
                self.at(now + time / 2, Event::Waits(number, header.number, Kind::GoesOn));
            }
            self.at(now + time, Event::Over(number, header.number));
            return;
        }
    }

    /// A moment within the time that a step of the task takes.
    fn soon(&mut self, script: Script) -> Duration {
        self.now + Duration::from_micros(self.random.below(u64::from(script.micros) + 1))
    }

    /// Has a task that nests submit its calls, wait for the next of them, or return.
    fn next_step(&mut self, number: u32, task: u64) {
        let Some(worker) = self.workers.get_mut(&number).filter(|worker| !worker.is_dead) else {
            return;
        };
        let Some(header) = worker.running.filter(|header| header.number == task) else { return };
        let script = Script::of(header);
        let nest = worker.nest.take();
        let is_new = nest.is_none();
        let mut nest = nest.unwrap_or(Nest { left: VecDeque::new(), is_waiting: false });
        for less in (1..=2).filter(|_| is_new) {
            self.next += 1;
            let (request, level) = (self.next, script.level - less);
            nest.left.push_back(request);
            let (kind, slot) = (Kind::Submit, Kind::Call as u16);
            let detail = Script { level, ..script }.to_detail();
            self.reply(number, Header { kind, slot, number: request, detail });
        }
        let Some(&next) = nest.left.front() else {
            let at = self.soon(script);
            self.at(at, Event::Over(number, task));
            return;
        };
        nest.is_waiting = true;
        if let Some(worker) = self.workers.get_mut(&number) {
            worker.nest = Some(nest);
        }
        let awaited = if script.fate == Fate::Nests { next } else { 0 };
        self.reply(number, Header { kind: Kind::Waits, slot: 0, number: awaited, detail: 1 });
    }

    /// A call that a worker has submitted has ended.
    fn answer(&mut self, number: u32, request: u64) {
        let Some(worker) = self.workers.get_mut(&number).filter(|worker| !worker.is_dead) else {
            return;
        };
        let (Some(header), Some(nest)) = (worker.running, &mut worker.nest) else { return };
        let script = Script::of(header);
        let is_awaited = nest.left.front() == Some(&request) || script.fate != Fate::Nests;
        nest.left.retain(|other| *other != request);
        let is_over = is_awaited && (script.fate == Fate::Nests || nest.left.is_empty());
        if is_over && std::mem::take(&mut nest.is_waiting) {
            self.reply(number, Header { kind: Kind::GoesOn, slot: 0, number: 0, detail: 0 });
            let at = self.soon(script);
            self.at(at, Event::GoesOn(number, header.number));
        }
    }

    fn finish(&mut self, number: u32, task: u64) {
        let Some(worker) = self.workers.get_mut(&number).filter(|worker| !worker.is_dead) else {
            return;
        };
        let Some(header) = worker.running.take_if(|header| header.number == task) else { return };
        worker.nest = None;
        let Script { fate, micros, .. } = Script::of(header);
        let items = ChunkDetail::unpack(header.detail).items;
        let results = if header.kind == Kind::Chunk { items } else { 0 };
        let kind = match fate {
            Fate::Dies => return self.die(number, false),
            Fate::Panics => Kind::Panicked,
            Fate::Returns | Fate::Waits | Fate::Nests | Fate::NestsAndJoins => Kind::Value,
        };
        let detail = u64::from(micros) * 1000;
        self.reply_with(number, Header { kind, detail, ..header }, results);
        self.go_on(number);
    }

    /// Has a worker die, by itself or killed. What it has sent still arrives.
    pub(super) fn die(&mut self, number: u32, was_killed: bool) {
        let Some(worker) = self.workers.get_mut(&number).filter(|worker| !worker.is_dead) else {
            return;
        };
        if !worker.is_spawned {
            worker.dies_once_spawned = Some(was_killed);
            return;
        }
        worker.is_dead = true;
        self.in_order(number, 1, Event::Closed(number));
        self.in_order(number, 1, Event::Exited(number, was_killed));
    }
}

/// The transport.
pub(super) struct Loopback(pub(super) Arc<World>);

impl Transport for Loopback {
    type Worker = LoopbackWorker;
    type Hub = LoopbackHub;
    type Remains = ();

    fn abroad() -> Self {
        Self(World::new(0))
    }

    fn start(
        &mut self,
        _: &LoopbackHub,
        number: u32,
        _index: u32,
    ) -> Result<LoopbackWorker, NotStarted> {
        let mut inner = self.0.lock();
        let refusals = inner.refusals;
        let is_refused = refusals > 0 && inner.random.one_in(refusals);
        if is_refused && inner.random.one_in(2) {
            return Err(NotStarted::Refused(io::Error::other("as the seed wants it")));
        }
        let last_arrivals = [inner.now; 2];
        let worker = Simulated {
            is_spawned: false,
            is_dead: false,
            is_closed: false,
            dies_once_spawned: None,
            is_dismissed: false,
            outgoing: Vec::new(),
            inbox: VecDeque::new(),
            running: None,
            nest: None,
            claims: [Claim::default(); SLOTS],
            last_arrivals,
            fault: None,
        };
        inner.workers.insert(number, worker);
        inner.most_workers = inner.most_workers.max(inner.workers.len());
        let event = if is_refused { Event::Refused(number) } else { Event::Spawned(number) };
        inner.after_latency(event);
        Ok(LoopbackWorker { world: Arc::clone(&self.0), number })
    }

    fn end(&mut self, worker: &mut LoopbackWorker, how: EndBy, reason: Option<LossCause>) {
        let number = worker.number;
        let mut inner = self.0.lock();
        let Some(simulated) = inner.workers.get_mut(&number) else { return };
        simulated.fault = simulated.fault.take().or(reason);
        if how == EndBy::Dismissal {
            simulated.is_dismissed = true;
            inner.go_on(number);
        } else {
            inner.after_latency(Event::Dies(number));
        }
    }

    fn may_end(&self) -> bool {
        true
    }

    fn take_remains(&mut self) {}

    fn let_go(_: &LoopbackHub, (): ()) {}
}

pub(super) struct LoopbackWorker {
    world: Arc<World>,
    number: u32,
}

impl LoopbackWorker {
    fn claim<R>(&self, slot: u16, look: impl FnOnce(&mut Claim) -> R) -> Option<R> {
        let mut inner = self.world.lock();
        let worker = inner.workers.get_mut(&self.number)?;
        Some(look(&mut worker.claims[usize::from(slot)]))
    }
}

impl WorkerLink for LoopbackWorker {
    type Flush = (Arc<World>, u32);

    fn send(&mut self, header: Header, content: &Payload) {
        let task = header.number;
        self.claim(header.slot, |claim| *claim = Claim { task, ..Claim::default() });
        self.tell(header, content);
    }

    fn tell(&mut self, header: Header, _: &Payload) {
        let mut inner = self.world.lock();
        let Some(worker) = inner.workers.get_mut(&self.number) else { return };
        worker.outgoing.push(header);
        if matches!(header.kind, Kind::Context | Kind::EndContext | Kind::Keep | Kind::Forget) {
            inner.told.push((self.number, header.kind, header.number));
            return;
        }
        let running = usize::from(worker.running.is_some());
        let depth = worker.outgoing.len() + worker.inbox.len() + running;
        inner.deepest = inner.deepest.max(depth);
    }

    fn to_flush(&self) -> (Arc<World>, u32) {
        (Arc::clone(&self.world), self.number)
    }

    fn flush((world, number): (Arc<World>, u32)) {
        let mut inner = world.lock();
        let Some(worker) = inner.workers.get_mut(&number) else { return };
        let headers = std::mem::take(&mut worker.outgoing);
        inner.in_order(number, 0, Event::Arrived(number, headers));
    }

    fn withdraw(&self, slot: u16) -> Withdrawn {
        let mut guard = self.world.lock();
        let inner = &mut *guard;
        // A worker that was refused, or is reported as dead, has begun nothing more.
        let Some(worker) = inner.workers.get_mut(&self.number) else { return Withdrawn::Yes };
        let claim = &mut worker.claims[usize::from(slot)];
        let may_ask = inner.asks > 0 && !worker.is_closed && claim.claimed != Claimed::Withdrawn;
        if may_ask && inner.random.one_in(inner.asks) {
            let sent = Sent { number: claim.task, slot };
            inner.in_order(self.number, 0, Event::Asked(self.number, sent));
            return Withdrawn::Asked;
        }
        if claim.withdraw() { Withdrawn::Yes } else { Withdrawn::TooLate }
    }

    fn ask_to_stop(&self, slot: u16) {
        self.claim(slot, |claim| claim.is_asked_to_stop = true);
    }

    fn is_asked_to_stop(&self, slot: u16) -> bool {
        self.claim(slot, |claim| claim.is_asked_to_stop) == Some(true)
    }

    fn progress(&self, slot: u16) -> Progress {
        let now = self.world.lock().now;
        match self.claim(slot, |claim| claim.claimed) {
            Some(Claimed::Started(since)) => Progress::Started(Some(now - since)),
            _ => Progress::NotStarted,
        }
    }

    fn checkpoint(&self) -> &[AtomicU64] {
        &[]
    }

    fn pid(&self) -> Option<u32> {
        Some(self.number)
    }
}

pub(super) struct LoopbackHub(pub(super) Arc<World>);

pub(super) struct LoopbackTimer {
    world: Arc<World>,
    key: (Duration, u64),
}

impl Drop for LoopbackTimer {
    fn drop(&mut self) {
        let event = self.world.lock().events.remove(&self.key);
        drop(event);
    }
}

impl Hub for LoopbackHub {
    type Timer = LoopbackTimer;

    fn timer(&self, limit: Duration, action: Box<dyn FnOnce() + Send>) -> LoopbackTimer {
        let mut inner = self.0.lock();
        let at = inner.now + limit;
        let key = inner.at(at, Event::Timer(action));
        LoopbackTimer { world: Arc::clone(&self.0), key }
    }

    fn now(&self) -> Duration {
        self.0.lock().now
    }

    fn deliver(&self, jobs: impl Iterator<Item = Box<dyn UserCode>>) {
        self.0.lock().jobs.extend(jobs);
    }

    fn wake(&self) {}

    fn leave(&self) {}

    fn join_ended(&self) {}
}
