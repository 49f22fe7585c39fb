//! Who this process is: programs that are run by another program, or whose file has gone.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use concurrent_futures::{Error, call};

use crate::program::{Program, part};
use crate::tools::{Gate, Reports, SHORT, assert_timed_out, builder, end, hold, own_pid, pool};
use crate::{left_out, on_stage};

/// The dynamic loader of this test binary; `None` if it is static.
fn loader() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let files = maps.lines().filter_map(|line| Some(PathBuf::from(&line[line.find('/')?..])));
    files.into_iter().find(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ld-") || name.starts_with("ld.so")
    })
}

fn assert_succeeds(mut program: Program) {
    let status = program.ended();
    assert!(status.success(), "{status}\n{}", program.output());
}

/// A pool of this process has workers that run this program.
fn use_a_pool() {
    let pool = pool(1);
    let worker = pool.submit(call!(own_pid())).result().unwrap();
    assert_ne!(worker, std::process::id());
    // A time limit takes a clock that both processes read.
    let (started, gate) = (Reports::new(), Gate::new());
    let limited = pool.task().timeout(SHORT).submit(call!(hold(started.clone(), gate.clone(), 1)));
    assert_timed_out(&limited.result(), SHORT, true);
    end(&pool);
}

#[test]
fn a_program_that_a_loader_runs_has_workers() {
    if part().is_some() {
        return use_a_pool();
    }
    let Some(loader) = loader() else { return left_out("the test binary is static") };
    // What is named in the arguments must not be run: it would print them.
    let stage = format!(
        "exec '{}' --library-path \"$LD_LIBRARY_PATH\" \"$0\" /bin/echo \"$@\"",
        loader.display()
    );
    let name = "identity::a_program_that_a_loader_runs_has_workers";
    let mut program = on_stage(&stage, name, "by a loader");
    let status = program.ended();
    let output = program.output();
    assert!(status.success() && !output.contains("--nocapture"), "{status}\n{output}");
}

#[test]
fn a_program_under_a_memory_checker_has_workers() {
    if part().is_some() {
        return use_a_pool();
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        return left_out("there is no valgrind");
    }
    let name = "identity::a_program_under_a_memory_checker_has_workers";
    let stage = "exec valgrind -q \"$0\" \"$@\"";
    assert_succeeds(on_stage(stage, name, "under valgrind"));
}

/// Puts a copy of the test binary where it can be removed.
const COPY: &str = "cp \"$0\" \"$TMPDIR/program\"";

fn copy() -> PathBuf {
    std::env::temp_dir().join("program")
}

#[test]
fn a_program_whose_file_was_removed_or_replaced_has_workers() {
    if part().is_some() {
        fs::remove_file(copy()).unwrap();
        use_a_pool();
        fs::copy("/bin/false", copy()).unwrap();
        return use_a_pool();
    }
    let name = "identity::a_program_whose_file_was_removed_or_replaced_has_workers";
    let stage = format!("{COPY}\nexec \"$TMPDIR/program\" \"$@\"");
    assert_succeeds(on_stage(&stage, name, "replaced"));
}

/// The loader would run whatever is there now.
#[test]
fn a_program_that_a_loader_runs_and_whose_file_is_another_now_is_refused_by_name() {
    if part().is_some() {
        fs::remove_file(copy()).unwrap();
        fs::copy("/bin/false", copy()).unwrap();
        let loader = fs::canonicalize(loader().unwrap()).unwrap();
        match builder(1).build().unwrap_err() {
            Error::BrokenPool(cause) => {
                let text = cause.cause().to_string();
                for name in [loader, copy()] {
                    assert!(text.contains(&name.display().to_string()), "{text}");
                }
            }
            other => panic!("{other:?}"),
        }
        return;
    }
    let Some(loader) = loader() else { return left_out("the test binary is static") };
    let name =
        "identity::a_program_that_a_loader_runs_and_whose_file_is_another_now_is_refused_by_name";
    let stage = format!("{COPY}\nexec '{}' \"$TMPDIR/program\" \"$@\"", loader.display());
    assert_succeeds(on_stage(&stage, name, "replaced"));
}

// ---- Threads before `main` ----

/// With this variable, a constructor of this test binary starts a thread, as that of a library may.
const STARTS_A_THREAD: &str = "CONCURRENT_FUTURES_TEST_STARTS_A_THREAD";

#[used]
// SAFETY: the C runtime calls what is in this section before `main`; it is a function for that.
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

extern "C" fn constructor() {
    if std::env::var_os(STARTS_A_THREAD).is_some_and(|value| value == "1") {
        std::thread::spawn(|| {
            loop {
                std::thread::park();
            }
        });
    }
}

#[test]
fn threads_that_start_before_main_are_told_of_with_a_way_out() {
    if part().is_some() {
        let cause = match builder(1).build().and_then(|pool| pool.submit(call!(own_pid())).result())
        {
            Err(Error::BrokenPool(cause)) => cause.cause().to_string(),
            other => panic!("{other:?}"),
        };
        for part in [
            "(2 threads are running)",
            r#"`.env("OPENBLAS_NUM_THREADS", "1")`"#,
            r#"`.env("MALLOC_CONF", "background_thread:false")`"#,
        ] {
            assert!(cause.contains(part), "{cause}");
        }
        // A variable keeps the constructor from it in workers alone, as those do in the libraries.
        let pool = builder(1).env(STARTS_A_THREAD, "0").build().unwrap();
        assert_ne!(pool.submit(call!(own_pid())).result().unwrap(), std::process::id());
        return end(&pool);
    }
    let name = "identity::threads_that_start_before_main_are_told_of_with_a_way_out";
    assert_succeeds(on_stage(&format!("export {STARTS_A_THREAD}=1"), name, "with a thread"));
}
