//! The error of a task as its caller handles it.

use std::error::Error as _;
use std::io;
use std::panic;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    BrokenPool, CodecError, CodecSide, Error, HasRun, Panicked, ThreadPoolExecutor, TrySubmitError,
    WorkerLost, task,
};

use crate::support::{Gate, occupy, within_limit};
use crate::tools::soon;

const LIMIT: Duration = Duration::from_secs(3);

fn io_error() -> io::Error {
    io::Error::other("connection refused")
}

/// One of each variant, and of each that answers differently, with its answers.
fn all() -> Vec<(Error, bool, HasRun, bool)> {
    let codec = |side| Error::from(CodecError::new(side, "Vec<u8>", "too deep"));
    let invalid = || {
        let built = ThreadPoolExecutor::builder().max_workers(0).build();
        built.map(drop).unwrap_err()
    };
    vec![
        (Error::Cancelled, false, HasRun::Unknown, false),
        (Panicked::new(Box::new("broken")).into(), false, HasRun::Partly, false),
        (Error::timed_out(LIMIT, false), false, HasRun::No, true),
        (Error::timed_out(LIMIT, true), false, HasRun::Partly, false),
        (WorkerLost::default().into(), false, HasRun::Unknown, false),
        (codec(CodecSide::EncodeArguments), false, HasRun::No, false),
        (codec(CodecSide::DecodeArguments), false, HasRun::No, false),
        (codec(CodecSide::EncodeResult), false, HasRun::Yes, false),
        (codec(CodecSide::DecodeResult), false, HasRun::Yes, false),
        (BrokenPool::new(io_error()).into(), false, HasRun::Unknown, false),
        (Error::queue_full(8), true, HasRun::No, true),
        (Error::ShutDown, true, HasRun::No, false),
        (Error::WouldDeadlock, true, HasRun::No, false),
        (invalid(), true, HasRun::No, false),
        (Error::NoTimer(Arc::new(io_error())), false, HasRun::No, true),
        (Error::ResultTaken, false, HasRun::Yes, false),
    ]
}

#[test]
fn each_error_says_what_became_of_the_job_and_its_clone_the_same() {
    for (error, is_refusal, has_run, is_retryable) in all() {
        for error in [error.clone(), error] {
            assert_eq!(error.is_refusal(), is_refusal, "{error:?}");
            assert_eq!(error.has_run(), has_run, "{error:?}");
            assert_eq!(error.is_retryable(), is_retryable, "{error:?}");
            assert_eq!(error.is_panic(), matches!(error, Error::Panicked(_)), "{error:?}");
            assert_eq!(error.is_cancelled(), matches!(error, Error::Cancelled), "{error:?}");
            assert_eq!(error.is_timeout(), matches!(error, Error::TimedOut { .. }), "{error:?}");
        }
    }
}

#[test]
fn debug_is_one_line_with_the_name_the_text_and_the_causes() {
    for (error, ..) in all() {
        let text = format!("{error:?}");
        let mut expected = format!("{}: {error}", text.split(':').next().unwrap());
        let mut next = error.source();
        while let Some(cause) = next {
            expected += &format!(": {cause}");
            next = cause.source();
        }
        assert_eq!(text, expected);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!format!("{error}").ends_with("refused"), "the cause is told by the source");
    }
    let broken = Error::from(BrokenPool::new(io_error()));
    assert!(format!("{broken:?}").starts_with("BrokenPool: the pool is broken"), "{broken:?}");
    assert!(broken.source().unwrap().downcast_ref::<io::Error>().is_some());
    assert!(Error::NoTimer(Arc::new(io_error())).source().is_some());
    let lines = Error::from(Panicked::new(Box::new("left: 1\nright: 2")));
    assert_eq!(format!("{lines:?}"), "Panicked: the job panicked: left: 1\\nright: 2");
}

#[test]
fn the_alternate_form_of_debug_has_the_fields() {
    let text = format!("{:#?}", Error::timed_out(LIMIT, true));
    assert_eq!(text, "TimedOut {\n    limit: 3s,\n    started: true,\n}");
    for (error, ..) in all() {
        let (short, long) = (format!("{error:?}"), format!("{error:#?}"));
        let name = short.split(':').next().unwrap();
        assert!(long.starts_with(name), "{long}");
    }
}

#[test]
fn clones_of_a_panic_share_its_payload_and_the_first_gets_it() {
    let pool = ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
    let error = soon(pool.submit(|| panic::panic_any(404_u32))).unwrap_err();
    let other = error.clone();
    assert_eq!(error.to_string(), other.to_string());
    let payload = error.try_into_panic().unwrap();
    assert_eq!(payload.downcast_ref::<u32>(), Some(&404));
    // The text is all that is left.
    let payload = other.try_into_panic().unwrap();
    assert_eq!(payload.downcast_ref::<String>().unwrap(), "the panic's payload is not a string");
    assert!(Error::ShutDown.try_into_panic().unwrap_err().is_refusal());
}

#[test]
fn a_payload_is_taken_by_its_type() {
    let panicked = Panicked::new(Box::new(404_u32));
    let panicked = panicked.downcast::<String>().unwrap_err();
    assert_eq!(*panicked.clone().downcast::<u32>().unwrap(), 404);
    assert!(panicked.downcast::<u32>().is_err());
    let raised = panic::catch_unwind(|| Panicked::new(Box::new(7_u8)).resume_unwind());
    assert_eq!(raised.unwrap_err().downcast_ref::<u8>(), Some(&7));
}

#[test]
fn a_job_that_was_not_accepted_has_the_reason_as_its_source() {
    let gate = Gate::new();
    let pool = ThreadPoolExecutor::builder().max_workers(1).queue_capacity(1).build().unwrap();
    let held = occupy(&pool, &gate);
    let queued = pool.submit(|| ());
    let refused: TrySubmitError<_> = pool.try_submit(|| ()).unwrap_err();
    assert_eq!(refused.to_string(), "the job was not accepted");
    let reason = refused.source().unwrap().downcast_ref::<Error>().unwrap();
    assert!(matches!(reason, Error::QueueFull { capacity: 1, .. }));
    gate.open();
    soon(held).unwrap();
    soon(queued).unwrap();
}

/// Runs until it is asked to stop, and says why that is.
fn until_stopped() -> Error {
    loop {
        if let Err(error) = task::checkpoint() {
            return error;
        }
        thread::yield_now();
    }
}

/// The job goes on though its future has ended.
#[test]
fn a_checkpoint_says_that_the_time_limit_has_passed() {
    within_limit(|| {
        let limit = Duration::from_millis(1);
        let pool = ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
        let (tell, told) = mpsc::channel();
        let late = pool.task().timeout(limit).submit(move || tell.send(until_stopped()).unwrap());
        assert!(late.result().unwrap_err().is_timeout());
        let error = told.recv().unwrap();
        assert!(matches!(error, Error::TimedOut { started: true, limit: l, .. } if l == limit));

        let (tell, told) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        let cancelled = pool.task().timeout(Duration::from_secs(3600)).submit(move || {
            begin.send(()).unwrap();
            tell.send(until_stopped()).unwrap();
        });
        begun.recv().unwrap();
        assert!(!cancelled.cancel());
        assert!(told.recv().unwrap().is_cancelled());
    });
}
