//! Panics of user code: caught, described, and kept from spreading.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::task::Waker;

use crate::sync::Mutex;

/// A panic that was caught: its message, where it happened, and the payload.
///
/// The location is known as long as nobody replaces the panic hook that the crate installs in
/// front of the existing one when the first executor is created.
///
/// Dropping a `Panicked` whose payload panics when dropped is harmless: that second panic is
/// reported by the panic hook and ends there.
pub struct Panicked {
    message: String,
    location: Option<PanicLocation>,
    payload: Payload,
}

impl Panicked {
    pub(crate) fn new(payload: Box<dyn Any + Send>, location: Option<PanicLocation>) -> Self {
        let message = text_of(&*payload);
        Self { message, location, payload: Payload(Mutex::new(Some(payload))) }
    }

    /// The text given to `panic!`.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where `panic!` was called, if the panic hook was there to see it.
    pub fn location(&self) -> Option<&PanicLocation> {
        self.location.as_ref()
    }

    /// The payload, for [`resume_unwind`](std::panic::resume_unwind) or a downcast.
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        let payload = self.payload.0.lock().take();
        payload.unwrap_or_else(|| Box::new(()))
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the job panicked")?;
        if let Some(location) = &self.location {
            write!(f, " at {location}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl fmt::Debug for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panicked")
            .field("message", &self.message)
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Panicked {}

fn text_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "the panic's payload is not a text".to_owned()
    }
}

/// A lock around the payload makes the error `Sync`; the drop keeps a payload that panics when
/// dropped (rust-lang/rust#86027) from unwinding into whoever drops the error.
struct Payload(Mutex<Option<Box<dyn Any + Send>>>);

impl Drop for Payload {
    fn drop(&mut self) {
        let payload = self.0.lock().take();
        drop_quietly(payload);
    }
}

/// Runs code of the user's whose value nobody wants. A panic is reported by the panic hook and ends
/// here.
#[inline]
pub(crate) fn quietly(f: impl FnOnce()) {
    // What the closure captures is not looked at again after a panic, only dropped.
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(f)) {
        drop_payload(payload);
    }
}

/// Drops the payload of a panic. If that panics as well, the payload of the second panic is leaked:
/// it may panic in its own drop, and so on.
#[cold]
pub(crate) fn drop_payload(payload: Box<dyn Any + Send>) {
    let dropped = panic::catch_unwind(AssertUnwindSafe(move || drop(payload)));
    if let Err(second) = dropped {
        std::mem::forget(second);
    }
}

/// Drops a value of the user's, [`quietly`]. One value at a time: two destructors that panic under
/// one guard abort the process.
#[inline(never)] // so that what may have to drop a value is as small as it is without a guard
pub(crate) fn drop_quietly<T>(value: T) {
    quietly(move || drop(value));
}

/// A waker that is kept to be woken. It is cloned on the thread that polls, outside of every lock;
/// it is woken and dropped [`quietly`], wherever that happens.
pub(crate) struct KeptWaker(Quiet<Waker>);

impl KeptWaker {
    pub(crate) fn new(waker: &Waker) -> Self {
        Self(Quiet::new(waker.clone()))
    }

    pub(crate) fn will_wake(&self, waker: &Waker) -> bool {
        self.0.will_wake(waker)
    }

    #[inline]
    pub(crate) fn wake(self) {
        let waker = self.0.into_inner();
        quietly(|| waker.wake());
    }

    pub(crate) fn wake_by_ref(&self) {
        quietly(|| self.0.wake_by_ref());
    }
}

/// Wakes them all, also if some wakers panic.
pub(crate) fn wake_all(wakers: Vec<KeptWaker>) {
    wakers.into_iter().for_each(KeptWaker::wake);
}

/// A value of the user's that lives inside of ours and is dropped with [`drop_quietly`].
#[derive(Clone)]
pub(crate) struct Quiet<T>(Option<T>);

impl<T> Quiet<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    #[inline]
    fn into_inner(mut self) -> T {
        match self.0.take() {
            Some(value) => value,
            None => unreachable!("only the drop takes the value"),
        }
    }
}

impl<T> std::ops::Deref for Quiet<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => unreachable!("only the drop takes the value"),
        }
    }
}

impl<T> Drop for Quiet<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            drop_quietly(value);
        }
    }
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PanicLocation {
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl PanicLocation {
    /// The file, as the compiler was given it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, counted from 1.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The column, counted from 1.
    pub fn column(&self) -> u32 {
        self.column
    }
}

impl fmt::Display for PanicLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

thread_local! {
    /// Where the last panic of this thread was raised; valid while `SEEN` is set.
    static LOCATION: RefCell<Option<(PanicLocation, String)>> = const { RefCell::new(None) };
    /// Set by the hook, cleared when a job starts. Apart from `LOCATION` because a `Cell<bool>`
    /// needs no destructor and is cheap to clear for every job.
    static SEEN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`, turning a panic into its description.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Panicked> {
    SEEN.set(false);
    // The closure's captures are not looked at again after a panic, only dropped.
    panic::catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        // `resume_unwind` runs no hook, so there is a location only if one was seen.
        let location = SEEN.take().then(|| LOCATION.take()).flatten();
        // The last panic that was seen need not be this one: user code catches panics as well.
        let text = text_of(&*payload);
        let location = location.filter(|(_, seen)| *seen == text).map(|(location, _)| location);
        Panicked::new(payload, location)
    })
}

/// Puts a hook in front of the current panic hook, once per process, that notes where a panic
/// was raised; `catch_unwind` alone does not tell. The earlier hook still reports the panic.
pub(crate) fn install_hook() {
    static INSTALL: Once = Once::new();
    // Setting the hook while panicking would abort; a later executor will get to it.
    if std::thread::panicking() {
        return;
    }
    INSTALL.call_once(|| {
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let location = info.location().map(|at| {
                let at = PanicLocation {
                    file: at.file().to_owned(),
                    line: at.line(),
                    column: at.column(),
                };
                (at, text_of(info.payload()))
            });
            // A thread that is ending may have lost its storage; then there is nobody to tell.
            let noted = LOCATION.try_with(|cell| cell.try_borrow_mut().map(|mut l| *l = location));
            if matches!(noted, Ok(Ok(()))) {
                SEEN.set(true);
            }
            earlier(info);
        }));
    });
}
