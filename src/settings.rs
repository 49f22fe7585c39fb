//! The rules for settings that builders share.

use crate::error::Error;
use crate::room;

/// The error of a setting that makes no sense; the rule says what is allowed.
pub(crate) fn invalid(setting: &'static str, rule: impl Into<String>) -> Error {
    Error::InvalidSetting { setting, rule: rule.into() }
}

/// Refuses `value` 0, for the reason that `rule` gives.
pub(crate) fn check_not_zero<N: PartialEq + From<u8>>(
    setting: &'static str,
    value: Option<N>,
    rule: &str,
) -> Result<(), Error> {
    if value == Some(N::from(0)) { Err(invalid(setting, rule)) } else { Ok(()) }
}

pub(crate) fn check_max_workers(max_workers: Option<usize>) -> Result<(), Error> {
    let rule = "must be at least 1: a pool without workers runs nothing";
    check_not_zero("max_workers", max_workers, rule)
}

pub(crate) fn check_min_workers(min_workers: usize, max_workers: usize) -> Result<(), Error> {
    if min_workers <= max_workers {
        return Ok(());
    }
    let rule = format!("must be at most max_workers, which is {max_workers}");
    Err(invalid("min_workers", rule))
}

/// Refuses a name that no thread or process can have.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if name.contains('\0') { Err(invalid("name", "must not contain a NUL byte")) } else { Ok(()) }
}

pub(crate) fn check_capacity(capacity: Option<usize>) -> Result<(), Error> {
    match capacity {
        Some(n) if n > room::MOST => {
            let most = room::MOST;
            let rule = format!("must be at most {most}; leave it out for a queue without bound");
            Err(invalid("queue_capacity", rule))
        }
        _ => Ok(()),
    }
}
