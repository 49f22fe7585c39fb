//! The limit on the private memory that a worker uses, at which its owner looks now and then. In the owner's
//! process.

use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::error::LossCause;
use crate::sys;

/// Number of bytes that a worker can come to use in a second: as much as a processor or two can
/// fill. The next look is due when the limit can be reached at this rate.
const FASTEST: f64 = (4_u64 << 30) as f64;

/// The pause between two looks, at least and at most.
pub(crate) const PAUSE: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(250)];

/// In front of the system's reason.
pub(crate) const UNKNOWN: &str =
    "the memory of worker processes can't be read, so `memory_limit` can't be kept";

/// Returns the time for which a worker that uses `used` of `limit` need not be looked at.
fn pause(used: u64, limit: u64) -> Duration {
    let [least, most] = PAUSE;
    Duration::from_secs_f64(limit.saturating_sub(used) as f64 / FASTEST).clamp(least, most)
}

/// Returns whether a process is not to be looked at: `/proc` denies that it is there, or what it is.
fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

/// Looks at the memory of a worker. Returns the time until the next look, or why it is to be killed. Reads a
/// file, so no lock should be held. A process that has ended uses nothing; another one that has its number by
/// now is not hit, as the kill goes to the worker.
pub(crate) fn look(pid: u32, limit: u64) -> Result<Duration, LossCause> {
    match sys::private_memory(pid) {
        Ok(memory) => {
            let used = memory.map_or(0, |memory| memory.used);
            if used > limit {
                return Err(LossCause::MemoryLimit { limit, used: Some(used), is_certain: true });
            }
            Ok(pause(used, limit))
        }
        // It has other rights than this process has by now: a limit that nobody keeps is none.
        Err(error) if is_forbidden(&error) => {
            Err(LossCause::Other(format!("since {UNKNOWN}: {error}")))
        }
        // For want of a descriptor, say, so the next look is soon.
        Err(_) => Ok(PAUSE[0]),
    }
}
