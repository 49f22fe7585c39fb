//! Measurements that are programs of their own, and Python's.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What `python3 --version` says; `None` without Python.
pub fn python_version() -> Option<&'static str> {
    static VERSION: OnceLock<Option<String>> = OnceLock::new();
    let ask = || {
        let output = Command::new("python3").arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !text.is_empty()).then(|| text.trim().to_owned())
    };
    VERSION.get_or_init(ask).as_deref()
}

/// Python, to run a script.
pub fn python(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(script).args(arguments);
    command
}

/// Runs a program that prints its values, one on a line.
///
/// # Errors
///
/// What went wrong: it does not start, or fails, or prints something else.
pub fn values(command: &mut Command) -> Result<Vec<f64>, String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{command:?} does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let values: Result<_, _> = text.lines().map(str::parse).collect();
    values.map_err(|_| format!("{command:?} does not print numbers: {text}"))
}
