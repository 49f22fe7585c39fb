//! The pool's errors, on their way to a worker that has submitted a call. Packed in the pool's process,
//! unpacked in the worker.

use std::time::Duration;

use crate::codec::{self, Encoded};
use crate::error::{BrokenPool, Error, LossCause, WorkerLost};
use crate::remote::frame::Frame;

/// Which error, a text or a duration that belongs to it, and lost workers: the last one first.
type Packed = (u8, String, u64, bool, Vec<PackedLoss>);

/// Process, signal, exit code, cause, CPU time and peak memory, stderr.
type PackedLoss =
    (u32, Option<i32>, Option<i32>, Option<PackedCause>, (Option<Duration>, Option<u64>), String);

/// Which cause, a limit in bytes, what was used, whether that is certain, a text.
type PackedCause = (u8, u64, Option<u64>, bool, String);

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
        Error::BrokenPool(broken) => (number, broken.cause().to_string(), 0, false, Vec::new()),
        other => (number, other.to_string(), 0, false, Vec::new()),
    };
    codec::encode(&packed).unwrap_or_default()
}

fn pack_loss(lost: &WorkerLost) -> PackedLoss {
    let used = (lost.cpu_time, lost.peak_memory);
    (
        lost.pid,
        lost.signal,
        lost.exit_code,
        lost.cause.as_ref().map(pack_cause),
        used,
        lost.stderr.clone(),
    )
}

pub(crate) fn unpack(frame: &Frame) -> Error {
    let packed = codec::decode::<Packed>(frame.values(), Vec::new());
    // A chunk that was asked to stop has no values; its map does not look at this error.
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
    BrokenPool::new(text).into()
}

fn unpack_loss((pid, signal, exit_code, cause, used, stderr): PackedLoss) -> WorkerLost {
    let (cpu_time, peak_memory) = used;
    let earlier = Vec::new();
    let cause = cause.map(unpack_cause);
    WorkerLost { pid, signal, exit_code, cause, cpu_time, peak_memory, stderr, earlier }
}

fn pack_cause(cause: &LossCause) -> PackedCause {
    match cause {
        LossCause::StackOverflow => (0, 0, None, true, String::new()),
        LossCause::MemoryLimit { limit, used, is_certain } => {
            (1, *limit, *used, *is_certain, String::new())
        }
        LossCause::OutOfMemory => (2, 0, None, true, String::new()),
        LossCause::Hostile { sent } => (3, 0, None, true, sent.clone()),
        LossCause::Other(text) => (4, 0, None, true, text.clone()),
    }
}

fn unpack_cause((which, limit, used, is_certain, text): PackedCause) -> LossCause {
    match which {
        0 => LossCause::StackOverflow,
        1 => LossCause::MemoryLimit { limit, used, is_certain },
        2 => LossCause::OutOfMemory,
        3 => LossCause::Hostile { sent: text },
        _ => LossCause::Other(text),
    }
}
