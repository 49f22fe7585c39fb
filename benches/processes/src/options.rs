//! The command line.

use std::path::PathBuf;

pub(crate) const HELP: &str = "\
Compares the process pool of concurrent-futures with its peers, and with the system's limits.

usage: cargo bench -p processes -- [OPTIONS]

  --rounds N        rounds of all measurements; default 5
  --quick           2 rounds, for development
  --smoke           1 round with a hundredth of the tasks: does it run?
  --measure NAME    only measures whose name contains NAME; may be repeated
  --peer NAME       only rows whose name contains NAME, and the floors; may be repeated
  --no-python       leave out Python's executors
  --out DIR         where results.md and results.csv go; default: processes/ in the target
                    directory. A relative DIR is one below benches/processes.
  --list            print the names of measures and rows
";

#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) rounds: Option<usize>,
    pub(crate) smoke: bool,
    pub(crate) measures: Vec<String>,
    pub(crate) peers: Vec<String>,
    pub(crate) no_python: bool,
    pub(crate) out: Option<PathBuf>,
    pub(crate) list: bool,
    pub(crate) help: bool,
    /// Not for users: the measure, row and count of one measurement, made in this process.
    pub(crate) one: Option<(String, String, usize)>,
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
                "--measure" => options.measures.push(value()?),
                "--peer" => options.peers.push(value()?),
                "--no-python" => options.no_python = true,
                "--out" => options.out = Some(value()?.into()),
                "--list" => options.list = true,
                "--one" => {
                    let (measure, row) = (value()?, value()?);
                    let count = value()?.parse().map_err(|_| "--one needs a count")?;
                    options.one = Some((measure, row, count));
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

    pub(crate) fn wants_measure(&self, name: &str) -> bool {
        wants(&self.measures, name)
    }

    pub(crate) fn wants_peer(&self, name: &str) -> bool {
        wants(&self.peers, name)
    }
}

fn wants(filters: &[String], name: &str) -> bool {
    filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
}
