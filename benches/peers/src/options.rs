//! The command line.

use std::path::PathBuf;

pub(crate) const HELP: &str = "\
Compares concurrent-futures with what a user would pick instead, on the same work.

usage: cargo bench -p peers -- [OPTIONS]

  --rounds N        rounds of all measurements; default 5
  --quick           2 rounds, for development
  --smoke           1 round with a hundredth of the tasks: does it run?
  --workload NAME   only workloads whose name contains NAME; may be repeated
  --peer NAME       only rows whose name contains NAME; may be repeated
  --no-python       leave out Python's executors
  --out DIR         where results.md, results.csv and the charts go; default: peers/ in the
                    target directory. A relative DIR is one below benches/peers.
  --list            print the names of workloads and rows
";

#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) rounds: Option<usize>,
    pub(crate) smoke: bool,
    pub(crate) workloads: Vec<String>,
    pub(crate) peers: Vec<String>,
    pub(crate) no_python: bool,
    pub(crate) out: Option<PathBuf>,
    pub(crate) list: bool,
    pub(crate) help: bool,
    /// Not for users: a peer and a count, see `workloads/memory.rs`.
    pub(crate) memory_of: Option<(String, usize)>,
    /// Not for users: see `workloads/busy.rs`.
    pub(crate) compute: bool,
}

impl Options {
    /// `Err`: what is wrong with the arguments.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = arguments.peekable();
        let mut options = Self::default();
        let mut is_bench = false;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--bench" => is_bench = true, // From cargo.
                "--rounds" => {
                    let rounds = value()?.parse().ok().filter(|&n| n > 0);
                    options.rounds = Some(rounds.ok_or("--rounds needs a number from 1 on")?);
                }
                "--quick" => options.rounds = Some(2),
                "--smoke" => options.smoke = true,
                "--workload" => options.workloads.push(value()?),
                "--peer" => options.peers.push(value()?),
                "--no-python" => options.no_python = true,
                "--out" => options.out = Some(value()?.into()),
                "--list" => options.list = true,
                "--compute" => options.compute = true,
                "--memory-of" => {
                    let peer = value()?;
                    let count = value()?.parse().map_err(|_| "--memory-of needs a count")?;
                    options.memory_of = Some((peer, count));
                }
                "--help" | "-h" => options.help = true,
                other => return Err(format!("unknown argument {other}")),
            }
        }
        // `cargo test --benches` runs this too, and means: see whether it works.
        options.smoke |= !is_bench;
        Ok(options)
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.smoke { 1 } else { 5 })
    }

    pub(crate) fn wants_workload(&self, name: &str) -> bool {
        wants(&self.workloads, name)
    }

    pub(crate) fn wants_peer(&self, name: &str) -> bool {
        wants(&self.peers, name)
    }
}

fn wants(filters: &[String], name: &str) -> bool {
    filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
}
