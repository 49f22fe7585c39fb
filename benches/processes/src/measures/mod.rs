//! The measures, one file each. A file holds the measured code once, for every side that runs in
//! Rust, and says for which sides it makes no sense; `python/` has the same for Python.

mod burst;
mod chaos;
mod held;
mod idle;
mod kill;
mod map;
mod payload;
mod process;
mod replacement;
mod round_trip;
mod start;
mod submit;

use bench_common::comparison::{Better, Row, Subject};

/// All, in the order of the report.
pub(crate) fn all() -> Vec<Measure> {
    vec![
        start::measure(),
        process::measure(),
        replacement::measure(),
        replacement::after_kill(),
        round_trip::on_one_cpu(),
        round_trip::across_cpus(),
        round_trip::on_any_cpu(),
        submit::measure(),
        burst::measure(),
        map::measure(),
        payload::measure(),
        kill::measure(),
        chaos::measure(),
        idle::measure(),
    ]
}

/// Of each pool, where it is not one; and of CPUs, where it is not one.
const TWO: usize = 2;

pub(crate) struct Measure {
    /// For `--measure`.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What is done and what is timed.
    pub(crate) about: &'static str,
    /// How many CPUs each side may use, with all its processes.
    pub(crate) cpus: usize,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) contenders: Vec<Contender>,
}

impl Subject for Measure {
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
    /// What concurrent-futures has to reach; `None` if the metric only explains another one.
    pub(crate) bar: Option<Bar>,
}

#[derive(Clone, Copy)]
pub(crate) enum Bar {
    /// At least, or at most, this, in the metric's unit.
    Value(f64),
    /// At most so many times the floor of the same run.
    TimesFloor(f64),
}

impl Metric {
    const fn lower(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, better: Better::Lower, bar: None }
    }

    const fn higher(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, better: Better::Higher, bar: None }
    }

    const fn bar(self, bar: Bar) -> Self {
        Self { bar: Some(bar), ..self }
    }
}

/// One row of a table.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) count: usize,
    pub(crate) note: &'static str,
    pub(crate) run: Run,
}

pub(crate) enum Run {
    /// One measurement by this program: from the count to a value for each metric.
    Here(Box<dyn Fn(usize) -> Vec<f64>>),
    /// One by Python: the name of a method in `python/`, and a way of starting workers.
    Python(&'static str, &'static str),
    /// The note says why.
    Skipped,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What the others are in relation to.
    Floor,
    Ours,
    Peer,
    Python,
}

impl Contender {
    fn row(&self) -> Row<'_> {
        let kind = match self.kind {
            Kind::Floor => "floor",
            Kind::Ours => "ours",
            Kind::Peer => "peer",
            Kind::Python => "python",
        };
        Row { name: &self.name, kind, count: self.count }
    }

    pub(crate) fn new(name: impl Into<String>, kind: Kind, count: usize, run: Run) -> Self {
        Self { name: name.into(), kind, count, note: "", run }
    }

    fn here(
        name: impl Into<String>,
        kind: Kind,
        count: usize,
        run: impl Fn(usize) -> Vec<f64> + 'static,
    ) -> Self {
        Self::new(name, kind, count, Run::Here(Box::new(run)))
    }

    fn skipped(name: impl Into<String>, kind: Kind, why: &'static str) -> Self {
        Self::new(name, kind, 0, Run::Skipped).note(why)
    }

    fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }
}

/// What workers are given to do, when it is the pool that counts.
fn nothing((): ()) {}

/// Tells which worker it is.
fn pid((): ()) -> u32 {
    std::process::id()
}
