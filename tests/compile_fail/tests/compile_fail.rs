//! What the types promise: misuse that does not compile, and the text that a user sees.
//!
//! The texts are the compiler's and change with it, so they are compared with one version only.
//! To renew them after a change here: `TRYBUILD=overwrite cargo test -p compile-fail`.

use std::process::Command;

/// The compiler that wrote the texts.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn what_must_not_compile_says_why() {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    if !version.starts_with(COMPILER) {
        println!("not compared: the texts are those of {COMPILER}x, and this is {version}");
        return;
    }
    let cases = trybuild::TestCases::new();
    cases.compile_fail("cases/*.rs");
    cases.pass("cases/pass/*.rs");
}
