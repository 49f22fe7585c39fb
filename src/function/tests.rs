//! Functions that are named and then called by their names, in the same process and in others of the program.

use std::fmt::Display;
use std::ops::Add;
use std::process::Command;
use std::str::FromStr;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::*;

/// Takes the argument from a text and leaves the result as one.
struct Text;

impl<A: FromStr, R: Display> Trampoline<fn(A) -> R> for Text {
    type Context = String;

    fn call(function: fn(A) -> R, context: &mut String) {
        let Ok(argument) = context.parse() else { panic!("not an argument: {context}") };
        *context = function(argument).to_string();
    }
}

fn named<A: FromStr, R: Display>(function: fn(A) -> R) -> NamedCall {
    name::<Text, fn(A) -> R>(function).unwrap()
}

/// The result of the call, or the error's text.
fn run(call: NamedCall, argument: &str) -> String {
    let mut context = argument.to_owned();
    match call.resolve() {
        Ok(call) => call.call(&mut context),
        Err(unknown) => context = unknown.to_string(),
    }
    context
}

const CALL: &str = "CONCURRENT_FUTURES_TEST_CALL";
const ARGUMENT: &str = "CONCURRENT_FUTURES_TEST_ARGUMENT";
const ANSWER: &str = "answer: ";

/// As `run`, but in a process of its own.
fn run_elsewhere(call: NamedCall, argument: &str) -> String {
    let bytes = call.to_bytes().map(|byte| byte.to_string());
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["function::tests::run_what_the_environment_says", "--exact", "--nocapture"])
        .env(CALL, bytes.join(" "))
        .env(ARGUMENT, argument)
        .output()
        .unwrap();
    let printed = String::from_utf8(ended.stdout).unwrap();
    let answer = printed.lines().find_map(|line| line.strip_prefix(ANSWER));
    answer.unwrap_or_else(|| panic!("{}: {printed}", ended.status)).to_owned()
}

/// The other process of `run_elsewhere`.
#[test]
fn run_what_the_environment_says() {
    let Ok(bytes) = std::env::var(CALL) else { return };
    let bytes: Vec<u8> = bytes.split(' ').map(|byte| byte.parse().unwrap()).collect();
    let call = NamedCall::from_bytes(bytes.try_into().unwrap());
    println!("\n{ANSWER}{}", run(call, &std::env::var(ARGUMENT).unwrap()));
}

fn triple(x: u64) -> u64 {
    3 * x
}

fn twice<T: Add<Output = T> + Copy>(x: T) -> T {
    x + x
}

/// Plain, generic, closures, and functions of the standard library: with an argument, and what
/// they give.
fn examples() -> [(NamedCall, &'static str, &'static str); 7] {
    [
        (named(triple), "14", "42"),
        (named(twice::<u64>), "21", "42"),
        (named(twice::<f64>), "0.25", "0.5"),
        (named(|x: i32| x - 1), "0", "-1"),
        (named(|text: String| text.to_uppercase()), "loud", "LOUD"),
        (named(u32::leading_zeros), "1", "31"),
        (named(String::into_boxed_str), "boxed", "boxed"),
    ]
}

#[test]
fn a_named_call_does_what_the_function_does() {
    for (call, argument, result) in examples() {
        assert_eq!(run(call, argument), result);
    }
}

#[test]
fn a_named_call_does_the_same_in_another_process() {
    for (call, argument, result) in examples() {
        assert_eq!(run_elsewhere(call, argument), result);
    }
}

#[test]
fn a_name_travels_as_bytes() {
    let reference = |image, offset| Reference { image, offset };
    let call = NamedCall { entry: reference(1, 2), function: reference(3, u64::MAX - 1) };
    let bytes = call.to_bytes();
    assert_eq!(bytes[..9], [1, 0, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(bytes[16..], [3, 0, 0, 0, 0, 0, 0, 0, 254, 255, 255, 255, 255, 255, 255, 255]);
    assert_eq!(NamedCall::from_bytes(bytes), call);
}

fn addresses() -> [*const (); 4] {
    [
        triple as fn(u64) -> u64 as *const (),
        twice as fn(f32) -> f32 as *const (),
        std::thread::sleep as fn(Duration) as *const (),
        libc::getpid as unsafe extern "C" fn() -> libc::pid_t as *const (),
    ]
}

#[test]
fn a_reference_leads_back_to_where_it_is_from() {
    for address in addresses() {
        assert_eq!(Reference::of(address, Part::Code).unwrap().resolve(Part::Code), Ok(address));
    }
}

/// Also of what is in a shared library, as `getpid` is.
#[test]
fn references_and_digests_are_the_same_in_all_processes() {
    fn tell(_: String) -> String {
        format!("{:?} {:?}", program_digest(), addresses().map(|it| Reference::of(it, Part::Code)))
    }
    assert!(program_digest().is_ok());
    assert_eq!(run_elsewhere(named(tell), ""), tell(String::new()));
}

#[test]
fn a_trampoline_for_another_context_is_refused() {
    let text = named(triple).resolve::<Vec<u8>>().err().unwrap().to_string();
    assert_eq!(
        text,
        "the call was named with a trampoline for another context than alloc::vec::Vec<u8>; name it with one for that"
    );
}

#[test]
fn an_address_outside_of_code_has_no_name() {
    static DATA: AtomicU64 = AtomicU64::new(0);
    let on_the_heap = Box::new(0_u64);
    for address in [DATA.as_ptr().cast_const(), &*on_the_heap, std::ptr::null()] {
        let text = Reference::of(address.cast(), Part::Code).unwrap_err().to_string();
        let expected = format!(
            "there is no code of the program or of one of its libraries at {:#x}; ",
            address.addr()
        );
        assert!(text.starts_with(&expected), "{text}");
    }
}

#[test]
fn an_image_that_is_not_there_is_an_error() {
    let mut call = named(triple);
    call.function.image ^= 1 << 40;
    let text = format!("no image with the digest {:016x} is loaded", call.function.image);
    assert!(run(call, "1").starts_with(&text), "{}", run(call, "1"));

    let mut call = named(triple);
    call.entry.image ^= 1;
    let text = format!("no image with the digest {:016x} is loaded", call.entry.image);
    assert!(run(call, "1").starts_with(&text), "{}", run(call, "1"));
}

#[test]
fn an_offset_outside_of_code_is_an_error() {
    static DATA: AtomicU64 = AtomicU64::new(0);
    let function = triple as fn(u64) -> u64 as *const ();
    let here = Reference::of(function, Part::Code).unwrap();
    let base = function.addr().wrapping_sub(here.offset as usize);
    let offset_of = |address: usize| address.wrapping_sub(base) as u64;

    let mut offsets = vec![offset_of(DATA.as_ptr().addr()), u64::MAX, u64::MAX - 0xfff];
    if cfg!(target_arch = "x86_64") {
        // Other linkers put the headers and constants into one segment with the code.
        offsets.extend([0x10, offset_of("constant".as_ptr().addr())]);
    }
    let program = std::env::current_exe().unwrap();
    for offset in offsets {
        let text = Reference { offset, ..here }.resolve(Part::Code).unwrap_err().to_string();
        let expected =
            format!("the offset {offset:#x} is outside the code of {}; ", program.display());
        assert!(text.starts_with(&expected), "{text}");
    }
}

/// Nothing else among the constants is taken for an entry.
#[test]
fn an_entry_is_where_it_is_and_nowhere_near() {
    let call = named(triple);
    assert!(call.entry.entry().is_ok());
    for shift in (-4096..4096).filter(|shift| *shift != 0) {
        let entry =
            Reference { offset: call.entry.offset.wrapping_add_signed(shift), ..call.entry };
        // Those for other types may be next to it, but not within it.
        assert!(entry.entry().is_err() || shift.unsigned_abs() >= size_of::<Entry>() as u64);
    }
    let swapped = NamedCall { entry: call.function, function: call.entry };
    assert!(swapped.check().is_err());
}

#[test]
fn a_function_is_known_to_begin_where_it_does() {
    for (call, ..) in examples() {
        assert_eq!(images::check_beginning(call.function), Ok(Checked::Known));
    }
    for (index, address) in addresses().into_iter().enumerate() {
        let function = Reference::of(address, Part::Code).unwrap();
        // The last one is the C library's. musl's is built without tables for unwinding.
        let is_listed = index < 3 || cfg!(target_env = "gnu");
        let expected = if is_listed { Checked::Known } else { Checked::Unknown };
        assert_eq!(images::check_beginning(function), Ok(expected));
    }
}

#[test]
fn what_is_within_a_function_does_not_begin_one() {
    for call in [named(twice::<u64>), named(|text: String| text.to_uppercase())] {
        // Optimised or not, it is longer than that.
        for shift in 1..4 {
            let offset = call.function.offset + shift;
            let within = NamedCall { function: Reference { offset, ..call.function }, ..call };
            let text = within.check().unwrap_err().to_string();
            assert!(
                text.contains(&format!("no function begins at the offset {offset:#x}")),
                "{text}"
            );
        }
    }
}

/// As of a library that is loaded in workers only.
#[test]
fn of_an_image_that_is_not_here_nothing_is_known() {
    let call = named(triple);
    let elsewhere = Reference { image: call.function.image ^ 1, ..call.function };
    assert_eq!(NamedCall { function: elsewhere, ..call }.check(), Ok(Checked::Unknown));
    assert_eq!(NamedCall { entry: elsewhere, ..call }.check(), Ok(Checked::Unknown));
}

/// A library that comes and goes: the list of images is as new as its answers.
#[cfg(target_env = "gnu")]
#[test]
fn a_library_has_names_while_it_is_loaded() {
    assert!(addresses().map(|it| Reference::of(it, Part::Code)).iter().all(Result::is_ok)); // the list is read
    // SAFETY: the library is a part of the C library; its constructors do nothing here.
    let library = unsafe { libc::dlopen(c"libresolv.so.2".as_ptr(), libc::RTLD_NOW) };
    assert!(!library.is_null());
    // SAFETY: it is loaded.
    let address = unsafe { libc::dlsym(library, c"inet_neta".as_ptr()) }.cast_const().cast();
    let function = Reference::of(address, Part::Code).unwrap();
    assert_eq!(function.resolve(Part::Code), Ok(address));

    // Elsewhere it is not loaded.
    let call = NamedCall { function, ..named(triple) };
    let text = format!("no image with the digest {:016x} is loaded in this", function.image);
    assert!(run_elsewhere(call, "1").starts_with(&text), "{}", run_elsewhere(call, "1"));

    // SAFETY: nothing of it is in use.
    assert_eq!(unsafe { libc::dlclose(library) }, 0);
    assert!(Reference::of(address, Part::Code).is_err());
    assert!(function.resolve(Part::Code).unwrap_err().to_string().starts_with(&text));
}
