//! Handles: values that refer to something of the system's by descriptors, which go beside the body. For both
//! ends.
//!
//! A handle meets its serialiser through serde, as a buffer does (see [`segment`](super::segment)): it leaves
//! its descriptors in a thread-local, and presents itself as a newtype struct of the name [`HANDLE`]. The codec
//! knows the name, takes them, and writes their numbers before the handle's own value. No other serialiser can
//! carry a handle; what is in the newtype struct finds that its descriptors were not taken, and refuses.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock, Weak};

use serde_core::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde_core::ser::{Error as _, Serialize, Serializer};

use super::handover::{Withdraw, put};
use crate::sync::Mutex;
use crate::sys::{AsFd, BorrowedFd, OwnedFd};

/// The name of a handle as a newtype struct. No other type has such a name.
pub(super) const HANDLE: &str = "$concurrent_futures::Handle";

/// A descriptor of a handle, of which duplicates are sent.
pub(crate) type Descriptor = Arc<HandleFd>;

/// Tells files apart that are open at the same time: device and number.
pub(crate) type Identity = (u64, u64);

/// A descriptor, and those who are told when this process has no copy of it any more.
pub(crate) struct HandleFd {
    fd: OwnedFd,
    kept: OnceLock<Kept>,
}

struct Kept {
    identity: Identity,
    watchers: Mutex<Vec<Weak<dyn OnGone>>>,
}

/// A sender of copies of a descriptor.
pub(crate) trait OnGone: Send + Sync {
    /// This process has no copy any more. Called under whatever lock, so it takes none that is held for long.
    fn on_gone(self: Arc<Self>);
}

impl HandleFd {
    /// Has the processes that it is sent to keep what they make of the file, until this one has no copy any more.
    pub(crate) fn keep_as(&self, identity: Identity) {
        self.kept.get_or_init(|| Kept { identity, watchers: Mutex::default() });
    }

    /// Returns the file that processes are to keep something of.
    pub(crate) fn kept_as(&self) -> Option<Identity> {
        self.kept.get().map(|kept| kept.identity)
    }

    /// Has somebody told when this process has no copy any more.
    pub(crate) fn watch(&self, watcher: Weak<dyn OnGone>) {
        let Some(kept) = self.kept.get() else { return };
        let mut watchers = kept.watchers.lock();
        if !watchers.iter().any(|other| Weak::ptr_eq(other, &watcher)) {
            watchers.push(watcher);
        }
    }
}

impl Drop for HandleFd {
    fn drop(&mut self) {
        // Without the lock, which another thread may have had when this process was forked.
        let watchers = self.kept.take().map(|kept| kept.watchers.into_inner());
        let watchers = watchers.into_iter().flatten().filter_map(|watcher| watcher.upgrade());
        watchers.for_each(OnGone::on_gone);
    }
}

impl From<OwnedFd> for HandleFd {
    fn from(fd: OwnedFd) -> Self {
        Self { fd, kept: OnceLock::new() }
    }
}

impl fmt::Debug for HandleFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fd.fmt(f)
    }
}

impl AsFd for HandleFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

thread_local! {
    static OFFERED: Cell<Option<Vec<Descriptor>>> = const { Cell::new(None) };
    static GIVEN: Cell<Option<Given>> = const { Cell::new(None) };
}

/// The descriptors of a handle, and the number of levels that there may be within it.
pub(super) type Given = (Vec<Descriptor>, usize);

/// A handle that has arrived.
pub(crate) struct Carried<V> {
    pub(crate) descriptors: Vec<Descriptor>,
    /// The value that it was sent with.
    pub(crate) value: V,
    /// The number of levels that what it refers to may have, for [`decode_within`](super::decode_within).
    pub(crate) depth: usize,
}

/// Serialises a handle: its descriptors, and a value that says the rest. `what` is the name of its type.
pub(crate) fn serialize<V: Serialize + ?Sized, S: Serializer>(
    what: &str,
    descriptors: Vec<Descriptor>,
    value: &V,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let offer = put(&OFFERED, descriptors);
    let serialized = serializer.serialize_newtype_struct(HANDLE, &Offering { what, value });
    drop(offer);
    serialized
}

/// Deserialises a handle.
pub(crate) fn deserialize<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
    what: &'static str,
    deserializer: D,
) -> Result<Carried<V>, D::Error> {
    deserializer.deserialize_newtype_struct(HANDLE, HandleVisitor { what, value: PhantomData })
}

/// The descriptors of the handle that calls itself [`HANDLE`] right now.
pub(super) fn take_offer() -> Option<Vec<Descriptor>> {
    OFFERED.try_with(Cell::take).ok().flatten()
}

/// Gives descriptors to the handle that is asked to visit a newtype struct next.
pub(super) fn give(given: Given) -> Withdraw<Given> {
    put(&GIVEN, given)
}

/// The value of a handle, whose descriptors were offered.
struct Offering<'a, V: ?Sized> {
    what: &'a str,
    value: &'a V,
}

impl<V: Serialize + ?Sized> Serialize for Offering<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match take_offer() {
            Some(_not_taken) => Err(S::Error::custom(Foreign(self.what))),
            None => self.value.serialize(serializer),
        }
    }
}

struct HandleVisitor<V> {
    what: &'static str,
    value: PhantomData<V>,
}

impl<'de, V: Deserialize<'de>> Visitor<'de> for HandleVisitor<V> {
    type Value = Carried<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {}", self.what)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        let given = GIVEN.try_with(Cell::take).ok().flatten();
        let (descriptors, depth) = given.ok_or_else(|| D::Error::custom(Foreign(self.what)))?;
        Ok(Carried { descriptors, value: V::deserialize(value)?, depth })
    }
}

/// Why a handle can't be carried.
pub(super) struct Foreign<'a>(pub(super) &'a str);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(what) = self;
        write!(
            f,
            "a {what} can only be sent to a process of this program, by an executor or a channel of this crate, \
             and not within an untagged or internally tagged enum or a flattened field"
        )
    }
}
