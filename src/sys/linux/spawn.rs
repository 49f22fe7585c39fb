//! Starting a process that has of this one what it is given, and nothing else.
//!
//! What another thread opens meanwhile is not let through either, so no list of what is open here would
//! do: the new process closes all but its standard streams, before it executes the program. Where the C
//! library can't be told to (before glibc 2.34, and musl), that takes code of this crate between `fork`
//! and `exec`, and so a copy of this process's memory map.

use std::ffi::{CString, OsStr, OsString, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null_mut;

use libc::{posix_spawn_file_actions_t, posix_spawnattr_t, sigset_t};
use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, pipe_with};

use super::descriptors::{self, FIRST};
use super::{process, signals};

/// A process to start. No signal is blocked or ignored there, and its process group is its own.
pub(crate) struct Spawn<'a> {
    pub(crate) program: &'a Path,
    /// The first one is what the program is called.
    pub(crate) arguments: &'a [OsString],
    pub(crate) environment: &'a [(OsString, OsString)],
    /// Default: that of this process.
    pub(crate) directory: Option<BorrowedFd<'a>>,
    /// Stdin, stdout and stderr. None of these descriptors is itself one of the three here.
    pub(crate) standard: [BorrowedFd<'a>; 3],
}

/// A function that adds an action on a descriptor to a list.
type Add = unsafe extern "C" fn(*mut posix_spawn_file_actions_t, c_int) -> c_int;

/// Functions that not every C library has.
pub(crate) struct Extensions {
    change_directory: Add,
    close_from: Add,
}

impl Extensions {
    #[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
    pub(crate) fn find() -> Option<Self> {
        let find = |name: &std::ffi::CStr| {
            // SAFETY: the name is a string, and the library has no other function of these names than
            // those that are documented to take a list and a descriptor.
            unsafe {
                let found = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
                std::mem::transmute::<*mut libc::c_void, Option<Add>>(found)
            }
        };
        Some(Self {
            change_directory: find(c"posix_spawn_file_actions_addfchdir_np")?,
            close_from: find(c"posix_spawn_file_actions_addclosefrom_np")?,
        })
    }

    #[cfg(not(all(target_env = "gnu", not(target_feature = "crt-static"))))]
    pub(crate) fn find() -> Option<Self> {
        None
    }
}

impl Spawn<'_> {
    /// Starts it and returns its number.
    pub(crate) fn start(&self) -> io::Result<u32> {
        match Extensions::find() {
            Some(extensions) => self.by_library(&extensions),
            None => self.by_fork(),
        }
    }

    /// Starts it by `posix_spawn`, without a copy of this process's memory map.
    pub(crate) fn by_library(&self, extensions: &Extensions) -> io::Result<u32> {
        let texts = Texts::of(self)?;
        let mut place = MaybeUninit::uninit();
        let mut actions = Actions::new(&mut place)?;
        let list = actions.list();
        let mut place = MaybeUninit::uninit();
        let attributes = Attributes::new(&mut place)?;
        let mut pid = 0;
        // SAFETY: the lists are initialised, the texts end with a NUL and the arrays of pointers to
        // them with null, and all of them stay until the call has returned.
        unsafe {
            for (number, fd) in (0..).zip(self.standard) {
                let fd = fd.as_raw_fd();
                checked(libc::posix_spawn_file_actions_adddup2(list, fd, number))?;
            }
            if let Some(directory) = self.directory {
                checked((extensions.change_directory)(list, directory.as_raw_fd()))?;
            }
            checked((extensions.close_from)(list, FIRST))?;
            checked(libc::posix_spawn(
                &mut pid,
                texts.program.as_ptr(),
                list,
                attributes.0.as_ptr(),
                pointers(&texts.arguments).as_ptr(),
                pointers(&texts.environment).as_ptr(),
            ))?;
        }
        Ok(pid.unsigned_abs())
    }

    /// Starts it by `fork` and `exec`, as can be done on every system. The standard library's way, a
    /// `Command`, would hear of errors through a descriptor that has the number of a standard stream
    /// if one is closed, and take what this program prints for an error.
    pub(crate) fn by_fork(&self) -> io::Result<u32> {
        let texts = Texts::of(self)?;
        let (arguments, environment) = (pointers(&texts.arguments), pointers(&texts.environment));
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map(<[OwnedFd; 2]>::from);
        let [failed, fails] = descriptors::above_standard(pipe)?;
        // SAFETY: the copy makes system calls only, on what was prepared here, until it executes the
        // program or ends.
        let pid = unsafe { libc::fork() };
        answered(pid)?;
        if pid == 0 {
            let set_up = self.set_up();
            // SAFETY: the texts end with a NUL and the arrays of pointers to them with null. What is
            // written is the code, and the copy ends without a look at what belongs to this process.
            unsafe {
                if set_up.is_ok() {
                    libc::execve(
                        texts.program.as_ptr(),
                        arguments.as_ptr().cast(),
                        environment.as_ptr().cast(),
                    );
                }
                let error = set_up.err().unwrap_or_else(io::Error::last_os_error);
                let code = error.raw_os_error().unwrap_or(0);
                libc::write(fails.as_raw_fd(), (&raw const code).cast(), size_of_val(&code));
                libc::_exit(127)
            }
        }
        drop(fails);
        let mut code = [0; size_of::<c_int>()];
        if retry_on_intr(|| rustix::io::read(&failed, &mut code))? == 0 {
            return Ok(pid.unsigned_abs()); // the program was executed, which has closed the other end
        }
        // The reason counts, also where the program has its children reaped by others.
        let _ = process::wait(pid.unsigned_abs());
        Err(io::Error::from_raw_os_error(c_int::from_ne_bytes(code)))
    }

    /// Makes a copy of this process ready to execute the program, by system calls only.
    fn set_up(&self) -> io::Result<()> {
        // SAFETY: nothing in the copy owns what bears the numbers of the standard streams. The other
        // descriptors are open there as they are here, where they are borrowed.
        unsafe {
            answered(libc::setpgid(0, 0))?;
            for (number, fd) in (0..).zip(self.standard) {
                answered(libc::dup2(fd.as_raw_fd(), number))?;
            }
            if let Some(directory) = self.directory {
                answered(libc::fchdir(directory.as_raw_fd()))?;
            }
        }
        signals::forget()?;
        descriptors::close_on_exec()
    }
}

/// Arguments and environment of a program, as C has them.
struct Texts {
    program: CString,
    arguments: Vec<CString>,
    /// Lines `NAME=value`.
    environment: Vec<CString>,
}

impl Texts {
    fn of(spawn: &Spawn<'_>) -> io::Result<Self> {
        let line = |(name, value): &(OsString, OsString)| {
            text(&[name.as_os_str(), value].join(OsStr::new("=")))
        };
        Ok(Self {
            program: text(spawn.program.as_os_str())?,
            arguments: spawn.arguments.iter().map(|it| text(it)).collect::<io::Result<_>>()?,
            environment: spawn.environment.iter().map(line).collect::<io::Result<_>>()?,
        })
    }
}

fn text(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| {
        let text = format!("{text:?} has a NUL byte");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

fn pointers(texts: &[CString]) -> Vec<*mut c_char> {
    texts.iter().map(|text| text.as_ptr().cast_mut()).chain([null_mut()]).collect()
}

/// Turns the answer of a function that returns an error's number into a result.
fn checked(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

fn answered(answer: RawFd) -> io::Result<()> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A list of actions on descriptors that is initialised.
struct Actions<'a>(&'a mut MaybeUninit<posix_spawn_file_actions_t>);

impl<'a> Actions<'a> {
    fn new(place: &'a mut MaybeUninit<posix_spawn_file_actions_t>) -> io::Result<Self> {
        // SAFETY: the place is valid, and is what the call makes a list of.
        checked(unsafe { libc::posix_spawn_file_actions_init(place.as_mut_ptr()) })?;
        Ok(Self(place))
    }

    fn list(&mut self) -> *mut posix_spawn_file_actions_t {
        self.0.as_mut_ptr()
    }
}

impl Drop for Actions<'_> {
    fn drop(&mut self) {
        // SAFETY: `new` has initialised the list.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}

/// Attributes of the new process that are initialised.
struct Attributes<'a>(&'a mut MaybeUninit<posix_spawnattr_t>);

impl<'a> Attributes<'a> {
    /// A process group of its own, and no signal blocked or ignored.
    fn new(place: &'a mut MaybeUninit<posix_spawnattr_t>) -> io::Result<Self> {
        let flags = libc::POSIX_SPAWN_SETPGROUP
            | libc::POSIX_SPAWN_SETSIGMASK
            | libc::POSIX_SPAWN_SETSIGDEF;
        // SAFETY: the places are valid, and the first call makes attributes of `place`.
        unsafe {
            checked(libc::posix_spawnattr_init(place.as_mut_ptr()))?;
            let this = Self(place);
            let at = this.0.as_mut_ptr();
            let mut signals = MaybeUninit::<sigset_t>::uninit();
            libc::sigemptyset(signals.as_mut_ptr());
            checked(libc::posix_spawnattr_setsigmask(at, signals.as_ptr()))?;
            libc::sigfillset(signals.as_mut_ptr());
            checked(libc::posix_spawnattr_setsigdefault(at, signals.as_ptr()))?;
            checked(libc::posix_spawnattr_setpgroup(at, 0))?;
            checked(libc::posix_spawnattr_setflags(at, flags as libc::c_short))?;
            Ok(this)
        }
    }
}

impl Drop for Attributes<'_> {
    fn drop(&mut self) {
        // SAFETY: `new` has initialised them.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}
