//! The workloads, one file each. A file holds the measured code once, for every peer, and says
//! for which peers it makes no sense or must be smaller.

mod as_completed;
mod burst;
mod busy;
mod cancel;
mod efficiency;
mod latency;
mod lateness;
mod map_efficiency;
mod map_squares;
mod memory;
mod pace;
mod producers;

use bench_common::comparison::{Better, Row, Subject};

use crate::bench::Bench;
use crate::peers::{self, Peer};

/// All, in the order of the report.
pub(crate) fn all() -> Vec<Workload> {
    vec![
        burst::workload(),
        producers::workload(),
        as_completed::workload(),
        latency::workload(),
        pace::workload(),
        busy::workload(),
        efficiency::workload(),
        map_squares::workload(),
        map_efficiency::workload(),
        memory::workload(),
        lateness::workload(),
        cancel::workload(),
    ]
}

/// Measures the memory of one peer in this process, which is there for that.
pub(crate) fn memory_of(peer: &str, count: usize) {
    memory::of_peer(peer, count);
}

/// Computes, in a process that is there to keep a CPU busy.
pub(crate) fn compute() {
    busy::compute();
}

pub(crate) struct Workload {
    /// For `--workload`, and the name of the chart's file.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What is done and what is timed.
    pub(crate) about: &'static str,
    /// How many of what; a row with another count is marked in the report.
    pub(crate) count: usize,
    pub(crate) unit: &'static str,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) contenders: Vec<Contender>,
}

impl Subject for Workload {
    fn name(&self) -> &'static str {
        self.name
    }

    fn metrics(&self) -> Vec<[&'static str; 2]> {
        self.metrics.iter().map(|metric| [metric.name, metric.unit]).collect()
    }

    fn rows(&self) -> Vec<Row<'_>> {
        self.contenders.iter().map(Contender::row).collect()
    }
}

pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// Whether it is set in relation to the best peer; if not, it only explains another metric.
    pub(crate) compared: bool,
}

impl Metric {
    const fn lower(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, better: Better::Lower, compared: true }
    }

    const fn higher(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, better: Better::Higher, compared: true }
    }

    const fn not_compared(self) -> Self {
        Self { compared: false, ..self }
    }
}

/// One row of a table.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// In the workload's unit.
    pub(crate) count: usize,
    pub(crate) note: String,
    /// The variant of the work that this row does; `None`: it does not depend on the variant.
    pub(crate) variant: Option<&'static str>,
    /// `None`: skipped, and the note says why.
    pub(crate) run: Option<Run>,
}

/// One measurement: a value for each metric.
pub(crate) type Run = Box<dyn Fn(&Bench, usize) -> Vec<f64>>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    /// The costs are relative to the best of these that does the same work.
    Peer,
    /// For comparison only: another kind of thing.
    Reference,
    /// The same, in Python; its figures are too far away to be in a chart.
    Python,
}

impl Contender {
    fn row(&self) -> Row<'_> {
        let kind = match self.kind {
            Kind::Ours => "ours",
            Kind::Peer => "peer",
            Kind::Reference => "reference",
            Kind::Python => "python",
        };
        Row { name: &self.name, kind, count: self.count }
    }

    fn new(
        name: impl Into<String>,
        kind: Kind,
        count: usize,
        run: impl Fn(&Bench, usize) -> Vec<f64> + 'static,
    ) -> Self {
        let run: Run = Box::new(run);
        Self { name: name.into(), kind, count, note: String::new(), variant: None, run: Some(run) }
    }

    fn variant(self, variant: &'static str) -> Self {
        Self { variant: Some(variant), ..self }
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// A workload that is the same code on every peer.
trait OnPeers: 'static {
    const COUNT: usize;

    /// The exceptions.
    fn plan(_peer: &str) -> Plan {
        Plan::Run
    }

    fn run<P: Peer>(bench: &Bench, count: usize) -> Vec<f64>;
}

enum Plan {
    Run,
    /// As many, and why not more.
    Fewer(usize, &'static str),
    Skip(&'static str),
}

fn on_peers<W: OnPeers>() -> Vec<Contender> {
    let mut ours = on_peer::<W, peers::Ours>();
    ours.kind = Kind::Ours;
    vec![
        ours,
        on_peer::<W, peers::Textbook>(),
        on_peer::<W, peers::RustyPool>(),
        on_peer::<W, peers::RayonOneshot>(),
        on_peer::<W, peers::TokioRayon>(),
        on_peer::<W, peers::SecondRuntime>(),
        on_peer::<W, peers::SpawnBlocking>(),
        on_peer::<W, peers::SpawnBlockingDefault>(),
        on_peer::<W, peers::SpawnBlockingJoinSet>(),
        on_peer::<W, peers::Blocking>(),
        on_peer::<W, peers::AffinityPool>(),
        on_peer::<W, peers::FuturesPool>(),
    ]
}

fn on_peer<W: OnPeers, P: Peer>() -> Contender {
    let contender = Contender::new(P::NAME, Kind::Peer, W::COUNT, W::run::<P>);
    match W::plan(P::NAME) {
        Plan::Run => contender,
        Plan::Fewer(count, why) => Contender { count, ..contender }.note(why),
        Plan::Skip(why) => Contender { run: None, ..contender }.note(why),
    }
}

/// For workloads in which a `JoinSet` has nothing to do.
const NO_SET: &str = "one task at a time: the same as spawn_blocking";
