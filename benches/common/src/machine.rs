//! What the figures were taken on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::program;

/// One line on the machine, one on the versions: of these crates, of Python and of the compiler.
pub fn describe(crates: &[&str]) -> (String, String) {
    let cpus = thread::available_parallelism().map_or(0, usize::from);
    let model = cpu_model().unwrap_or_else(|| "unknown CPU".to_owned());
    let system = fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| std::env::consts::OS.to_owned(), |v| format!("Linux {}", v.trim()));
    let machine = format!("{cpus} CPUs ({model}), {system}, {}", std::env::consts::ARCH);

    let mut versions = crate_versions(crates);
    versions.extend(program::python_version().map(str::to_owned));
    versions.extend(rustc_version());
    (machine, versions.join(", "))
}

/// The load of the last minute: other work on the machine spoils the figures.
pub fn load() -> Option<String> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    load.split(' ').next().map(str::to_owned)
}

fn cpu_model() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(": ").map(|(_, model)| model.to_owned())
}

fn rustc_version() -> Option<String> {
    let output = Command::new("rustc").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.split(' ').take(2).collect::<Vec<_>>().join(" ");
    (!version.is_empty()).then_some(version)
}

/// From the lock file of the workspace.
fn crate_versions(names: &[&str]) -> Vec<String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let locks = package.ancestors().map(|directory| directory.join("Cargo.lock"));
    let Some(lock) = locks.filter_map(|lock| fs::read_to_string(lock).ok()).next() else {
        return Vec::new();
    };
    let version = |name: &str| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        let (version, _) = rest.split_once('"')?;
        Some(format!("{name} {version}"))
    };
    names.iter().copied().filter_map(version).collect()
}
