//! The images of this process: the program and its libraries, and what of them is where.
//!
//! Called by [`function`](super), in the pool's process and in workers, and before `main` by the hook, in any.
//! The list of libraries has a lock, which is not held while the C library walks through its images.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::path::{Path, PathBuf};

use libc::dl_phdr_info;

use self::elf::{
    build_id, contents, headers, in_file, in_loaded, is_loaded, path, range, unwinding, walk,
};
use self::maps::{MappedFile, Maps, mapped_file};
use super::{Checked, EXECUTED, Part, Reference, UnknownCode, Words};
use crate::fork::{FirstMade, Own};
use crate::sync::{Mutex, MutexGuard};

pub(crate) mod elf;
mod maps;

pub(super) use maps::program_file;

pub(super) fn refer_to(address: usize, part: Part) -> Result<Reference, UnknownCode> {
    // First, since most functions are there, and it needs no lock.
    if let Some(program) = program().filter(|program| program.has(part, address)) {
        return program.refer_to(address);
    }
    match libraries().at(part, address) {
        Some(library) => library.refer_to(address),
        None => Err(UnknownCode(format!(
            "there is no code of the program or of one of its libraries at {address:#x}; another process can only call functions that are compiled into these"
        ))),
    }
}

pub(super) fn address_of(reference: Reference, part: Part) -> Result<usize, UnknownCode> {
    in_image(reference, |image| image.address_of(reference, part))?
}

/// Returns whether this process has the image.
pub(super) fn has_image(reference: Reference) -> bool {
    in_image(reference, |_| ()).is_ok()
}

/// The words that are there, if they are constants.
pub(super) fn constants(reference: Reference) -> Result<Words, UnknownCode> {
    if let Some(program) = program().filter(|program| program.digest == Some(reference.image)) {
        let words = program.address_of(reference, Part::Constants)?;
        // SAFETY: all of them are in the constants, says the image. That is one piece of memory,
        // whatever objects the compiler has put there; it is the program's and stays where it is,
        // and nothing writes there. Any bits are words.
        return Ok(unsafe { std::ptr::with_exposed_provenance::<Words>(words).read() });
    }
    let (base, words) = in_image(reference, |image| {
        image.address_of(reference, Part::Constants).map(|words| (image.base, words))
    })??;
    // The library may have been unloaded since, and another one be at its place: it is read anew,
    // within a walk, which keeps it loaded.
    let words = in_loaded(base, |info| {
        let image = Image::read(info, Path::new(""));
        image.has(Part::Constants, words).then(|| {
            // SAFETY: all of them are in the constants, says the image: one piece of memory, in which
            // nothing writes. It stays there, as the library is not unloaded during the walk. Any bits
            // are words.
            unsafe { std::ptr::with_exposed_provenance::<Words>(words).read() }
        })
    });
    words.flatten().ok_or_else(|| no_image(reference))
}

/// Returns whether a function begins there: an error, if not.
pub(super) fn check_beginning(reference: Reference) -> Result<Checked, UnknownCode> {
    let (base, address) = in_image(reference, |image| {
        image.address_of(reference, Part::Code).map(|address| (image.base, address))
    })??;
    let found = in_loaded(base, |info| unwinding(info)?.find(address)).flatten();
    match found {
        None => Ok(Checked::Unknown),
        Some(function) if function.start == address => Ok(Checked::Known),
        Some(_) => Err(UnknownCode(format!(
            "no function begins at the offset {:#x} of its image; the function's name was damaged on its way, or never was one",
            reference.offset
        ))),
    }
}

fn in_image<R>(reference: Reference, look: impl FnOnce(&Image) -> R) -> Result<R, UnknownCode> {
    let is_it = |image: &&Image| image.digest == Some(reference.image);
    if let Some(program) = program().filter(is_it) {
        return Ok(look(program));
    }
    let libraries = libraries();
    let library = libraries.images.iter().find(is_it);
    library.map(look).ok_or_else(|| no_image(reference))
}

fn no_image(reference: Reference) -> UnknownCode {
    UnknownCode(format!(
        "no image with the digest {:016x} is loaded in this process; if the function is in a library that the program loads with `dlopen`, link the program to it, or load it in each worker before the first task",
        reference.image
    ))
}

pub(super) fn name_of(constant: usize) -> Result<String, UnknownCode> {
    let offset_in = |image: &Image| constant.wrapping_sub(image.base);
    let in_program = program().filter(|program| program.has(Part::Constants, constant));
    if let Some(program) = in_program {
        return Ok(format!("{:x}", offset_in(program)));
    }
    match libraries().at(Part::Constants, constant) {
        Some(library) => Ok(format!("{:x} of {}", offset_in(library), library.file.display())),
        None => Err(UnknownCode(format!("no image has the constant at {constant:#x}"))),
    }
}

pub(super) fn program_digest() -> Result<u64, UnknownCode> {
    let nothing = || UnknownCode("the system does not tell what this process runs".to_owned());
    program().ok_or_else(nothing)?.digest()
}

/// The program's own image, where almost every function is. It stays where it is.
fn program() -> Option<&'static Image> {
    static PROGRAM: FirstMade<Option<Image>> = FirstMade::new();
    PROGRAM.get_or_make(|| read_images().0).as_ref()
}

/// The images besides the program's, as they are now.
///
/// The lock of the list is not held while the C library walks through its images: it has a
/// lock for that, and may hold it while it runs a constructor of a library, which may come
/// here.
fn libraries() -> MutexGuard<'static, Libraries> {
    const fn unknown() -> Mutex<Libraries> {
        Mutex::new(Libraries { generation: None, images: Vec::new() })
    }

    static LIBRARIES: Own<Mutex<Libraries>> = Own::from_start(unknown(), unknown);
    let now = generation();
    let known = LIBRARIES.lock();
    if known.generation == now {
        return known;
    }
    drop(known);
    let read = read_images().1;
    let mut known = LIBRARIES.lock();
    // Another thread may have stored a later list. This one brings its own generation, by which the
    // next caller finds out that it is outdated.
    *known = read;
    known
}

struct Libraries {
    /// The state of the process that the list is of.
    generation: Option<Generation>,
    /// Sorted by their addresses.
    images: Vec<Image>,
}

impl Libraries {
    fn at(&self, part: Part, address: usize) -> Option<&Image> {
        let after = self.images.partition_point(|image| image.start() <= address);
        self.images[..after].last().filter(|image| image.has(part, address))
    }
}

/// Number of images that were loaded so far, and number of those that were unloaded. An address may belong to
/// another image whenever these change.
type Generation = (u64, u64);

fn generation() -> Option<Generation> {
    let mut generation = None;
    walk(|info| {
        generation = Some((info.dlpi_adds, info.dlpi_subs));
        false
    });
    generation
}

fn read_images() -> (Option<Image>, Libraries) {
    let mut program = None;
    let mut libraries = Libraries { generation: None, images: Vec::new() };
    // The first image is that of the program: `dl_iterate_phdr(3)`.
    walk(|info| {
        if program.is_none() {
            program = Some(Image::read(info, Path::new(EXECUTED)));
            // Of the same walk as the list, so that a later change shows.
            libraries.generation = Some((info.dlpi_adds, info.dlpi_subs));
        } else {
            libraries.images.push(Image::read(info, path(info)));
        }
        true
    });
    if let Some(program) = &mut program {
        // What was executed may be another program, which runs this one.
        let maps = Maps::read().ok();
        let mapped = maps.as_ref().and_then(|maps| maps.at(program.start()));
        let is_other = |file: &MappedFile<'_>| !file.is_at(Path::new(EXECUTED));
        if let Some(file) = mapped.filter(is_other) {
            program.file = file.path.to_owned();
        }
    }
    libraries.images.retain(|image| !image.code.is_empty());
    libraries.images.sort_unstable_by_key(Image::start);
    for image in program.iter_mut().chain(&mut libraries.images) {
        // Without a build id the file stands in, as long as it is the one that is mapped.
        if image.digest.is_none() {
            image.digest = mapped_file(image.start(), &image.file).map(digest);
        }
    }
    (program, libraries)
}

/// A file that is mapped into this process.
struct Image {
    file: PathBuf,
    /// The address that its offsets are counted from.
    base: usize,
    /// Its lowest address.
    start: usize,
    /// Its executable segments.
    code: Vec<Range<usize>>,
    /// Ranges that it can't write to, once it is loaded.
    constants: Vec<Range<usize>>,
    /// `None`: nothing tells it from other builds of it.
    digest: Option<u64>,
}

impl Image {
    fn read(info: &dl_phdr_info, file: &Path) -> Self {
        let headers = headers(info);
        let loaded = headers.iter().filter(|header| is_loaded(header, libc::PF_R | libc::PF_X));
        let code = headers.iter().filter(|header| is_loaded(header, libc::PF_X));
        // An image that is not told to protect its constants from itself has them anywhere.
        let is_protected = headers.iter().any(|header| header.p_type == libc::PT_GNU_RELRO);
        let constants = headers.iter().filter(|header| match header.p_type {
            libc::PT_GNU_RELRO => true,
            _ if is_protected && header.p_flags & libc::PF_W != 0 => false,
            _ => is_loaded(header, libc::PF_R),
        });
        let notes = headers.iter().filter(|header| header.p_type == libc::PT_NOTE);
        let id = notes
            .filter_map(|header| Some((contents(info, header)?, header.p_align as usize)))
            .find_map(|(notes, align)| build_id(notes, align));
        // An id that was set by hand may be that of other builds as well; the layout is not.
        let layout = || headers.iter().map(|h| (h.p_vaddr, h.p_memsz)).collect::<Vec<_>>();
        Self {
            file: file.to_owned(),
            base: info.dlpi_addr as usize,
            start: loaded.map(|header| range(info, header).start).min().unwrap_or(0),
            code: code.map(|header| range(info, header)).collect(),
            constants: constants.map(|header| in_file(info, header)).collect(),
            digest: id.map(|id| digest((layout(), id))),
        }
    }

    fn start(&self) -> usize {
        self.start
    }

    fn has(&self, part: Part, address: usize) -> bool {
        let (ranges, length, align) = match part {
            Part::Code => (&self.code, 1, 1),
            Part::Constants => (&self.constants, size_of::<Words>(), align_of::<Words>()),
        };
        let has_it =
            |range: &Range<usize>| range.contains(&address) && range.end - address >= length;
        address % align == 0 && ranges.iter().any(has_it)
    }

    fn digest(&self) -> Result<u64, UnknownCode> {
        let nothing = || {
            UnknownCode(format!(
                "{} has no build id, and the file there is not known to be the one in memory, so another process may have other code; link it with `-C link-arg=-Wl,--build-id`",
                self.name()
            ))
        };
        self.digest.ok_or_else(nothing)
    }

    fn refer_to(&self, address: usize) -> Result<Reference, UnknownCode> {
        let offset = address.wrapping_sub(self.base) as u64;
        Ok(Reference { image: self.digest()?, offset })
    }

    fn address_of(&self, reference: Reference, part: Part) -> Result<usize, UnknownCode> {
        usize::try_from(reference.offset)
            .map(|offset| self.base.wrapping_add(offset))
            .ok()
            .filter(|address| self.has(part, *address))
            .ok_or_else(|| {
                let what = if part == Part::Code { "code" } else { "constants" };
                UnknownCode(format!(
                    "the offset {:#x} is outside the {what} of {}; the function's name was damaged on its way, or never was one",
                    reference.offset,
                    self.name()
                ))
            })
    }

    fn name(&self) -> String {
        // A link, if it is the program.
        std::fs::read_link(&self.file).as_ref().unwrap_or(&self.file).display().to_string()
    }
}

/// 64 bits in place of what identifies an image. They are the same in all processes of the
/// program, whose standard library is the same too.
fn digest(identity: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    identity.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A note as `elf(5)` has it.
    fn note(name: &[u8], kind: u32, description: &[u8], align: usize) -> Vec<u8> {
        let mut note = Vec::new();
        for number in [name.len() as u32, description.len() as u32, kind] {
            note.extend(number.to_ne_bytes());
        }
        for part in [name, description] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(align), 0);
        }
        note
    }

    #[test]
    fn the_build_id_is_found_among_other_notes() {
        for align in [4, 8] {
            let notes = [
                note(b"Go\0\0", 4, b"not it", align),
                note(b"stapsdt\0", 3, b"of another owner", align),
                note(b"GNU\0", 1, b"of another kind", align),
                note(b"GNU\0", 3, b"", align),
                note(b"GNU\0", 3, b"the build id", align),
                note(b"GNU\0", 3, b"a second one", align),
            ];
            assert_eq!(build_id(&notes.concat(), align), Some(&b"the build id"[..]));
            assert_eq!(build_id(&notes[..4].concat(), align), None);
        }
    }

    #[test]
    fn notes_that_are_cut_off_have_no_build_id() {
        let whole = note(b"GNU\0", 3, b"it", 4);
        // The last two bytes only fill up.
        let id = whole.len() - 2;
        for length in 0..whole.len() {
            assert_eq!(build_id(&whole[..length], 4).is_some(), length >= id, "{length}");
        }
        for at in [0, 4] {
            let mut too_long = whole.clone();
            too_long[at..at + 4].copy_from_slice(&[0xff; 4]);
            assert_eq!(build_id(&too_long, 4), None);
        }
    }

    /// The file's identity stands in for the build id of an image that has none.
    #[test]
    fn a_file_is_told_from_others_while_it_is_mapped() {
        let program = program().unwrap();
        let identity = |path: &Path| mapped_file(program.start(), path).map(digest);
        let by_link = identity(Path::new(EXECUTED));
        assert!(by_link.is_some());
        assert_eq!(by_link, identity(&std::env::current_exe().unwrap()));
        assert_eq!(identity(Path::new("/proc/self/maps")), None, "another file");
        assert_eq!(identity(Path::new("/nowhere")), None);
        let on_the_stack = std::ptr::from_ref(&by_link).addr();
        assert!(mapped_file(on_the_stack, &program.file).is_none(), "not of a file");
    }

    #[test]
    fn a_line_of_the_memory_map_names_a_file_or_none() {
        let parse = |line: &'static str| {
            let file = MappedFile::parse(line.as_bytes())?;
            Some((file.range, file.inode, file.path.to_str()?))
        };
        assert_eq!(
            parse("7f00-8f00 r-xp 00001000 fe:00 42      /opt/my  program (deleted)"),
            Some((0x7f00..0x8f00, 42, "/opt/my  program (deleted)"))
        );
        for line in ["", "7f00-8f00", "7f00-8f00 rw-p 00000000 00:00 0", "x-y r-xp 0 0:0 1 /a"] {
            assert_eq!(parse(line), None);
        }
        assert_eq!(parse("7f00-8f00 rw-p 00000000 00:00 0                  [heap]"), None);
    }

    fn image(file: &str, code: &[Range<usize>]) -> Image {
        let start = code.first().map_or(0, |code| code.start);
        let constants = Vec::new();
        Image { file: file.into(), base: 0, start, code: code.to_vec(), constants, digest: None }
    }

    #[test]
    fn an_address_between_segments_of_code_is_in_no_image() {
        let images = vec![
            image("a", &[0x1000..0x2000, 0x3000..0x4000]),
            image("b", std::slice::from_ref(&(0x6000..0x7000))),
        ];
        let libraries = Libraries { generation: None, images };
        let at = |address| libraries.at(Part::Code, address).map(Image::name);
        for (first, last, file) in
            [(0x1000, 0x1fff, "a"), (0x3000, 0x3fff, "a"), (0x6000, 0x6fff, "b")]
        {
            assert_eq!(at(first - 1), None);
            assert_eq!([at(first), at(last)], [Some(file.into()), Some(file.into())]);
            assert_eq!(at(last + 1), None);
        }
    }

    #[test]
    fn an_image_without_identity_is_refused() {
        let text = image("lib.so", &[]).refer_to(0x1800).unwrap_err().to_string();
        assert!(text.starts_with("lib.so has no build id"), "{text}");
    }
}
