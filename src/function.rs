//! How a plain function is named, so that another process of the same program can call it.
//!
//! An *image* is the program's file or a shared library's, as it lies in memory. The address of a
//! function differs from process to process, but not how far it is from its image's base. So that
//! offset is the function's name, together with a digest that tells the image from all others and
//! from other builds of itself.
//!
//! To call `f: fn(A) -> R` the other process has to know `A` and `R` as well. Code does: a
//! [`NamedCall`] names `f` together with an [`Entry`], a constant that leads to an instance, for the
//! same types, of a function in this module, which has one type for all of them.
//!
//! # Why it is sound to call what came over the wire
//!
//! 1. [`name`] makes a `NamedCall` out of a function and the entry for that function's types, as
//!    the compiler has checked them. The two stay together.
//! 2. Both processes run the same program: the worker's is started from the parent's image, and
//!    the pool compares their [`program_digest`]s. The image in which something is looked up has
//!    the digest of the one in which it was named. So there is the same at the same offset.
//! 3. A worker calls what its parent has sent, and nothing else. The parent sends what it has
//!    named itself, and what a worker has named for a task of its own, after a [`check`].
//! 4. The check sees that at the one offset there is an entry, which says so itself ([`Entry`]),
//!    and that at the other one a function begins, by the table that the linker has made for
//!    unwinding. What does not pass is not sent on. A worker looks at the entry once more before
//!    anything is called.
//!
//! So what a stray write in a worker makes up is no call, in all likelihood. Two things can't be
//! checked. One is that entry and function have the same types, if a worker has named a pair of its
//! own: a worker that lies on purpose can have another one call any function of the program with
//! arguments of a wrong type. The other is where a function begins, if no table has it (it was
//! compiled without unwind tables, or its library is loaded in workers only) and the parent has not
//! named the call either. Such a call is [`Checked::Unknown`]: its worker gets no other task, and if
//! it dies, the worker that has named the call is ended too.
//!
//! [`check`]: NamedCall::check

use std::any::{Any, type_name};

/// Code that calls a function of the user's in a worker, written for all types at once.
pub(crate) trait Trampoline<A, R> {
    /// Where the argument comes from and the result goes to.
    type Context: 'static;

    /// Takes the argument from the context, calls the function, and leaves its result there.
    fn call(function: fn(A) -> R, context: &mut Self::Context);
}

/// Names the call of `function` by `T`.
pub(crate) fn name<T, A, R>(function: fn(A) -> R) -> Result<NamedCall, UnknownCode>
where
    T: Trampoline<A, R>,
{
    let entry = std::ptr::from_ref(EntryFor::<T, A, R>::ENTRY);
    let call = NamedCall {
        entry: Reference::of(entry.cast(), Part::Constants)?,
        function: Reference::of(function as *const (), Part::Code)?,
    };
    known::add(call);
    Ok(call)
}

/// Names a function that needs no code for its types.
pub(crate) fn name_preload(function: fn()) -> Result<[u8; 16], UnknownCode> {
    let Reference { image, offset } = Reference::of(function as *const (), Part::Code)?;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&image.to_le_bytes());
    bytes[8..].copy_from_slice(&offset.to_le_bytes());
    Ok(bytes)
}

/// For what [`name_preload`] gave in the parent: see the module.
pub(crate) fn resolve_preload(bytes: [u8; 16]) -> Result<fn(), UnknownCode> {
    let number = u128::from_le_bytes(bytes);
    let function = Reference { image: number as u64, offset: (number >> 64) as u64 };
    let function = function.resolve(Part::Code)?;
    // SAFETY: the parent has named it, and this process runs the parent's program: by the first two
    // points at the top of this module it is a `fn()`.
    Ok(unsafe { std::mem::transmute::<*const (), fn()>(function) })
}

/// A call as a worker is told of it: the entry for the types, and the function itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(crate) struct NamedCall {
    entry: Reference,
    function: Reference,
}

/// What is known of a call that came over the wire and is not wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Checked {
    /// This process has named it, or a function begins where it says.
    Known,
    /// Nothing here tells where functions begin there.
    Unknown,
}

impl NamedCall {
    /// Length on the wire.
    pub(crate) const BYTES: usize = 32;

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let Self { entry, function } = self;
        let mut bytes = [0; Self::BYTES];
        let numbers = [entry.image, entry.offset, function.image, function.offset];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// For what [`to_bytes`](Self::to_bytes) gave in another process: see the module.
    pub(crate) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let number = |index: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[8 * index..][..8]);
            u64::from_le_bytes(number)
        };
        Self {
            entry: Reference { image: number(0), offset: number(1) },
            function: Reference { image: number(2), offset: number(3) },
        }
    }

    /// Looks at where the call leads, without calling anything. An error means that it can't have
    /// come from [`name`].
    ///
    /// Not under a lock that a constructor of a library may want: the C library's list of images
    /// is walked through.
    pub(crate) fn check(self) -> Result<Checked, UnknownCode> {
        if known::has(self) {
            return Ok(Checked::Known);
        }
        if ![self.entry, self.function].into_iter().all(images::has_image) {
            return Ok(Checked::Unknown);
        }
        self.entry.entry()?;
        let checked = images::check_beginning(self.function)?;
        if checked == Checked::Known {
            known::add(self);
        }
        Ok(checked)
    }

    /// Finds the call in this process. `X` is the context of the trampoline in its name.
    pub(crate) fn resolve<X: 'static>(self) -> Result<ResolvedCall<X>, UnknownCode> {
        let (opener, function) = (self.entry.entry()?, self.function.resolve(Part::Code)?);
        // SAFETY: by the points at the top of this module, it is a function of the types of the entry.
        // All pointers to functions have one size.
        let function = unsafe { std::mem::transmute::<*const (), fn()>(function) };
        let mut enter: Option<Enter<X>> = None;
        opener(&mut enter);
        let Some(enter) = enter else {
            return Err(UnknownCode(format!(
                "the call was named with a trampoline for another context than {}; name it with one for that",
                type_name::<X>()
            )));
        };
        Ok(ResolvedCall { enter, function })
    }
}

/// Calls that this process has named, or has checked.
mod known {
    use std::cell::Cell;
    use std::collections::BTreeSet;

    use super::NamedCall;
    use crate::fork::Own;
    use crate::sync::Mutex;

    /// A forked child begins anew: another thread may have held the lock.
    static KNOWN: Own<Mutex<BTreeSet<NamedCall>>> = Own::from_start(none(), none);

    const fn none() -> Mutex<BTreeSet<NamedCall>> {
        Mutex::new(BTreeSet::new())
    }

    thread_local! {
        /// The one that this thread has met last: most often it is that again.
        static LAST: Cell<Option<NamedCall>> = const { Cell::new(None) };
    }

    fn is_last(call: NamedCall) -> bool {
        LAST.try_with(|last| last.get() == Some(call)).unwrap_or(false)
    }

    pub(super) fn add(call: NamedCall) {
        if !is_last(call) {
            KNOWN.lock().insert(call);
            let _ = LAST.try_with(|last| last.set(Some(call))); // at the end of a thread it is gone
        }
    }

    pub(super) fn has(call: NamedCall) -> bool {
        is_last(call) || KNOWN.lock().contains(&call)
    }
}

/// A [`NamedCall`] in the process that is to make it.
pub(crate) struct ResolvedCall<X> {
    enter: Enter<X>,
    /// A `fn(A) -> R`, with the `A` and `R` of `enter`.
    function: fn(),
}

impl<X> ResolvedCall<X> {
    /// Has the trampoline call the function.
    pub(crate) fn call(&self, context: &mut X) {
        // SAFETY: `name` has named the two together, with the same types.
        unsafe { (self.enter)(self.function, context) }
    }
}

/// The type of all instances of [`open`].
type Opener = fn(&mut dyn Any);

/// The type of the instances of [`enter`] whose context is an `X`.
type Enter<X> = unsafe fn(fn(), &mut X);

/// A constant that leads to an instance of [`open`], one for each that the program has. It can be
/// told from all else among the program's constants: nothing else begins with these bits and goes on
/// with the address of [`HOME`].
#[repr(C)]
struct Entry {
    mark: [usize; 2],
    /// Another copy of this crate in the program has entries of its own.
    home: &'static Words,
    opener: Opener,
}

/// An entry, word by word.
type Words = [usize; 4];

const _: () = assert!(size_of::<Entry>() == size_of::<Words>());

/// By chance.
const MARK: [usize; 2] = [0x5d3c_94e1_a27f_0b86_u64 as usize, 0xc1f0_672b_e849_3ad5_u64 as usize];

/// Of this copy of the crate.
static HOME: Words = [0; 4];

struct EntryFor<T, A, R>(std::marker::PhantomData<(T, A, R)>);

impl<T: Trampoline<A, R>, A, R> EntryFor<T, A, R> {
    const ENTRY: &'static Entry = &Entry { mark: MARK, home: &HOME, opener: open::<T, A, R> };
}

/// Puts the code for the types into the slot, an `Option<Enter<X>>`, if it works on an `X`.
fn open<T: Trampoline<A, R>, A, R>(slot: &mut dyn Any) {
    if let Some(slot) = slot.downcast_mut::<Option<Enter<T::Context>>>() {
        *slot = Some(enter::<T, A, R>);
    }
}

/// Gives a function its type back.
///
/// # Safety
///
/// `function` is a `fn(A) -> R`.
unsafe fn enter<T: Trampoline<A, R>, A, R>(function: fn(), context: &mut T::Context) {
    // SAFETY: it is one, says the caller.
    let function = unsafe { std::mem::transmute::<fn(), fn(A) -> R>(function) };
    T::call(function, context);
}

/// Where something is: in which image, and how far from its base.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
struct Reference {
    image: u64,
    offset: u64,
}

/// What of an image something is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Code,
    /// What nothing writes to once the image is loaded. An [`Entry`] is here.
    Constants,
}

impl Reference {
    fn of(address: *const (), part: Part) -> Result<Self, UnknownCode> {
        images::refer_to(address.expose_provenance(), part)
    }

    fn resolve(self, part: Part) -> Result<*const (), UnknownCode> {
        images::address_of(self, part).map(std::ptr::with_exposed_provenance)
    }

    /// The opener of the entry that is here.
    fn entry(self) -> Result<Opener, UnknownCode> {
        let [first, second, home, opener] = images::constants(self)?;
        if [first, second] != MARK || home != std::ptr::from_ref(&HOME).addr() {
            return Err(UnknownCode(format!(
                "at the offset {:#x} of its image there is no entry for a call; the function's name was damaged on its way, or never was one",
                self.offset
            )));
        }
        let opener = std::ptr::with_exposed_provenance::<()>(opener);
        // SAFETY: these are the words of an `Entry`, as the mark and the address say, and so this one
        // is an `Opener`.
        Ok(unsafe { std::mem::transmute::<*const (), Opener>(opener) })
    }
}

/// Identifies the program that this process runs, in this build.
pub(crate) fn program_digest() -> Result<u64, UnknownCode> {
    images::program_digest()
}

/// Names this copy of the crate, of which the program may have several, even of one version: by where
/// it is. The name is the same in all processes that run the program's file.
pub(crate) fn copy_name() -> Result<String, UnknownCode> {
    images::name_of(std::ptr::from_ref(&HOME).addr())
}

/// The kernel's link to the file that was executed, which need not be the program: see
/// [`ProgramFile`].
#[cfg(target_os = "linux")]
pub(crate) const EXECUTED: &str = "/proc/self/exe";

/// How to execute the program that this process runs once more.
#[cfg(target_os = "linux")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ProgramFile {
    /// By [`EXECUTED`], which leads to the program's file even if that was replaced or deleted.
    Executed,
    /// By the path of the program's file. What was executed is another program that runs this one,
    /// as memory checkers do.
    At(std::path::PathBuf),
    /// By [`EXECUTED`], with this path behind its options: it leads to the dynamic loader.
    ByLoader(std::path::PathBuf),
}

/// Finds the program's file. The error names the file that was executed and the program's own, if
/// neither leads to the program.
#[cfg(target_os = "linux")]
pub(crate) fn program_file() -> std::io::Result<ProgramFile> {
    images::program_file()
}

/// A function has no name, or this process has no function of that name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UnknownCode(String);

/// What of the process is where.
#[cfg(target_os = "linux")]
mod images {
    use std::ffi::{CStr, OsStr, c_int, c_void};
    use std::fs::{self, Metadata};
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::io;
    use std::ops::Range;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;

    use libc::dl_phdr_info;

    use super::{Checked, EXECUTED, Part, ProgramFile, Reference, UnknownCode, Words};
    use crate::fork::Own;
    use crate::sync::{Mutex, MutexGuard};

    pub(super) fn refer_to(address: usize, part: Part) -> Result<Reference, UnknownCode> {
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

    /// Whether this process has the image.
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
        // A library may be unloaded meanwhile.
        let words = in_loaded(base, |info| {
            let image = Image::read(info, Path::new(""));
            image.has(Part::Constants, words).then(|| {
                // SAFETY: as for the program's words, all of them are in the constants, in which
                // nothing writes. The library is not unloaded during the walk.
                unsafe { std::ptr::with_exposed_provenance::<Words>(words).read() }
            })
        });
        words.flatten().ok_or_else(|| no_image(reference))
    }

    /// Whether a function begins there: an error, if not.
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

    pub(super) fn program_file() -> io::Result<ProgramFile> {
        /// The file that was found to be both. While it is mapped, no other one gets its number.
        static EXECUTED_AND_MAPPED: OnceLock<(u64, u64)> = OnceLock::new();
        let executed = fs::metadata(EXECUTED)?;
        if EXECUTED_AND_MAPPED.get() == Some(&number_of(&executed)) {
            return Ok(ProgramFile::Executed);
        }
        let maps = Maps::read()?;
        // Code that is no file's was put there by the program itself, as packers do.
        let Some(program) = program().and_then(|program| maps.at(program.start())) else {
            return Ok(ProgramFile::Executed);
        };
        let at_path = fs::metadata(program.path).ok();
        if at_path.is_some_and(|file| number_of(&file) == number_of(&executed)) {
            let _ = EXECUTED_AND_MAPPED.set(number_of(&executed));
            return Ok(ProgramFile::Executed);
        }
        // The device that `maps` names is not always the one that `stat` names, so it has to be
        // the same file at the same path; where that is gone, the number has to do.
        if !program.is_at(program.path) {
            if program.is_at(Path::new(EXECUTED)) {
                return Ok(ProgramFile::Executed);
            }
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "the program can't be started once more: {EXECUTED} leads to {}, which is another program, and {} is not the file that this process has loaded; leave the program's file where it is, or start the program without the other one",
                    maps.name_of(&executed),
                    program.path.display()
                ),
            ));
        }
        let path = program.path.to_owned();
        let is_executed = |image: &Image| {
            maps.at(image.start()).is_some_and(|file| file.is_at(Path::new(EXECUTED)))
        };
        // The loader is among the images; a program that runs this one by itself is not.
        Ok(match libraries().images.iter().any(is_executed) {
            true => ProgramFile::ByLoader(path),
            false => ProgramFile::At(path),
        })
    }

    /// On this machine.
    fn number_of(file: &Metadata) -> (u64, u64) {
        (file.dev(), file.ino())
    }

    /// The program's own image, where almost every function is. It stays where it is.
    fn program() -> Option<&'static Image> {
        static PROGRAM: OnceLock<Option<Image>> = OnceLock::new();
        // Read before the cell is locked: see `libraries`.
        let program = PROGRAM.get().unwrap_or_else(|| {
            let read = read_images().0;
            PROGRAM.get_or_init(|| read)
        });
        program.as_ref()
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
        *known = read;
        known
    }

    struct Libraries {
        /// As of which state of the process.
        generation: Option<Generation>,
        /// In the order of their addresses.
        images: Vec<Image>,
    }

    impl Libraries {
        fn at(&self, part: Part, address: usize) -> Option<&Image> {
            let after = self.images.partition_point(|image| image.start() <= address);
            self.images[..after].last().filter(|image| image.has(part, address))
        }
    }

    /// How many images were loaded so far, and how many were unloaded. An address may belong to
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
            if image.digest.is_none() {
                image.digest = mapped_file(image.start(), &image.file).map(digest);
            }
        }
        (program, libraries)
    }

    /// A file that is mapped into this process.
    struct Image {
        file: PathBuf,
        /// What its offsets are counted from.
        base: usize,
        /// Its lowest address.
        start: usize,
        /// Its executable segments.
        code: Vec<Range<usize>>,
        /// What it can't write to, once it is loaded.
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

    /// The build id among the notes of a segment, which are laid out as `elf(5)` says.
    fn build_id(notes: &[u8], align: usize) -> Option<&[u8]> {
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

    /// Identifies the file that is mapped at `address`, if it still is the one at `path`. As long
    /// as it is mapped, no other file gets its number.
    fn mapped_file(address: usize, path: &Path) -> Option<impl Hash + use<>> {
        let maps = Maps::read().ok()?;
        let file = maps.at(address)?.metadata(path)?;
        Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
    }

    /// The files that are mapped into this process: `proc_pid_maps(5)`.
    struct Maps(Vec<u8>);

    /// One of them.
    struct MappedFile<'a> {
        range: Range<usize>,
        inode: u64,
        /// Where the file is, or was.
        path: &'a Path,
    }

    impl Maps {
        fn read() -> io::Result<Self> {
            fs::read("/proc/self/maps").map(Self)
        }

        fn files(&self) -> impl Iterator<Item = MappedFile<'_>> {
            self.0.split(|byte| *byte == b'\n').filter_map(MappedFile::parse)
        }

        fn at(&self, address: usize) -> Option<MappedFile<'_>> {
            self.files().find(|file| file.range.contains(&address))
        }

        /// The name of what was executed. The link itself may be made up by what runs this program.
        fn name_of(&self, executed: &Metadata) -> String {
            let mapped = self.files().find(|file| file.inode == executed.ino());
            let link = || fs::read_link(EXECUTED).unwrap_or_else(|_| EXECUTED.into());
            mapped.map_or_else(link, |file| file.path.to_owned()).display().to_string()
        }
    }

    impl<'a> MappedFile<'a> {
        /// Whether the file at `path` has this file's number.
        fn is_at(&self, path: &Path) -> bool {
            self.metadata(path).is_some()
        }

        /// Of the file at `path`, if that is this one.
        fn metadata(&self, path: &Path) -> Option<Metadata> {
            fs::metadata(path).ok().filter(|file| file.ino() == self.inode)
        }

        /// From a line, `start-end permissions offset device inode path`. `None`: it is not of a
        /// file.
        fn parse(line: &'a [u8]) -> Option<Self> {
            let mut fields = line.splitn(6, |byte| *byte == b' ');
            let mut field = || std::str::from_utf8(fields.next()?).ok();
            let (start, end) = field()?.split_once('-')?;
            let address = |text| usize::from_str_radix(text, 16).ok();
            let (_permissions, _offset, _device) = (field()?, field()?, field()?);
            let inode = field()?.parse().ok().filter(|inode| *inode != 0)?;
            let path = fields.next()?.trim_ascii_start();
            Some(Self {
                range: address(start)?..address(end)?,
                inode,
                path: Path::new(OsStr::from_bytes(path)),
            })
        }
    }

    // ---- What the C library tells of an image ----

    #[cfg(target_pointer_width = "64")]
    type Header = libc::Elf64_Phdr;
    #[cfg(target_pointer_width = "32")]
    type Header = libc::Elf32_Phdr;

    /// Shows each image to `see`, until that says `false`. None is unloaded meanwhile.
    fn walk<F: FnMut(&dl_phdr_info) -> bool>(mut see: F) {
        unsafe extern "C" fn visit<F: FnMut(&dl_phdr_info) -> bool>(
            info: *mut dl_phdr_info,
            _size: usize,
            see: *mut c_void,
        ) -> c_int {
            // SAFETY: the first is lent for this call; the second is the `see` below, which
            // nothing else uses during the walk.
            let (info, see) = unsafe { (&*info, &mut *see.cast::<F>()) };
            c_int::from(!see(info))
        }

        let see: *mut F = &raw mut see;
        // SAFETY: `visit` gets what it expects, and `see` outlives the walk. A panic, if there
        // were one, would end the process where it leaves `visit`.
        unsafe { libc::dl_iterate_phdr(Some(visit::<F>), see.cast()) };
    }

    /// Shows the image with that base to `see`. It is not unloaded meanwhile.
    fn in_loaded<R>(base: usize, see: impl FnOnce(&dl_phdr_info) -> R) -> Option<R> {
        let (mut see, mut seen) = (Some(see), None);
        walk(|info| {
            if info.dlpi_addr as usize == base && !headers(info).is_empty() {
                seen = see.take().map(|see| see(info));
            }
            see.is_some()
        });
        seen
    }

    fn path(info: &dl_phdr_info) -> &Path {
        if info.dlpi_name.is_null() {
            return Path::new("");
        }
        // SAFETY: a C string, which lives as long as the image.
        let name = unsafe { CStr::from_ptr(info.dlpi_name) };
        Path::new(OsStr::from_bytes(name.to_bytes()))
    }

    fn headers(info: &dl_phdr_info) -> &[Header] {
        if info.dlpi_phdr.is_null() {
            return &[];
        }
        // SAFETY: so many of them are there, and live as long as the image.
        unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) }
    }

    fn is_loaded(header: &Header, permission: u32) -> bool {
        header.p_type == libc::PT_LOAD && header.p_flags & permission != 0
    }

    fn range(info: &dl_phdr_info, header: &Header) -> Range<usize> {
        let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
        start..start.wrapping_add(header.p_memsz as usize)
    }

    /// The part of a segment that comes from the file.
    fn in_file(info: &dl_phdr_info, header: &Header) -> Range<usize> {
        let Range { start, .. } = range(info, header);
        // The segment that is protected once it is loaded has no more in the file than in memory.
        let length = header.p_filesz.min(header.p_memsz);
        start..start.wrapping_add(length as usize)
    }

    // ---- Where functions begin ----

    /// The linker's table of all functions, sorted by their addresses, which is there for unwinding:
    /// `.eh_frame_hdr` of the Linux Standard Base.
    struct Unwinding<'a> {
        /// What its numbers are counted from.
        start: usize,
        /// Where each function begins, and where its record is.
        table: &'a [u8],
        /// The memory that has the records.
        segments: Vec<(usize, &'a [u8])>,
    }

    fn unwinding(info: &dl_phdr_info) -> Option<Unwinding<'_>> {
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
        fn find(&self, address: usize) -> Option<Range<usize>> {
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

        fn number(&self, address: usize) -> Option<[u8; 4]> {
            self.segments.iter().find_map(|(start, bytes)| {
                bytes.get(address.checked_sub(*start)?..)?.first_chunk().copied()
            })
        }
    }

    fn relative(from: usize, number: [u8; 4]) -> usize {
        from.wrapping_add_signed(i32::from_ne_bytes(number) as isize)
    }

    /// The contents of a segment, if it is in memory: it need not be, unless it is part of one
    /// that is to be loaded.
    fn contents<'a>(info: &'a dl_phdr_info, header: &Header) -> Option<&'a [u8]> {
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

        /// What stands in for the build id of an image that has none.
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
            for line in ["", "7f00-8f00", "7f00-8f00 rw-p 00000000 00:00 0", "x-y r-xp 0 0:0 1 /a"]
            {
                assert_eq!(parse(line), None);
            }
            assert_eq!(parse("7f00-8f00 rw-p 00000000 00:00 0                  [heap]"), None);
        }

        fn image(file: &str, code: &[Range<usize>]) -> Image {
            let start = code.first().map_or(0, |code| code.start);
            let constants = Vec::new();
            Image {
                file: file.into(),
                base: 0,
                start,
                code: code.to_vec(),
                constants,
                digest: None,
            }
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
}

/// Elsewhere no function has a name.
#[cfg(not(target_os = "linux"))]
mod images {
    use super::{Checked, Part, Reference, UnknownCode, Words};

    fn not_supported<T>() -> Result<T, UnknownCode> {
        Err(UnknownCode("to call a function in another process is not supported here".to_owned()))
    }

    pub(super) fn refer_to(_: usize, _: Part) -> Result<Reference, UnknownCode> {
        not_supported()
    }

    pub(super) fn address_of(_: Reference, _: Part) -> Result<usize, UnknownCode> {
        not_supported()
    }

    pub(super) fn has_image(_: Reference) -> bool {
        false
    }

    pub(super) fn constants(_: Reference) -> Result<Words, UnknownCode> {
        not_supported()
    }

    pub(super) fn check_beginning(_: Reference) -> Result<Checked, UnknownCode> {
        not_supported()
    }

    pub(super) fn name_of(_: usize) -> Result<String, UnknownCode> {
        not_supported()
    }

    pub(super) fn program_digest() -> Result<u64, UnknownCode> {
        not_supported()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fmt::Display;
    use std::ops::Add;
    use std::process::Command;
    use std::str::FromStr;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use super::*;

    /// Takes the argument from a text and leaves the result as one.
    struct Text;

    impl<A: FromStr, R: Display> Trampoline<A, R> for Text {
        type Context = String;

        fn call(function: fn(A) -> R, context: &mut String) {
            let Ok(argument) = context.parse() else { panic!("not an argument: {context}") };
            *context = function(argument).to_string();
        }
    }

    fn named<A: FromStr, R: Display>(function: fn(A) -> R) -> NamedCall {
        name::<Text, A, R>(function).unwrap()
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
            assert_eq!(
                Reference::of(address, Part::Code).unwrap().resolve(Part::Code),
                Ok(address)
            );
        }
    }

    /// Also of what is in a shared library, as `getpid` is.
    #[test]
    fn references_and_digests_are_the_same_in_all_processes() {
        fn tell(_: String) -> String {
            format!(
                "{:?} {:?}",
                program_digest(),
                addresses().map(|it| Reference::of(it, Part::Code))
            )
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
        for address in addresses() {
            let function = Reference::of(address, Part::Code).unwrap();
            assert_eq!(images::check_beginning(function), Ok(Checked::Known));
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
}
