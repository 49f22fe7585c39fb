//! Panics of user code: caught, described, and kept from spreading.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::task::Waker;

use crate::fork::{self, Own};
use crate::sync::Mutex;

/// A panic that was caught: its message, where it happened, its backtrace, and the payload.
///
/// Location and backtrace are known as long as the program does not replace the panic hook that the crate
/// installs in front of the existing one when the first executor is created.
///
/// Clones share the payload. Dropping a `Panicked` whose payload panics when dropped is harmless: that
/// second panic is reported by the panic hook and ends there.
#[derive(Clone)]
pub struct Panicked {
    message: String,
    raised: Option<Raised>,
    payload: Arc<Payload>,
}

/// The circumstances of a panic.
#[derive(Clone)]
pub(crate) struct Raised {
    pub(crate) location: PanicLocation,
    backtrace: Option<Trace>,
}

/// A backtrace of this process, resolved when it is asked for, or of another one.
#[derive(Clone)]
enum Trace {
    Here(Arc<Backtrace>),
    #[cfg(feature = "process")]
    Text(Arc<str>),
}

impl Raised {
    #[cfg(feature = "process")]
    pub(crate) fn elsewhere(location: PanicLocation, backtrace: Option<String>) -> Self {
        Self { location, backtrace: backtrace.map(|text| Trace::Text(text.into())) }
    }
}

impl Panicked {
    /// Describes a panic with this payload, as [`catch_unwind`](std::panic::catch_unwind) returns it.
    ///
    /// ```
    /// use concurrent_futures::{Error, Panicked};
    ///
    /// let error = Error::from(Panicked::new(Box::new("out of range")));
    /// assert_eq!(error.to_string(), "the job panicked: out of range");
    /// ```
    pub fn new(payload: Box<dyn Any + Send>) -> Self {
        Self::raised(payload, None)
    }

    pub(crate) fn raised(payload: Box<dyn Any + Send>, raised: Option<Raised>) -> Self {
        let message = text_of(&*payload);
        Self { message, raised, payload: Arc::new(Payload(Mutex::new(Some(payload)))) }
    }

    /// The text given to `panic!`.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where `panic!` was called, if the panic hook was there to see it.
    pub fn location(&self) -> Option<&PanicLocation> {
        self.raised.as_ref().map(|raised| &raised.location)
    }

    /// The backtrace of the panic, if one was taken: if the environment asks for it (`RUST_BACKTRACE` or
    /// `RUST_LIB_BACKTRACE`), and the panic hook was there. It travels from worker processes.
    pub fn backtrace(&self) -> Option<String> {
        let trace = self.raised.as_ref()?.backtrace.as_ref()?;
        Some(match trace {
            Trace::Here(backtrace) => backtrace.to_string(),
            #[cfg(feature = "process")]
            Trace::Text(text) => text.to_string(),
        })
    }

    /// The payload, for a downcast. Clones share it: the first call for any of them gets it, the others
    /// get the [`message`](Self::message), as a `String`. So does the first where the panic came from a
    /// worker process, from which a payload of another type does not travel.
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        let payload = self.payload.0.lock().take();
        payload.unwrap_or_else(|| Box::new(self.message))
    }

    /// Takes the payload if it is a `T`.
    ///
    /// # Errors
    ///
    /// This panic as it was, if the payload is of another type, or a clone's
    /// [`into_payload`](Self::into_payload) has taken it.
    pub fn downcast<T: Any>(self) -> Result<Box<T>, Self> {
        let payload = self.payload.0.lock().take_if(|payload| payload.is::<T>());
        payload.and_then(|payload| payload.downcast().ok()).ok_or(self)
    }

    /// Panics with the payload on this thread, without a call of the panic hook: what
    /// [`resume_unwind`](std::panic::resume_unwind) does.
    pub fn resume_unwind(self) -> ! {
        panic::resume_unwind(self.into_payload())
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the job panicked")?;
        if let Some(location) = self.location() {
            write!(f, " at {location}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl fmt::Debug for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panicked")
            .field("message", &self.message)
            .field("location", &self.location())
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Panicked {}

pub(crate) fn text_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "the panic's payload is not a string".to_owned()
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
    /// The last panic of this thread: its circumstances and its text. Valid while `SEEN` is set.
    static RAISED: RefCell<Option<(Raised, String)>> = const { RefCell::new(None) };
    /// Set by the hook, cleared when a job starts. Apart from `RAISED` because a `Cell<bool>`
    /// needs no destructor and is cheap to clear for every job.
    static SEEN: Cell<bool> = const { Cell::new(false) };
}

/// Reports a panic of its thread in place of the earlier hook. `false`: that one is to report it.
pub(crate) type Reporter = fn(&PanicHookInfo<'_>) -> bool;

thread_local! {
    static REPORTER: Cell<Option<Reporter>> = const { Cell::new(None) };
}

/// Has the panics of this thread reported by `reporter` from here on.
pub(crate) fn report_by(reporter: Reporter) {
    REPORTER.set(Some(reporter));
}

/// Runs `f`, turning a panic into its description.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Panicked> {
    SEEN.set(false);
    // The closure's captures are not looked at again after a panic, only dropped.
    panic::catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        // `resume_unwind` runs no hook, so the circumstances are known only if a hook saw them.
        let raised = SEEN.take().then(|| RAISED.take()).flatten();
        // The last panic that was seen need not be this one: user code catches panics as well.
        let text = text_of(&*payload);
        let raised = raised.filter(|(_, seen)| *seen == text).map(|(raised, _)| raised);
        Panicked::raised(payload, raised)
    })
}

/// Puts a hook in front of the current panic hook, once per process, that notes where a panic
/// was raised; `catch_unwind` alone does not tell. The earlier hook still reports the panic.
pub(crate) fn install_hook() {
    static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
    /// Not a `Once`: in a child that is forked while another thread installs it, nobody has the lock.
    static INSTALLING: Own<std::sync::Mutex<()>> =
        Own::from_start(std::sync::Mutex::new(()), std::sync::Mutex::default);
    // Setting the hook while panicking would abort; a later executor will get to it.
    if IS_INSTALLED.load(Acquire) || std::thread::panicking() {
        return;
    }
    fork::watch();
    let _installing = INSTALLING.get().lock();
    if !IS_INSTALLED.load(Relaxed) {
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let raised = info.location().map(|at| {
                let location = PanicLocation {
                    file: at.file().to_owned(),
                    line: at.line(),
                    column: at.column(),
                };
                let backtrace = Backtrace::capture(); // nothing, unless the environment asks for it
                let is_captured = backtrace.status() == BacktraceStatus::Captured;
                let backtrace = is_captured.then(|| Trace::Here(Arc::new(backtrace)));
                (Raised { location, backtrace }, text_of(info.payload()))
            });
            // A thread that is ending may have lost its storage; then there is nobody to tell.
            let noted =
                RAISED.try_with(|cell| cell.try_borrow_mut().map(|mut last| *last = raised));
            if matches!(noted, Ok(Ok(()))) {
                SEEN.set(true);
            }
            let reporter = REPORTER.try_with(Cell::get).ok().flatten();
            if !reporter.is_some_and(|report| report(info)) {
                earlier(info);
            }
        }));
        IS_INSTALLED.store(true, Release);
    }
}
