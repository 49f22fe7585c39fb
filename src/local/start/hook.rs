//! Code that runs before `main`, so that a program can serve as zygote without having to say so. In every
//! process of the program: it goes on to `main` in all but the zygote.
//!
//! The C runtime calls what the executable's `.init_array` lists, from first to last; the linker puts
//! the list together from all object files. What comes after the hook, such as the constructors of
//! C++ globals in later files, would be missing in a process that never gets beyond the hook. So the
//! hook calls those itself.

#[cfg(target_env = "gnu")]
use std::ffi::{c_char, c_int};

use crate::function::images::elf;
use crate::local::start;

// glibc passes the arguments of `main`; musl passes none.
#[cfg(target_env = "gnu")]
type Constructor = extern "C" fn(c_int, *const *const c_char, *const *const c_char);
#[cfg(not(target_env = "gnu"))]
type Constructor = extern "C" fn();

#[used]
#[unsafe(link_section = ".init_array")]
static HOOK: Constructor = hook;

#[cfg(target_env = "gnu")]
extern "C" fn hook(count: c_int, arguments: *const *const c_char, variables: *const *const c_char) {
    start::before_main(|| later().iter().for_each(|next| next(count, arguments, variables)));
}

#[cfg(not(target_env = "gnu"))]
extern "C" fn hook() {
    start::before_main(|| later().iter().for_each(|next| next()));
}

/// Returns whether the hook can stand in for the runtime: the list that it is in was found, and is that of
/// the program itself. The list of a shared library is called before the program's.
pub(crate) fn is_in_charge() -> bool {
    own_image().is_some_and(|image| image.is_program && image.slot().is_some())
}

/// The constructors after the hook.
fn later() -> &'static [Constructor] {
    let image = own_image();
    image.and_then(|image| image.slot().and_then(|at| image.list.get(at + 1..))).unwrap_or(&[])
}

/// The program or library that this code was linked into.
struct Image {
    is_program: bool,
    list: &'static [Constructor],
}

impl Image {
    /// Returns the index of the hook in the list.
    fn slot(&self) -> Option<usize> {
        // By address: the static lies in the list, and is itself the entry.
        self.list.iter().position(|entry| std::ptr::eq(entry, &HOOK))
    }
}

fn own_image() -> Option<Image> {
    // Each image has a list of its own; the one that counts is that of the image with this code.
    let (is_program, list) = elf::constructors(std::ptr::from_ref(&HOOK).addr())?;
    let start = std::ptr::with_exposed_provenance(list.start);
    // SAFETY: the list is part of the image, which has this code in it and so is never unloaded
    // while it runs. The runtime calls what it lists in just this way.
    let list = unsafe { std::slice::from_raw_parts(start, list.len() / size_of::<Constructor>()) };
    Some(Image { is_program, list })
}

/// Constructors behind the hook: the linker leaves those of one object file in their order, and the
/// statics of one module are in one object file.
#[cfg(test)]
#[used]
#[unsafe(link_section = ".init_array")]
static OTHERS: [Constructor; 2] = [behind::note::<1>, behind::note::<2>];

#[cfg(test)]
pub(crate) mod behind {
    use std::sync::Mutex;

    use super::{HOOK, OTHERS};

    static NOTED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    #[cfg(target_env = "gnu")]
    pub(crate) extern "C" fn note<const N: u8>(
        count: std::ffi::c_int,
        _: *const *const std::ffi::c_char,
        _: *const *const std::ffi::c_char,
    ) {
        assert_ne!(count, 0);
        NOTED.lock().unwrap().push(N);
    }

    #[cfg(not(target_env = "gnu"))]
    pub(crate) extern "C" fn note<const N: u8>() {
        NOTED.lock().unwrap().push(N);
    }

    /// Those that were called, in this order.
    pub(crate) fn called() -> String {
        assert!(std::ptr::from_ref(&OTHERS).addr() > std::ptr::from_ref(&HOOK).addr());
        format!("{:?}", NOTED.lock().unwrap())
    }
}
