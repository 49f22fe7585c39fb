//! The command line.

use std::env::current_exe;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use service::backend::Kind;

use crate::Plan;

pub(crate) const HELP: &str = "\
Measures what becomes of the service under load.

usage: cargo run --release -p service-load -- [OPTIONS]

  --quick         short measurements, of the loads 1 and 4: does it run?
  --backend NAME  only this one: threads, processes, spawn-blocking, rayon; may be repeated
  --out DIR       where results.md, results.csv and service.svg go; default: service-load/ in
                  the target directory
";

#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) backends: Vec<Kind>,
    pub(crate) out: Option<PathBuf>,
    pub(crate) help: bool,
}

impl Options {
    /// `Err`: what is wrong with the arguments.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--backend" => options.backends.push(value()?.parse()?),
                "--out" => options.out = Some(value()?.into()),
                "--help" | "-h" => options.help = true,
                other => return Err(format!("unknown argument {other}")),
            }
        }
        if options.backends.is_empty() {
            options.backends = Kind::ALL.to_vec();
        }
        Ok(options)
    }

    pub(crate) fn plan(&self) -> Plan {
        if self.quick {
            return Plan {
                loads: &[1.0, 4.0],
                warm_up: Duration::from_millis(500),
                window: Duration::from_secs(1),
                patience: Duration::from_secs(1),
            };
        }
        Plan {
            loads: &[0.5, 1.0, 2.0, 4.0],
            warm_up: Duration::from_secs(1),
            window: Duration::from_secs(6),
            patience: Duration::from_secs(2),
        }
    }

    /// This program is in `target/release/`.
    pub(crate) fn out(&self) -> io::Result<PathBuf> {
        if let Some(out) = &self.out {
            return Ok(out.clone());
        }
        let program = current_exe()?;
        let target = program.ancestors().nth(2).unwrap_or(Path::new("."));
        Ok(target.join("service-load"))
    }
}
