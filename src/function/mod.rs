//! Names of plain functions, by which another process of the same program can call them.
//!
//! An *image* is the program's file or a shared library's, as it lies in memory. The address of a
//! function differs from process to process, but not how far it is from its image's base. So that
//! offset is the function's name, together with a digest that tells the image from all others and
//! from other builds of itself.
//!
//! To call `f: fn(A) -> R` the other process has to know this type as well. Code does: a
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

#[cfg(target_os = "linux")]
pub(crate) mod images;
#[cfg(not(target_os = "linux"))]
#[path = "images/unsupported.rs"]
mod images;
mod known;
#[cfg(all(test, target_os = "linux"))]
mod tests;

use std::any::{Any, type_name};

/// Code that calls a function of the user's, an `F`, in a worker, written for all types at once.
pub(crate) trait Trampoline<F: Function> {
    /// The place that the argument comes from and the result goes to.
    type Context: 'static;

    /// Takes the argument from the context, calls the function, and leaves its result there.
    fn call(function: F, context: &mut Self::Context);
}

/// A pointer to a function, of a type that calls may have.
pub(crate) trait Function {
    fn address(self) -> *const ();

    /// # Safety
    ///
    /// The function is a `Self`.
    unsafe fn of(function: fn()) -> Self;
}

macro_rules! impl_function {
    ($(<$($type:ident),*> $function:ty;)*) => {$(
        impl<$($type),*> Function for $function {
            fn address(self) -> *const () {
                self as *const ()
            }

            unsafe fn of(function: fn()) -> Self {
                // SAFETY: the pointer was made from a `Self`, as is required, and all pointers to functions
                // are of one size.
                unsafe { std::mem::transmute::<fn(), Self>(function) }
            }
        }
    )*};
}

impl_function! {
    <A, R> fn(A) -> R;
    <C, A, R> fn(&C, A) -> R;
}

/// Names the call of `function` by `T`.
pub(crate) fn name<T, F>(function: F) -> Result<NamedCall, UnknownCode>
where
    T: Trampoline<F>,
    F: Function,
{
    let entry = std::ptr::from_ref(EntryFor::<T, F>::ENTRY);
    let call = NamedCall {
        entry: Reference::of(entry.cast(), Part::Constants)?,
        function: Reference::of(function.address(), Part::Code)?,
    };
    // A worker may send the call back, to have another worker make it: that needs no check.
    known::add(call);
    Ok(call)
}

/// The name of a call: the entry for its types, and the function itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(crate) struct NamedCall {
    entry: Reference,
    function: Reference,
}

/// The result of the check of a call that came over the wire and is not wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Checked {
    /// This process has named it, or a function begins where it says.
    Known,
    /// This process does not have the image, or no table there has such a function.
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

    /// Reads what [`to_bytes`](Self::to_bytes) returned in another process: see the module.
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
        // A library may be loaded in workers only.
        if ![self.entry, self.function].into_iter().all(images::has_image) {
            return Ok(Checked::Unknown);
        }
        // An error here or below means a made-up name; `Unknown` does not.
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

/// A [`NamedCall`] in the process that is to make it.
pub(crate) struct ResolvedCall<X> {
    enter: Enter<X>,
    /// An `F`, that of `enter`.
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

/// Drawn at random.
const MARK: [usize; 2] = [0x5d3c_94e1_a27f_0b86_u64 as usize, 0xc1f0_672b_e849_3ad5_u64 as usize];

/// A static whose address tells this copy of the crate from others in the program. It is as long as
/// an entry, so that `name_of` finds it among the constants.
static HOME: Words = [0; 4];

struct EntryFor<T, F>(std::marker::PhantomData<(T, F)>);

impl<T: Trampoline<F>, F: Function> EntryFor<T, F> {
    // A constant with pointers: the linker puts it where nothing writes once the image is loaded.
    const ENTRY: &'static Entry = &Entry { mark: MARK, home: &HOME, opener: open::<T, F> };
}

/// Puts the code for the types into the slot, an `Option<Enter<X>>`, if it works on an `X`.
fn open<T: Trampoline<F>, F: Function>(slot: &mut dyn Any) {
    if let Some(slot) = slot.downcast_mut::<Option<Enter<T::Context>>>() {
        *slot = Some(enter::<T, F>);
    }
}

/// Gives a function its type back.
///
/// # Safety
///
/// `function` is an `F`.
unsafe fn enter<T: Trampoline<F>, F: Function>(function: fn(), context: &mut T::Context) {
    // SAFETY: `function` is an `F`, which is required here too.
    T::call(unsafe { F::of(function) }, context);
}

/// A place in an image: the image, and the offset from its base.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
struct Reference {
    image: u64,
    offset: u64,
}

/// A part of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Code,
    /// Memory that nothing writes to once the image is loaded. An [`Entry`] is here.
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

/// A way to execute the program that this process runs once more.
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
