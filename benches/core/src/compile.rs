//! What a closure costs to compile that is submitted and awaited: CPU time of the compiler, and code in the
//! program. Beside it the same for `tokio::task::spawn_blocking`.
//!
//! ```sh
//! cargo run --release -p core-benches --bin compile
//! ```
//!
//! README.md tells how to read the table.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{env, fs, io};

/// Closures of the large program; the small one has one. Their difference is counted, so that nothing is in it
/// but closures.
const CLOSURES: usize = 101;

/// Of each program.
const RUNS: usize = 3;

const PROFILES: [&str; 2] = ["dev", "release"];

/// Ticks of the times in /proc, per second.
const TICKS: f64 = 100.0;

#[derive(Clone, Copy)]
enum Results {
    OfOneType,
    EachOfItsOwn,
}

impl Results {
    const ALL: [(Self, &str); 2] =
        [(Self::OfOneType, "results of one type"), (Self::EachOfItsOwn, "each its own type")];
}

/// A package whose `main` submits closures.
#[derive(Clone, Copy)]
struct Program {
    package: &'static str,
    dependency: &'static str,
    before: &'static str,
    submit: &'static str,
}

const OURS: Program = Program {
    package: "ours",
    dependency: "concurrent-futures = { path = \"{crate}\" }",
    before: "let pool = concurrent_futures::ThreadPoolExecutor::new();",
    submit: "pool.submit",
};

const TOKIO: Program = Program {
    package: "spawn-blocking",
    dependency: "",
    before: "",
    submit: "tokio::task::spawn_blocking",
};

impl Program {
    fn text(&self, closures: usize, results: Results) -> String {
        let Self { before, submit, .. } = self;
        let mut types = String::new();
        let mut calls = String::new();
        for n in 0..closures {
            let name = match results {
                Results::OfOneType => "R0".to_owned(),
                Results::EachOfItsOwn => format!("R{n}"),
            };
            if n == 0 || matches!(results, Results::EachOfItsOwn) {
                let _ = writeln!(types, "#[derive(Debug)] struct {name}(u64);");
            }
            let _ =
                writeln!(calls, "sum += {submit}(move || {name}(n * {n} + {n})).await.unwrap().0;");
        }
        format!(
            "{types}
            fn main() {{
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                {before}
                let n = std::env::args().count() as u64;
                let sum = runtime.block_on(async {{
                    let mut sum = 0;
                    {calls}
                    sum
                }});
                println!(\"{{sum}}\");
            }}"
        )
    }
}

/// A workspace with the programs, and what their dependencies were compiled to.
struct Workspace(PathBuf);

impl Workspace {
    fn new() -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let this = Self(env::temp_dir().join(format!("compile.{}", process::id())));
        for Program { package, dependency, .. } in [OURS, TOKIO] {
            fs::create_dir_all(this.0.join(package).join("src"))?;
            let dependency = dependency.replace("{crate}", &root.display().to_string());
            let manifest = format!(
                "[package]\nname = \"{package}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[dependencies]\n\
                 tokio = {{ version = \"1\", features = [\"rt\"] }}\n{dependency}\n"
            );
            fs::write(this.0.join(package).join("Cargo.toml"), manifest)?;
            fs::write(this.0.join(package).join("src/main.rs"), "")?;
        }
        let members =
            format!("[workspace]\nmembers = [\"{}\", \"{}\"]\n", OURS.package, TOKIO.package);
        fs::write(this.0.join("Cargo.toml"), members)?;
        fs::copy(root.join("Cargo.lock"), this.0.join("Cargo.lock"))?;
        Ok(this)
    }

    /// Compiles a program. Returns the CPU time of that, in milliseconds, and the bytes of code.
    fn compile(
        &self,
        program: Program,
        closures: usize,
        results: Results,
        profile: &str,
    ) -> Result<(f64, f64), String> {
        let text = program.text(closures, results);
        let main = self.0.join(program.package).join("src/main.rs");
        fs::write(main, text).map_err(|error| error.to_string())?;
        let before = children_ticks()?;
        let output = Command::new("cargo")
            .args(["build", "--quiet", "--offline", "--profile", profile, "--package"])
            .arg(program.package)
            .current_dir(&self.0)
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_TARGET_DIR", self.0.join("target"))
            .output()
            .map_err(|error| format!("cargo does not start: {error}"))?;
        let ticks = children_ticks()? - before;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let folder = if profile == "dev" { "debug" } else { profile };
        let code = code_bytes(&self.0.join("target").join(folder).join(program.package))?;
        Ok((ticks as f64 * 1_000.0 / TICKS, code))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The CPU time of all processes that this one has waited for, and of theirs.
fn children_ticks() -> Result<u64, String> {
    let stat = fs::read_to_string("/proc/self/stat").map_err(|error| error.to_string())?;
    // Behind the name, which may have blanks: `cutime` and `cstime` are the fields 16 and 17.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let times: Vec<u64> = fields.skip(13).take(2).filter_map(|time| time.parse().ok()).collect();
    match times[..] {
        [user, system] => Ok(user + system),
        _ => Err("/proc/self/stat has another form".to_owned()),
    }
}

/// What `size` counts as `text`: code, constants, tables for unwinding.
fn code_bytes(program: &Path) -> Result<f64, String> {
    let output = Command::new("size").arg(program).output();
    let output =
        output.map_err(|error| format!("size, of the binutils, does not start: {error}"))?;
    let table = String::from_utf8_lossy(&output.stdout);
    let text = table.lines().nth(1).and_then(|line| line.split_whitespace().next());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| format!("size says {table:?}"))
}

/// The time and the bytes of one closure, the median of each.
fn per_closure(runs: &[[(f64, f64); 2]]) -> (f64, f64) {
    let median = |figure: fn(&(f64, f64)) -> f64| {
        let each = |[small, large]: &[(f64, f64); 2]| {
            (figure(large) - figure(small)) / (CLOSURES - 1) as f64
        };
        let mut figures: Vec<f64> = runs.iter().map(each).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    (median(|figures| figures.0), median(|figures| figures.1))
}

fn report(workspace: &Workspace) -> Result<(), String> {
    let row = |cells: [&str; 5]| {
        println!(
            "| {:7} | {:20} | {:>10} | {:>14} | {:>5} |",
            cells[0], cells[1], cells[2], cells[3], cells[4]
        );
    };
    row(["profile", "closures", "submit", "spawn_blocking", "ratio"]);
    row(["------:", "--------------------", "---------:", "-------------:", "----:"]);
    for profile in PROFILES {
        for (results, name) in Results::ALL {
            let compile =
                |program, closures| workspace.compile(program, closures, results, profile);
            let (mut ours, mut tokio) = (Vec::new(), Vec::new());
            for run in 0..=RUNS {
                let figures = [
                    [compile(OURS, 1)?, compile(OURS, CLOSURES)?],
                    [compile(TOKIO, 1)?, compile(TOKIO, CLOSURES)?],
                ];
                // The first one has compiled the dependencies.
                if run > 0 {
                    ours.push(figures[0]);
                    tokio.push(figures[1]);
                }
            }
            let (ours, tokio) = (per_closure(&ours), per_closure(&tokio));
            for (unit, ours, tokio) in [("ms", ours.0, tokio.0), ("bytes", ours.1, tokio.1)] {
                let (one, other) = (format!("{ours:.1} {unit}"), format!("{tokio:.1} {unit}"));
                row([profile, name, &one, &other, &format!("{:.2}", ours / tokio)]);
            }
        }
    }
    Ok(())
}

fn main() -> process::ExitCode {
    let workspace = Workspace::new().map_err(|error| error.to_string());
    // The workspace goes with its end, also after an error.
    match workspace.and_then(|workspace| report(&workspace)) {
        Ok(()) => process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            process::ExitCode::FAILURE
        }
    }
}
