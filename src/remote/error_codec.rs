//! The pool's errors, on their way to a worker that has submitted a call.

use std::time::Duration;

use crate::codec::{self, Encoded};
use crate::error::{BrokenPool, Error, WorkerLost};
use crate::remote::frame::Frame;

/// Which error, a text or a duration that belongs to it, and lost workers: the last one first.
type Packed = (u8, String, u64, bool, Vec<PackedLoss>);

/// Process, signal, exit code, cause, CPU time and peak memory, stderr.
type PackedLoss =
    (u32, Option<i32>, Option<i32>, Option<String>, (Option<Duration>, Option<u64>), String);

pub(crate) fn pack(error: &Error) -> Encoded {
    let number = error.number();
    let packed: Packed = match error {
        Error::TimedOut { limit, started } => {
            let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
            (number, String::new(), nanos, *started, Vec::new())
        }
        Error::QueueFull { capacity } => {
            (number, String::new(), *capacity as u64, false, Vec::new())
        }
        Error::WorkerLost(lost) => {
            let all = std::iter::once(&**lost).chain(lost.earlier.iter().rev());
            (number, String::new(), 0, false, all.map(pack_loss).collect())
        }
        other => (number, other.to_string(), 0, false, Vec::new()),
    };
    codec::encode(&packed).unwrap_or_default()
}

fn pack_loss(lost: &WorkerLost) -> PackedLoss {
    let used = (lost.cpu_time, lost.peak_memory);
    (lost.pid, lost.signal, lost.exit_code, lost.cause.clone(), used, lost.stderr.clone())
}

pub(crate) fn unpack(frame: &Frame) -> Error {
    let packed = codec::decode::<Packed>(frame.values(), Vec::new());
    let Ok((number, text, value, started, losses)) = packed else { return Error::ShutDown };
    let candidates = [
        Error::Cancelled,
        Error::ShutDown,
        Error::TimedOut { limit: Duration::from_nanos(value), started },
        Error::QueueFull { capacity: usize::try_from(value).unwrap_or(usize::MAX) },
    ];
    if let Some(error) = candidates.into_iter().find(|error| error.number() == number) {
        return error;
    }
    let mut losses = losses.into_iter().map(unpack_loss);
    if let Some(mut last) = losses.next() {
        last.earlier = losses.collect();
        last.earlier.reverse();
        return Error::WorkerLost(Box::new(last));
    }
    Error::BrokenPool(BrokenPool::new(text.into()))
}

fn unpack_loss((pid, signal, exit_code, cause, used, stderr): PackedLoss) -> WorkerLost {
    let (cpu_time, peak_memory) = used;
    let earlier = Vec::new();
    WorkerLost { pid, signal, exit_code, cause, cpu_time, peak_memory, stderr, earlier }
}
