//! The service as a program: its command line, its signals, its end.

use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use bytes::Bytes;
use concurrent_futures::ShutdownReport;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::Service;
use crate::backend::{Backend, Kind, queue_capacity};
use crate::picture::{samples, thumbnail};
use crate::server::serve;

const HELP: &str = "\
Serves thumbnails on loopback: see /thumbnail, /health and /metrics.

usage: service [OPTIONS]

  --port N            default 3000; 0 takes a free one
  --backend NAME      threads (default), processes, spawn-blocking or rayon
  --workers N         default: the number of CPUs
  --queue-capacity N  default: what can be answered in time, by a measurement at the start
  --shutdown-limit S  seconds for what was accepted before SIGTERM or Ctrl-C; default 10

SIGUSR1 prints to stderr who runs what since when, and what waits.
";

struct Options {
    port: u16,
    backend: Kind,
    workers: usize,
    queue_capacity: Option<usize>,
    shutdown_limit: Duration,
}

impl Options {
    /// `None`: help is wanted.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        fn parsed<T: FromStr>(name: &str, value: Option<String>) -> Result<T, String> {
            let value = value.ok_or_else(|| format!("{name} needs a value"))?;
            value.parse().map_err(|_| format!("{name} can't be {value}"))
        }

        let mut options = Self {
            port: 3000,
            backend: Kind::default(),
            workers: available_parallelism().map_or(1, usize::from),
            queue_capacity: None,
            shutdown_limit: Duration::from_secs(10),
        };
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--port" => options.port = parsed(&name, arguments.next())?,
                "--backend" => {
                    options.backend = parsed::<String>(&name, arguments.next())?.parse()?;
                }
                "--workers" => options.workers = parsed(&name, arguments.next())?,
                "--queue-capacity" => {
                    options.queue_capacity = Some(parsed(&name, arguments.next())?);
                }
                "--shutdown-limit" => {
                    options.shutdown_limit = Duration::from_secs(parsed(&name, arguments.next())?);
                }
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("unknown argument {other}; see --help")),
            }
        }
        Ok(Some(options))
    }
}

/// Runs the service with these arguments, without the program's name.
#[tokio::main]
pub async fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let ended = match Options::parse(arguments) {
        Ok(Some(options)) => serve_until_signal(options).await,
        Ok(None) => {
            print!("{HELP}");
            Ok(())
        }
        Err(wrong) => Err(wrong.into()),
    };
    if let Err(error) = ended {
        eprintln!("service: {error:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn serve_until_signal(options: Options) -> Result<(), Box<dyn Error + Send + Sync>> {
    // Before anything is accepted, so that no signal finds the service unprepared.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let pictures = samples()?;
    let capacity = match options.queue_capacity {
        Some(capacity) => capacity,
        None => queue_capacity(options.workers, usual_time(&pictures)?),
    };
    let backend = options.backend.build(options.workers, capacity)?;
    dump_on_sigusr1(backend.clone())?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
    let name = options.backend.name();
    let bound = match backend {
        Backend::Pool(_) => format!("a queue of {capacity}"),
        Backend::SpawnBlocking | Backend::Rayon(_) => "a queue without bound".to_owned(),
    };
    println!("listening on http://{}, {name}, {bound}", listener.local_addr()?);

    let service = Service { backend, pictures: Arc::new(pictures.into_iter().collect()) };
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        println!("finishing what was accepted");
    };
    let report = serve(listener, service, stop, options.shutdown_limit).await?;
    match report {
        Some(report) => print_report(&report),
        None => println!("finished; this backend does not tell what it left"),
    }
    Ok(())
}

fn print_report(report: &ShutdownReport) {
    let ShutdownReport { completed, failed, cancelled, .. } = report;
    let left = report.running.len();
    println!("finished {completed}, failed {failed}, withdrawn {cancelled}, left running {left}");
    for task in &report.running {
        let label = task.label.as_deref().unwrap_or("a task");
        println!("left: {label}, which has been running for {:?}", task.elapsed);
    }
}

/// How long a thumbnail takes here: the quickest of three, since others may use the CPUs as well.
fn usual_time(pictures: &[(&str, Bytes)]) -> Result<Duration, String> {
    let mut sum = Duration::ZERO;
    for (_, picture) in pictures {
        let mut quickest = Duration::MAX;
        for _ in 0..3 {
            let start = Instant::now();
            thumbnail(picture.clone(), 320)?;
            quickest = quickest.min(start.elapsed());
        }
        sum += quickest;
    }
    Ok(sum / pictures.len() as u32)
}

fn dump_on_sigusr1(backend: Backend) -> io::Result<()> {
    let mut asked = signal(SignalKind::user_defined1())?;
    tokio::spawn(async move {
        while asked.recv().await.is_some() {
            match backend.dump() {
                Some(dump) => eprintln!("{dump}"),
                None => eprintln!("this backend can't tell what it does"),
            }
        }
    });
    Ok(())
}
