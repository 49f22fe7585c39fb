//! The command line of a comparison.

use std::path::{Path, PathBuf};

/// What is asked for.
#[derive(Debug, Default)]
pub struct Options {
    rounds: Option<usize>,
    /// One round with a hundredth of the work.
    pub smoke: bool,
    tables: Vec<String>,
    peers: Vec<String>,
    /// Leaves out Python's executors.
    pub no_python: bool,
    out: Option<PathBuf>,
    /// Prints the names of tables and rows.
    pub list: bool,
    /// Prints the help.
    pub help: bool,
}

impl Options {
    /// Reads the arguments. `table` is the word for a table, whose option filters them.
    ///
    /// # Errors
    ///
    /// Tells which argument is wrong.
    pub fn parse(table: &str, arguments: impl Iterator<Item = String>) -> Result<Self, String> {
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
                "--peer" => options.peers.push(value()?),
                "--no-python" => options.no_python = true,
                "--out" => options.out = Some(value()?.into()),
                "--list" => options.list = true,
                "--help" | "-h" => options.help = true,
                other if other.strip_prefix("--") == Some(table) => options.tables.push(value()?),
                other => return Err(format!("unknown argument {other}")),
            }
        }
        // `cargo test --benches` runs this too, and means: see whether it works.
        options.smoke |= !is_bench;
        Ok(options)
    }

    /// Rounds of all measurements.
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.smoke { 1 } else { 5 })
    }

    /// Returns whether the filters leave this table.
    pub fn wants_table(&self, name: &str) -> bool {
        wants(&self.tables, name)
    }

    /// Returns whether the filters leave this row.
    pub fn wants_peer(&self, name: &str) -> bool {
        wants(&self.peers, name)
    }

    /// The place of the results: by default one of this name in the target directory, of which
    /// cargo tells a package only `temporary`. A trial does not overwrite results.
    pub fn directory(&self, name: &str, temporary: &str) -> PathBuf {
        self.out.clone().unwrap_or_else(|| {
            let target = Path::new(temporary).parent().unwrap_or(Path::new(temporary));
            target.join(if self.smoke { format!("{name}-smoke") } else { name.to_owned() })
        })
    }
}

fn wants(filters: &[String], name: &str) -> bool {
    filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
}
