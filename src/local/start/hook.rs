//! Code that runs before `main`, so that a program can serve as zygote without having to say so.
//!
//! The C runtime calls what the executable's `.init_array` lists, from first to last; the linker puts
//! the list together from all object files. What comes after the hook, such as the constructors of
//! C++ globals in later files, would be missing in a process that never gets beyond the hook. So the
//! hook calls those itself.

#[cfg(target_env = "gnu")]
use std::ffi::c_char;
use std::ffi::{c_int, c_void};

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
    struct Search {
        visited: usize,
        found: Option<Image>,
    }

    /// The program itself comes first.
    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _: libc::size_t,
        search: *mut c_void,
    ) -> c_int {
        // SAFETY: the caller passes a description of an image that is loaded, and the `search` that
        // it was given.
        let (image, search) = unsafe { (Loaded(&*info), &mut *search.cast::<Search>()) };
        let is_program = search.visited == 0;
        search.visited += 1;
        if !image.has(std::ptr::from_ref(&HOOK).addr()) {
            return 0; // go on
        }
        // Each image has a list of its own; the one that counts is that of the image with this
        // code.
        search.found = image.constructors().map(|list| Image { is_program, list });
        1
    }

    let mut search = Search { visited: 0, found: None };
    // SAFETY: `visit` is called with the pointer, which is used nowhere else meanwhile.
    unsafe { libc::dl_iterate_phdr(Some(visit), std::ptr::from_mut(&mut search).cast()) };
    search.found
}

/// An image that is loaded, and stays so: it is the one that this code is in, or is only looked at
/// during the search.
struct Loaded<'a>(&'a libc::dl_phdr_info);

/// An entry of the dynamic section (`Elf64_Dyn`, `Elf32_Dyn`).
#[repr(C)]
struct Dynamic {
    tag: isize,
    value: usize,
}

impl Loaded<'_> {
    const END: isize = 0; // DT_NULL
    const LIST: isize = 25; // DT_INIT_ARRAY
    const LIST_SIZE: isize = 27; // DT_INIT_ARRAYSZ

    /// The segments of a type: where they are, and their size.
    fn segments(&self, kind: u32) -> impl Iterator<Item = (usize, usize)> {
        let base = self.0.dlpi_addr as usize;
        // SAFETY: the loader says that so many headers are there.
        let headers =
            unsafe { std::slice::from_raw_parts(self.0.dlpi_phdr, usize::from(self.0.dlpi_phnum)) };
        let headers = headers.iter().filter(move |header| header.p_type == kind);
        headers.map(move |at| (base.wrapping_add(at.p_vaddr as usize), at.p_memsz as usize))
    }

    fn has(&self, address: usize) -> bool {
        let mut segments = self.segments(libc::PT_LOAD);
        segments.any(|(start, size)| (start..start + size).contains(&address))
    }

    /// Returns its list of constructors. `None` for a program without a dynamic section: one that
    /// is static and not relocatable.
    fn constructors(&self) -> Option<&'static [Constructor]> {
        let (mut start, mut size) = (None, 0);
        let (dynamic, _) = self.segments(libc::PT_DYNAMIC).next()?;
        let mut entry = std::ptr::with_exposed_provenance::<Dynamic>(dynamic);
        loop {
            // SAFETY: the section is loaded with the image, and ends with an entry `END`.
            let Dynamic { tag, value } = unsafe { entry.read() };
            match tag {
                Self::END => break,
                // Relative to the base: the loader does not relocate this entry in memory.
                Self::LIST => start = Some((self.0.dlpi_addr as usize).wrapping_add(value)),
                Self::LIST_SIZE => size = value,
                _ => {}
            }
            entry = entry.wrapping_add(1);
        }
        let start = std::ptr::with_exposed_provenance(start?);
        // SAFETY: the list is part of the image, which has this code in it and so is never unloaded
        // while it runs. The runtime calls what it lists in just this way.
        Some(unsafe { std::slice::from_raw_parts(start, size / size_of::<Constructor>()) })
    }
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
