//! A library that is loaded before the program and has opened something by the time that the helper
//! begins.

use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::process::Command;

use concurrent_futures::call;

use crate::program::{part, say};
use crate::tools::{builder, end};
use crate::{left_out, on_stage};

/// As logging and profiling libraries do, it opens a file when it is loaded, and writes there later on.
/// `fopen` and many a program do so without having the descriptor closed by `exec`.
const LIBRARY: &str = r#"
#include <fcntl.h>
#include <stdlib.h>

static int held = -1;

__attribute__((constructor)) static void load(void) {
    const char *path = getenv("TEST_HELD_FILE");
    if (path) held = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
}

int held_descriptor(void) { return held; }
"#;

/// Builds the library; `None` if there is no C compiler.
fn library(directory: &Path) -> Option<PathBuf> {
    let (source, library) = (directory.join("held.c"), directory.join("libheld.so"));
    std::fs::write(&source, LIBRARY).unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).output();
    built.is_ok_and(|built| built.status.success()).then_some(library)
}

/// What the library's descriptor leads to in this process.
fn held() -> Option<PathBuf> {
    // SAFETY: the library has a function of this name and type, and no other has.
    let fd = unsafe {
        let function = libc::dlsym(libc::RTLD_DEFAULT, c"held_descriptor".as_ptr());
        std::mem::transmute::<*mut libc::c_void, Option<extern "C" fn() -> c_int>>(function)?()
    };
    std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}

/// The descriptors of this process, but for the one that lists them.
fn descriptors() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    entries.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()).collect()
}

#[test]
fn what_a_library_has_opened_before_the_helper_begins_stays_open() {
    const NAME: &str =
        "preloaded_library::what_a_library_has_opened_before_the_helper_begins_stays_open";
    if part().is_some() {
        let file = PathBuf::from(std::env::var_os("TEST_HELD_FILE").unwrap());
        assert_eq!(held().as_ref(), Some(&file));
        // This one is the parent's alone, whatever number it has there.
        let leak = rustix::fs::open("/dev/zero", rustix::fs::OFlags::RDONLY, 0.into()).unwrap();
        let pool = builder(2).build().unwrap();
        for _ in 0..4 {
            assert_eq!(pool.submit(call!(held())).result().unwrap().as_ref(), Some(&file));
            let all = pool.submit(call!(descriptors())).result().unwrap();
            assert!(!all.contains(&"/dev/zero".into()), "{all:?}");
        }
        end(&pool);
        drop(leak);
        return say(&[1]);
    }
    if cfg!(target_feature = "crt-static") {
        return left_out("a program that is linked statically has no libraries");
    }
    let directory = format!("concurrent-futures-{}-library", std::process::id());
    let directory = std::env::temp_dir().join(directory);
    std::fs::create_dir(&directory).unwrap();
    match library(&directory) {
        None => left_out("this needs a C compiler"),
        Some(library) => {
            let (library, file) = (library.display(), directory.join("held"));
            let stage = format!(
                "export TEST_HELD_FILE='{}'\nexport LD_PRELOAD='{library}'",
                file.display()
            );
            let mut program = on_stage(&stage, NAME, "with a library");
            assert_eq!(program.hear(), [1], "{}", program.output());
            assert!(program.ended().success(), "{}", program.output());
        }
    }
    std::fs::remove_dir_all(directory).unwrap();
}
