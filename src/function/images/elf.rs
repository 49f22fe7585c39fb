//! The headers of an image, from the C library and the file, as `elf(5)` and `dl_iterate_phdr(3)` say. Any
//! process.

use std::ffi::{CStr, OsStr, c_int, c_void};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::dl_phdr_info;

#[cfg(target_pointer_width = "64")]
pub(super) type Header = libc::Elf64_Phdr;
#[cfg(target_pointer_width = "32")]
pub(super) type Header = libc::Elf32_Phdr;

/// Shows each image to `see`, until that says `false`. None is unloaded meanwhile.
pub(super) fn walk<F: FnMut(&dl_phdr_info) -> bool>(mut see: F) {
    unsafe extern "C" fn visit<F: FnMut(&dl_phdr_info) -> bool>(
        info: *mut dl_phdr_info,
        _size: usize,
        see: *mut c_void,
    ) -> c_int {
        // SAFETY: the first is lent for this call; the second is the `see` below, which
        // nothing else uses during the walk.
        let (info, see) = unsafe { (&*info, &mut *see.cast::<F>()) };
        // Anything but 0 ends the walk.
        c_int::from(!see(info))
    }

    let see: *mut F = &raw mut see;
    // SAFETY: `visit` gets what it expects, and `see` outlives the walk. A panic, if there
    // were one, would end the process where it leaves `visit`.
    unsafe { libc::dl_iterate_phdr(Some(visit::<F>), see.cast()) };
}

/// Shows the image with that base to `see`. It is not unloaded meanwhile.
pub(super) fn in_loaded<R>(base: usize, see: impl FnOnce(&dl_phdr_info) -> R) -> Option<R> {
    let (mut see, mut seen) = (Some(see), None);
    walk(|info| {
        if info.dlpi_addr as usize == base && !headers(info).is_empty() {
            seen = see.take().map(|see| see(info));
        }
        see.is_some()
    });
    seen
}

pub(super) fn path(info: &dl_phdr_info) -> &Path {
    if info.dlpi_name.is_null() {
        return Path::new("");
    }
    // SAFETY: a C string, which lives as long as the image.
    let name = unsafe { CStr::from_ptr(info.dlpi_name) };
    Path::new(OsStr::from_bytes(name.to_bytes()))
}

pub(super) fn headers(info: &dl_phdr_info) -> &[Header] {
    if info.dlpi_phdr.is_null() {
        return &[];
    }
    // SAFETY: so many of them are there, and live as long as the image.
    unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) }
}

pub(super) fn is_loaded(header: &Header, permission: u32) -> bool {
    header.p_type == libc::PT_LOAD && header.p_flags & permission != 0
}

pub(super) fn range(info: &dl_phdr_info, header: &Header) -> Range<usize> {
    let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
    start..start.wrapping_add(header.p_memsz as usize)
}

/// The part of a segment that comes from the file.
pub(super) fn in_file(info: &dl_phdr_info, header: &Header) -> Range<usize> {
    let Range { start, .. } = range(info, header);
    // The segment that is protected once it is loaded has no more in the file than in memory.
    let length = header.p_filesz.min(header.p_memsz);
    start..start.wrapping_add(length as usize)
}

// ---- The constructors ----

/// Finds the list of constructors (`DT_INIT_ARRAY`) of the image that has `address`. Returns the list's
/// addresses, and whether the image is the program. Allocates nothing, since it is called before `main`.
pub(crate) fn constructors(address: usize) -> Option<(bool, Range<usize>)> {
    // The program itself comes first.
    let (mut is_program, mut found) = (true, None);
    walk(|info| {
        let mut loaded = headers(info).iter().filter(|header| header.p_type == libc::PT_LOAD);
        let has_it = loaded.any(|header| range(info, header).contains(&address));
        if has_it {
            found = init_array(info).map(|list| (is_program, list));
        }
        is_program = false;
        !has_it
    });
    found
}

/// Returns `None` for a program without a dynamic section: one that is static and not relocatable.
fn init_array(info: &dl_phdr_info) -> Option<Range<usize>> {
    /// An entry of the dynamic section (`Elf64_Dyn`, `Elf32_Dyn`).
    #[repr(C)]
    struct Dynamic {
        tag: isize,
        value: usize,
    }

    const END: isize = 0; // DT_NULL
    const LIST: isize = 25; // DT_INIT_ARRAY
    const LIST_SIZE: isize = 27; // DT_INIT_ARRAYSZ

    let header = headers(info).iter().find(|header| header.p_type == libc::PT_DYNAMIC)?;
    let section = range(info, header);
    let entries = std::ptr::with_exposed_provenance::<Dynamic>(section.start);
    // SAFETY: the C library has loaded the section, of this length, with the image, which stays
    // loaded during the walk. It has written there before the image's first code ran, and does not
    // any more. Any bits are entries.
    let entries =
        unsafe { std::slice::from_raw_parts(entries, section.len() / size_of::<Dynamic>()) };
    let value = |tag| {
        let mut used = entries.iter().take_while(|entry| entry.tag != END);
        used.find(|entry| entry.tag == tag).map(|entry| entry.value)
    };
    // Relative to the base: the C library does not relocate this entry in memory.
    let start = (info.dlpi_addr as usize).wrapping_add(value(LIST)?);
    Some(start..start.wrapping_add(value(LIST_SIZE).unwrap_or(0)))
}

// ---- Where functions begin ----

/// The linker's table of all functions, sorted by their addresses, which is there for unwinding:
/// `.eh_frame_hdr` of the Linux Standard Base.
pub(super) struct Unwinding<'a> {
    /// The address that its numbers are counted from.
    start: usize,
    /// The addresses of each function and of its record, 4 bytes each, relative to `start`.
    table: &'a [u8],
    /// The memory that has the records.
    segments: Vec<(usize, &'a [u8])>,
}

pub(super) fn unwinding(info: &dl_phdr_info) -> Option<Unwinding<'_>> {
    // Version 1; a relative pointer to the records; 4 bytes with their count; a table of pairs of
    // 4 bytes each, relative to the start. So all linkers write it.
    const HEAD: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
    let all = headers(info);
    let header = all.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME)?;
    let bytes = contents(info, header)?.strip_prefix(&HEAD)?;
    let count = usize::try_from(u32::from_ne_bytes(*bytes.get(4..)?.first_chunk()?)).ok()?;
    let readable = all.iter().filter(|header| is_loaded(header, libc::PF_R));
    Some(Unwinding {
        start: range(info, header).start,
        table: bytes.get(8..)?.get(..count.checked_mul(8)?)?,
        segments: readable
            .filter(|header| header.p_flags & libc::PF_W == 0)
            .filter_map(|header| Some((range(info, header).start, contents(info, header)?)))
            .collect(),
    })
}

impl Unwinding<'_> {
    /// The function that has its code at `address`. `None`: the table has none there.
    pub(super) fn find(&self, address: usize) -> Option<Range<usize>> {
        let at = |index: usize| {
            let number = self.table.get(4 * index..)?.first_chunk()?;
            Some(relative(self.start, *number))
        };
        // The last one that begins no later.
        let (mut low, mut high) = (0, self.table.len() / 8);
        while low < high {
            let middle = low.midpoint(high);
            if at(2 * middle)? <= address { low = middle + 1 } else { high = middle }
        }
        let last = low.checked_sub(1)?;
        let (start, record) = (at(2 * last)?, at(2 * last + 1)?);
        if start == address {
            return Some(start..start + 1);
        }
        // A record is its length, an offset, then the start of the function and its length, most
        // often in 4 bytes each. That it is so shows when the start is the one in the table.
        const START: usize = 8;
        let start_again = relative(record + START, self.number(record + START)?);
        let length = u32::from_ne_bytes(self.number(record + START + 4)?);
        let function = start..start.checked_add(usize::try_from(length).ok()?)?;
        (start_again == start && function.contains(&address)).then_some(function)
    }

    pub(super) fn number(&self, address: usize) -> Option<[u8; 4]> {
        self.segments.iter().find_map(|(start, bytes)| {
            bytes.get(address.checked_sub(*start)?..)?.first_chunk().copied()
        })
    }
}

pub(super) fn relative(from: usize, number: [u8; 4]) -> usize {
    from.wrapping_add_signed(i32::from_ne_bytes(number) as isize)
}

/// The contents of a segment, if it is in memory: it need not be, unless it is part of one
/// that is to be loaded.
pub(super) fn contents<'a>(info: &'a dl_phdr_info, header: &Header) -> Option<&'a [u8]> {
    let wanted = range(info, header);
    let has_it = |whole: Range<usize>| {
        whole.start <= wanted.start && wanted.start <= wanted.end && wanted.end <= whole.end
    };
    headers(info)
        .iter()
        .find(|header| is_loaded(header, libc::PF_R) && has_it(range(info, header)))?;
    let start = std::ptr::with_exposed_provenance(wanted.start);
    // SAFETY: the C library has mapped the segment around it for reading, and notes are not
    // written to.
    Some(unsafe { std::slice::from_raw_parts(start, wanted.len()) })
}

/// The build id among the notes of a segment, which are laid out as `elf(5)` says.
pub(super) fn build_id(notes: &[u8], align: usize) -> Option<&[u8]> {
    const HEADER: usize = 12;
    const NT_GNU_BUILD_ID: usize = 3;
    // Anything else means 4.
    let align = if align == 8 { 8 } else { 4 };
    let mut rest = notes;
    loop {
        let number = |index: usize| {
            let number = rest.get(4 * index..)?.first_chunk()?;
            usize::try_from(u32::from_ne_bytes(*number)).ok()
        };
        let (name_length, length, kind) = (number(0)?, number(1)?, number(2)?);
        let name = rest.get(HEADER..)?.get(..name_length)?;
        let start = (HEADER + name_length).next_multiple_of(align);
        let description = rest.get(start..)?.get(..length)?;
        if name == b"GNU\0" && kind == NT_GNU_BUILD_ID && length > 0 {
            return Some(description);
        }
        rest = rest.get((start + length).next_multiple_of(align)..)?;
    }
}
