//! A limit on the size of files, which the program did not set. The memory that is shared with a worker
//! is a file to the system, and to exceed the limit is punished with a signal.

use concurrent_futures::{Error, call};
use rustix::process::{Resource, getrlimit};

use crate::on_stage;
use crate::program::{part, say};
use crate::tools::{builder, end, lost, pool};

fn square(n: u64) -> u64 {
    n * n
}

fn die_at_60(n: u64) -> u64 {
    if n == 60 {
        std::process::abort();
    }
    n
}

/// Runs the test `name` with a limit of so many blocks.
fn with_limit(blocks: u32, name: &str) {
    let mut program = on_stage(&format!("ulimit -f {blocks}"), name, "with a limit");
    assert_eq!(program.hear(), [1], "{}", program.output());
    assert!(program.ended().success(), "{}", program.output());
}

#[test]
fn a_low_limit_on_files_makes_the_shared_memory_smaller() {
    if part().is_some() {
        let limit = getrlimit(Resource::Fsize).current;
        assert!(limit.is_some_and(|limit| limit < 200_000), "{limit:?}");
        let pool = pool(2);
        assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
        // What a chunk has done is found there after its worker's death.
        let mut results = pool.map(die_at_60, 0..100).chunk_size(100);
        let results: Vec<_> = futures::executor::block_on_stream(&mut results).collect();
        assert_eq!(results.len(), 100);
        for (n, result) in (0..).zip(results) {
            match n {
                60 => drop(lost(result)),
                _ => assert_eq!(result.unwrap(), n),
            }
        }
        end(&pool);
        return say(&[1]);
    }
    with_limit(100, "file_size::a_low_limit_on_files_makes_the_shared_memory_smaller");
}

#[test]
fn a_limit_on_files_that_leaves_no_room_is_an_error_of_build() {
    if part().is_some() {
        let error = builder(1).build().unwrap_err();
        let text = format!("{error:?}");
        assert!(matches!(error, Error::BrokenPool(_)) && text.contains("RLIMIT_FSIZE"), "{text}");
        return say(&[1]);
    }
    with_limit(4, "file_size::a_limit_on_files_that_leaves_no_room_is_an_error_of_build");
}

fn length(bytes: Vec<u8>) -> Result<(), String> {
    if bytes.len() == 50_000 { Ok(()) } else { Err(format!("{} bytes", bytes.len())) }
}

/// Arguments go to the process that starts workers in a file in memory.
#[test]
fn a_limit_on_files_that_the_arguments_of_a_preloaded_call_exceed_is_an_error_of_build() {
    if part().is_some() {
        let preloaded = |count| builder(1).preload(call!(length(vec![7; count]))).build();
        let text = format!("{:?}", preloaded(1_000_000).unwrap_err());
        assert!(text.contains("1000") && text.contains("RLIMIT_FSIZE"), "{text}");
        let pool = preloaded(50_000).unwrap();
        assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
        end(&pool);
        return say(&[1]);
    }
    with_limit(
        100,
        "file_size::a_limit_on_files_that_the_arguments_of_a_preloaded_call_exceed_is_an_error_of_build",
    );
}
