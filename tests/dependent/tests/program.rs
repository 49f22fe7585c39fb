//! The binary of this crate, as a program.

use std::process::Command;

#[test]
fn the_program_computes_in_workers_and_runs_main_once() {
    let output = Command::new(env!("CARGO_BIN_EXE_dependent")).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert_eq!(text(output.stderr), "");
    // What the zygote and the workers print would be here too.
    let expected = "main begins\n\
        fib(20) = 6765\n\
        squares: [0, 1, 4, 9, 16]\n\
        largest: Some('c')\n\
        2^10 = 1024\n\
        computed in another process: true\n";
    assert_eq!(text(output.stdout), expected);
    assert!(output.status.success(), "{}", output.status);
}
