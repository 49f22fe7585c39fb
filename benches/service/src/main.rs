//! What becomes of the service under load:
//!
//! ```sh
//! cargo run --release -p service-load
//! ```
//!
//! For each backend it starts the service as a process of its own, measures how many requests per
//! second that can answer, and then sends half, once, twice and four times as many. It prints a
//! Markdown report; beside that go CSV and a chart. `-- --help` lists the options.
//!
//! The load does not wait for answers: requests are sent when they are due, and their time counts
//! from then on, also if this program itself was late. That is what clients do to a service that is
//! slow. A request is given up, and its connection closed, after some seconds.
//!
//! Client and service share the CPUs. So the client is one thread that keeps its connections, and
//! one more for `/health`; what they take is missing in the service's figures, most of all at four
//! times capacity.

mod chart;
mod child;
mod health;
mod options;
mod report;
mod requests;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use bench_common::http::{Client, Error};
use bench_common::machine;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use service::backend::Kind;

use self::child::Child;
use self::health::Probe;
use self::options::{HELP, Options};
use self::report::{Report, Run, Side};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    // The service is started from this file, so that it is there and of the same build.
    if arguments.next_if_eq("serve").is_some() {
        return service::program::run(arguments);
    }
    let measured = match Options::parse(arguments) {
        Ok(options) if options.help => {
            print!("{HELP}");
            Ok(())
        }
        Ok(options) => measure(&options),
        Err(wrong) => Err(format!("{wrong}\n\n{HELP}").into()),
    };
    if let Err(error) = measured {
        eprintln!("load: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[tokio::main(flavor = "current_thread")]
async fn measure(options: &Options) -> Result<(), Error> {
    let started = Instant::now();
    let load_before = machine::load();
    allow_many_connections()?;
    let mut sides = Vec::new();
    for &kind in &options.backends {
        sides.push(side(kind, &options.plan()).await?);
    }
    let report = Report {
        sides,
        plan: options.plan(),
        took: started.elapsed(),
        machine_load: [load_before, machine::load()],
    };
    report.write(&options.out()?)
}

/// What a run consists of.
pub(crate) struct Plan {
    /// As multiples of the capacity.
    pub(crate) loads: &'static [f64],
    /// Before anything counts.
    pub(crate) warm_up: Duration,
    /// What counts, for each load.
    pub(crate) window: Duration,
    /// When a client hangs up.
    pub(crate) patience: Duration,
}

async fn side(kind: Kind, plan: &Plan) -> Result<Side, Error> {
    let name = kind.name();
    eprintln!("{name}: without load");
    let child = Child::start(kind)?;
    let health = Probe::start(child.address(), plan)?.finish()?;
    let memory = child.usage();

    eprintln!("{name}: capacity");
    let client = Arc::new(Client::new(child.address()));
    let paths = paths(&client).await?;
    let cpus = available_parallelism().map_or(1, usize::from);
    let capacity = requests::closed_loop(&client, &paths, 2 * cpus, plan).await?;
    drop((client, child));

    let mut runs = Vec::new();
    for &load in plan.loads {
        eprintln!("{name}: {load} × {capacity:.0} requests per second");
        // A new process, so that no load pays for the one before it.
        let child = Child::start(kind)?;
        let watch = child.watch();
        let client = Arc::new(Client::new(child.address()));
        let probe = Probe::start(child.address(), plan)?;
        let samples = requests::open_loop(&client, &paths, load * capacity, plan).await;
        let usage = watch.finish()?;
        runs.push(Run::new(load, load * capacity, plan, &samples, probe.finish()?, usage));
    }
    Ok(Side { kind, capacity, health, memory, runs })
}

/// One for each of the service's pictures.
async fn paths(client: &Client) -> Result<Vec<String>, Error> {
    let names = client.get("/thumbnail").await?.into_body();
    let names = String::from_utf8_lossy(&names).into_owned();
    Ok(names.lines().map(|name| format!("/thumbnail/{name}")).collect())
}

/// For this process and those that it starts. Each request that waits has a connection.
fn allow_many_connections() -> Result<(), Error> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(())
}
