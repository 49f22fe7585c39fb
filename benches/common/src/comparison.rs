//! Tables whose rows are measured in rounds, from the command line to the values of all rounds.

use std::fmt::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, io};

use crate::machine;
use crate::options::Options;
use crate::stats::Spread;
use crate::text::csv_line;

/// What a table is about, and its rows.
pub trait Subject {
    /// The name for filters and for the CSV.
    fn name(&self) -> &'static str;

    /// The name and the unit of each metric.
    fn metrics(&self) -> Vec<[&'static str; 2]>;

    /// The rows, in the order of the report.
    fn rows(&self) -> Vec<Row<'_>>;
}

/// A row, as lists and the CSV have it.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Row<'a> {
    pub name: &'a str,
    pub kind: &'static str,
    pub count: usize,
}

/// Which values of a metric are good ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Better {
    Lower,
    Higher,
}

impl Better {
    /// As a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Higher => "higher",
        }
    }
}

/// What the beginning of a report says, besides the conditions of its values.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The title of the report.
    pub title: &'a str,
    /// The crates whose versions are told.
    pub crates: &'a [&'a str],
    /// The word for what a trial does a hundredth of.
    pub work: &'a str,
    /// A line on how all rows are measured.
    pub setting: Option<&'a str>,
    /// What the figures are.
    pub figures: &'a str,
}

/// Runs the command line: help, the list of what there is, or the comparison. `table` is the word
/// for a table, as [`Options::parse`] takes it.
pub fn main<S: Subject>(
    help: &str,
    table: &str,
    chosen: impl FnOnce(&Options) -> Vec<S>,
    compare: impl FnOnce(&Options, Vec<S>) -> io::Result<ExitCode>,
) -> ExitCode {
    let options = match Options::parse(table, env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{help}");
            return ExitCode::FAILURE;
        }
    };
    if options.help {
        print!("{help}");
    } else if options.list {
        list(&chosen(&options));
    } else {
        return compare(&options, chosen(&options)).unwrap_or_else(|error| {
            eprintln!("the report could not be written: {error}");
            ExitCode::FAILURE
        });
    }
    ExitCode::SUCCESS
}

fn list<S: Subject>(subjects: &[S]) {
    for subject in subjects {
        println!("{}", subject.name());
        for row in subject.rows() {
            println!("    {}", row.name);
        }
    }
}

/// A subject and its values.
#[derive(Debug)]
pub struct Table<S> {
    /// What the table is about.
    pub subject: S,
    /// The values by row, round and metric; NaN where a measurement failed.
    pub values: Vec<Vec<Vec<f64>>>,
}

impl<S: Subject> Table<S> {
    fn new(subject: S) -> Self {
        let values = subject.rows().iter().map(|_| Vec::new()).collect();
        Self { subject, values }
    }

    /// The order of the rows in a round. Each round begins with another row, so that none always
    /// follows the same predecessor's mess at the same temperature.
    pub fn turns(&self, round: usize) -> impl Iterator<Item = usize> + use<S> {
        let rows = self.values.len();
        (0..rows).map(move |turn| (turn + round) % rows)
    }

    /// Adds the values of a round to a row.
    pub fn push(&mut self, row: usize, values: Vec<f64>) {
        assert_eq!(values.len(), self.subject.metrics().len(), "a value for each metric");
        self.values[row].push(values);
    }

    /// `None` if no round has a value.
    pub fn spread(&self, row: usize, metric: usize) -> Option<Spread> {
        let values = self.values[row].iter().map(|values| values[metric]);
        Spread::of(values.filter(|value| !value.is_nan()).collect())
    }
}

/// The tables, and the conditions of their values.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Report<S> {
    pub tables: Vec<Table<S>>,
    pub rounds: usize,
    pub took: Duration,
    /// Of the machine, before and after.
    pub load: [Option<String>; 2],
    pub smoke: bool,
}

impl<S: Subject> Report<S> {
    /// Measures every table in every round.
    pub fn measured(
        options: &Options,
        subjects: Vec<S>,
        mut run_round: impl FnMut(&mut Table<S>, usize),
    ) -> Self {
        let started = Instant::now();
        let load_before = machine::load();
        let mut tables: Vec<_> = subjects.into_iter().map(Table::new).collect();
        let rounds = options.rounds();
        for round in 0..rounds {
            for table in &mut tables {
                eprintln!("round {} of {rounds}: {}", round + 1, table.subject.name());
                run_round(table, round);
            }
        }
        let (took, load) = (started.elapsed(), [load_before, machine::load()]);
        Self { tables, rounds, took, load, smoke: options.smoke }
    }

    /// Writes the beginning of the Markdown: the title, and the conditions of the values.
    ///
    /// # Errors
    ///
    /// As [`Write`] says: none for a string.
    pub fn head(&self, text: &mut String, head: Head<'_>) -> fmt::Result {
        let Head { title, crates, work, setting, figures } = head;
        let (machine, versions) = machine::describe(crates);
        writeln!(text, "# {title}\n")?;
        if self.smoke {
            writeln!(
                text,
                "**A trial with a hundredth of the {work}: the figures mean nothing.**\n"
            )?;
        }
        writeln!(text, "* Machine: {machine}")?;
        writeln!(text, "* Versions: {versions}")?;
        if let Some(setting) = setting {
            writeln!(text, "* {setting}")?;
        }
        let (rounds, seconds) = (self.rounds, self.took.as_secs_f64());
        writeln!(text, "* Rounds: {rounds}, in {seconds:.0} s; figures are {figures}")?;
        if let [Some(before), Some(after)] = &self.load {
            writeln!(text, "* Load average of the machine: {before} before, {after} after")?;
        }
        Ok(())
    }

    /// Prints the Markdown, and writes it beside the values of all rounds, whose first column is
    /// named `table`.
    ///
    /// # Errors
    ///
    /// If a file can't be written.
    pub fn write(&self, directory: &Path, table: &str, markdown: &str) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        print!("{markdown}");
        fs::write(directory.join("results.md"), markdown)?;
        fs::write(directory.join("results.csv"), self.csv(table))
    }

    fn csv(&self, table: &str) -> String {
        let mut csv = format!("{table},metric,unit,row,kind,count,round,value\n");
        for Table { subject, values } in &self.tables {
            for (row, rounds) in subject.rows().into_iter().zip(values) {
                for (round, values) in rounds.iter().enumerate() {
                    for ([metric, unit], value) in subject.metrics().into_iter().zip(values) {
                        csv += &csv_line([
                            subject.name(),
                            metric,
                            unit,
                            row.name,
                            row.kind,
                            &row.count.to_string(),
                            &(round + 1).to_string(),
                            &value.to_string(),
                        ]);
                    }
                }
            }
        }
        csv
    }
}
