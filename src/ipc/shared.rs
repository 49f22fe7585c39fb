//! A value that many processes read. In any process.

use std::any::type_name;
use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde_core::de::{Deserialize, Deserializer, Error as _};
use serde_core::ser::{Serialize, Serializer};

use super::error::Error;
use super::image;
use super::registry::{self, Entry};
use crate::codec;
use crate::codec::handle::{self, Carried, Descriptor, Identity};
use crate::error::{CodecError, CodecSide};
use crate::portable::Portable;
use crate::sys::{self, SealedMemory};

/// A value of any type of serde's that many tasks read, and that is encoded and decoded once.
///
/// [`new`](Self::new) encodes it, into memory that all processes map and none can write to any more. What travels
/// to a worker process is a handle, however large the value is: the worker decodes it with the first task that has
/// a handle, and the tasks behind it find the value there. It is dropped in the worker, between two tasks, when the
/// process of the pool has no handle any more. In one process, which includes the workers of a thread
/// pool, nothing is decoded: a clone is another reference to the value that was given to `new`.
///
/// ```
/// use std::collections::HashMap;
///
/// use concurrent_futures::ipc::Shared;
///
/// fn look_up((table, key): (Shared<HashMap<String, u32>>, String)) -> Option<u32> {
///     table.get(&key).copied()
/// }
///
/// let table = Shared::new(HashMap::from([("one".to_owned(), 1), ("two".to_owned(), 2)]))?;
/// // On a process pool: pool.submit(call!(look_up((table.clone(), key))))
/// assert_eq!(look_up((table.clone(), "two".to_owned())), Some(2));
/// # Ok::<(), concurrent_futures::ipc::Error>(())
/// ```
///
/// # What is in it
///
/// Whatever can be an argument. Each process has a value of its own, so a `Mutex` or an atomic in it is not one for
/// all of them. A [`Buffer`](crate::Buffer) in it is not copied, but is in the shared memory; handles, as a
/// [`SharedSlice`](super::SharedSlice) or another `Shared`, travel with its own, and are there as long as the value
/// is. For an array alone a `SharedSlice` is better, which need not be decoded.
///
/// # How it travels
///
/// As a [`SharedSlice`](super::SharedSlice#how-it-travels): in any value that is sent to a worker process, or back,
/// or on to another worker. If its `Deserialize` fails or panics, the value that it is in can't be decoded, which is
/// the task's [`Codec`](crate::Error::Codec) error; so to read it can't fail. Two threads of a process that are the
/// first to get it at the same time may both decode it, and one of these values is used.
pub struct Shared<T>(Arc<Stored<T>>);

/// The value of one process.
struct Stored<T> {
    value: T,
    /// The descriptor of the memory with the encoded value, and behind it those of the handles in the value.
    descriptors: Vec<Descriptor>,
    _entry: Entry,
}

impl<T: Portable + Sync> Shared<T> {
    /// Encodes the value into shared memory.
    ///
    /// # Errors
    ///
    /// [`Codec`](Error::Codec) if its `Serialize` fails, or the format can't carry it.
    /// [`Io`](Error::Io) if the system refuses the memory or the descriptor, or allows no file of that length
    /// (`ulimit -f`).
    pub fn new(value: T) -> Result<Self, Error> {
        let values = codec::encode(&value).map_err(|error| {
            let error =
                CodecError::new(CodecSide::EncodeShared, type_name::<T>(), error.to_string());
            Error::Codec(Box::new(error))
        })?;
        let written = image::write(&values).and_then(|(_, fd)| Ok((sys::identity(&fd)?, fd)));
        let (identity, memory) =
            written.map_err(Error::io("the value can't be copied into shared memory"))?;
        let mut descriptors = vec![Descriptor::new(memory.into())];
        descriptors.extend(values.descriptors);
        Ok(Self::enter(identity, value, descriptors))
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    fn enter(identity: Identity, value: T, descriptors: Vec<Descriptor>) -> Self {
        // However small: it is decoded once in each worker.
        descriptors.first().into_iter().for_each(|memory| memory.keep_as(identity));
        Self(registry::enter(identity, |_entry| Stored { value, descriptors, _entry }))
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> AsRef<T> for Shared<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Portable + Sync> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let descriptors = self.0.descriptors.clone();
        handle::serialize(&name::<T>(), descriptors, type_name::<T>(), serializer)
    }
}

impl<'de, T: Portable + Sync> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Carried { descriptors, value: of, depth } =
            handle::deserialize::<String, D>("Shared", deserializer)?;
        if of != type_name::<T>() {
            let name = name::<T>();
            return Err(D::Error::custom(format_args!("a Shared<{of}> instead of a {name}")));
        }
        let Some((memory, inner)) = descriptors.split_first() else {
            return Err(D::Error::custom("a Shared has a descriptor"));
        };
        let not_mapped = |error| {
            D::Error::custom(format_args!("the memory of a Shared can't be mapped: {error}"))
        };
        let identity = sys::identity(&**memory).map_err(not_mapped)?;
        if let Some(stored) = registry::find(identity) {
            return Ok(Self(stored));
        }
        // A worker may have sent anything.
        let _decoding = Decoding::begin(identity)
            .ok_or_else(|| D::Error::custom("a Shared can't be within itself"))?;
        let memory = SealedMemory::map(&**memory).map_err(not_mapped)?;
        let image = image::read(codec::Segment::from(Arc::new(memory)))
            .ok_or_else(|| D::Error::custom("a Shared has other memory than it says"))?;
        let attached = (image.segments, inner.to_vec());
        let value = codec::decode_within(&image.body, attached, depth).map_err(D::Error::custom)?;
        Ok(Self::enter(identity, value, descriptors))
    }
}

fn name<T>() -> String {
    format!("Shared<{}>", type_name::<T>())
}

thread_local! {
    /// The values that this thread decodes, each within the one before it.
    static DECODING: RefCell<Vec<Identity>> = const { RefCell::new(Vec::new()) };
}

/// The decoding of a value.
struct Decoding;

impl Decoding {
    /// `None`: the value is being decoded, and would be decoded without end.
    fn begin(identity: Identity) -> Option<Self> {
        let is_new = DECODING.try_with(|all| {
            let mut all = all.borrow_mut();
            let is_new = !all.contains(&identity);
            if is_new {
                all.push(identity);
            }
            is_new
        });
        is_new.unwrap_or(false).then_some(Self)
    }
}

impl Drop for Decoding {
    fn drop(&mut self) {
        let _ = DECODING.try_with(|all| all.borrow_mut().pop());
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::codec::Encoded;

    #[derive(Debug, Serialize, Deserialize)]
    struct Node(Vec<Shared<Node>>);

    /// A handle to memory of this body, as another process might send it, with these descriptors behind it.
    fn sent(body: Vec<u8>, behind: impl FnOnce(&Descriptor) -> Vec<Descriptor>) -> Encoded {
        let (_, memory) = image::write(&Encoded { body, ..Encoded::default() }).unwrap();
        let memory = Descriptor::new(memory.into());
        let mut descriptors = vec![Descriptor::clone(&memory)];
        descriptors.extend(behind(&memory));
        codec::encode(&Shared::enter((0, 0), Node(vec![]), descriptors)).unwrap()
    }

    fn arrive(sent: &Encoded) -> Result<Shared<Node>, codec::Error> {
        codec::decode(&sent.body, (Vec::new(), sent.descriptors.clone()))
    }

    #[test]
    fn a_value_that_says_it_is_within_itself_is_an_error() {
        let inner = Shared::new(Node(vec![])).unwrap();
        let body = codec::encode(&Node(vec![inner.clone(), inner])).unwrap().body;
        let error = arrive(&sent(body, |memory| vec![Descriptor::clone(memory)])).unwrap_err();
        assert!(error.to_string().contains("within itself"), "{error}");
    }

    #[test]
    fn a_value_that_names_a_handle_which_did_not_come_is_an_error() {
        let inner = Shared::new(Node(vec![])).unwrap();
        let body = codec::encode(&Node(vec![inner])).unwrap().body;
        let error = arrive(&sent(body, |_| vec![])).unwrap_err();
        assert!(error.to_string().contains("no descriptor"), "{error}");
    }

    #[test]
    fn values_within_each_other_have_the_depth_of_one() {
        if !crate::sys::descriptors::may_have_many() {
            return;
        }
        let mut node = Shared::new(Node(vec![])).unwrap();
        let error = loop {
            node = Shared::new(Node(vec![node])).unwrap();
            let sent = codec::encode(&node).unwrap();
            assert!(sent.descriptors.len() < 253);
            // So that all of it is decoded again.
            drop(node);
            match arrive(&sent) {
                Ok(arrived) => node = arrived,
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("levels deep"), "{error}");
    }
}
