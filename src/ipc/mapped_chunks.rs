//! The arrays in chunks that this process has mapped: each once, however often it arrives. In any process.

use std::any::type_name;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use serde_core::de::{DeserializeOwned, Deserializer, Error as _};
use serde_core::ser::{Serialize, Serializer};

use super::error::FreezeError;
use super::mapped::Mapped;
use super::registry::{self, Entry};
use crate::codec::handle::{self, Carried, Descriptor, Identity};
use crate::sys::{self, ChunkMemory};

/// An array in chunks, once in each process that has a handle to it.
pub(super) struct MappedChunks<T> {
    pub(super) memory: Arc<ChunkMemory>,
    /// Of the data, and of the locks.
    descriptors: [Descriptor; 2],
    entry: Entry,
    elements: PhantomData<fn(T) -> T>,
}

impl<T: 'static> MappedChunks<T> {
    /// A new one, of so many bytes in chunks of so many.
    pub(super) fn create(bytes: usize, chunk: usize) -> io::Result<Arc<Self>> {
        let (memory, descriptors) = ChunkMemory::create(bytes, chunk)?;
        let identity = sys::identity(&descriptors[0])?;
        let descriptors = descriptors.map(|descriptor| Descriptor::new(descriptor.into()));
        Ok(Self::enter(identity, Arc::new(memory), descriptors))
    }

    /// An array that has arrived.
    fn of(descriptors: [Descriptor; 2]) -> io::Result<Arc<Self>> {
        let [data, locks] = &descriptors;
        // As long as it is mapped the file is there, and no other one has its identity.
        let identity = sys::identity(&**data)?;
        registry::keep_for_items(identity);
        let wrong = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        if let Some(chunks) = registry::find::<Self>(identity) {
            let known = &chunks.descriptors[1];
            let is_same =
                Arc::ptr_eq(known, locks) || sys::identity(&**known)? == sys::identity(&**locks)?;
            return is_same.then_some(chunks).ok_or_else(|| wrong("it has other locks here"));
        }
        let memory = ChunkMemory::map(&**data, &**locks)?;
        if memory.len() % size_of::<T>() != 0 || memory.chunk_len() % size_of::<T>() != 0 {
            return Err(wrong("not a whole number of elements"));
        }
        Ok(Self::enter(identity, Arc::new(memory), descriptors))
    }

    fn enter(
        identity: Identity,
        memory: Arc<ChunkMemory>,
        descriptors: [Descriptor; 2],
    ) -> Arc<Self> {
        let elements = PhantomData;
        registry::enter(identity, |entry| Self { memory, descriptors, entry, elements })
    }

    /// Seals the memory, if this is the only handle to it.
    pub(super) fn freeze(self: Arc<Self>) -> Result<Arc<Mapped>, FreezeError<Arc<Self>>> {
        drop(registry::forget(self.entry.identity()));
        let chunks = Arc::try_unwrap(self).map_err(FreezeError::OtherHandle)?;
        let Self { memory, descriptors, entry, .. } = chunks;
        let identity = entry.identity();
        drop(entry);
        let memory = Arc::try_unwrap(memory).map_err(|held| {
            FreezeError::OtherHandle(Self::enter(identity, held, descriptors.clone()))
        })?;
        match memory.seal(&*descriptors[0]) {
            Ok(sealed) => {
                let [data, _] = descriptors;
                Ok(Mapped::enter(identity, sealed, data))
            }
            Err((memory, error)) => {
                let chunks = Self::enter(identity, Arc::new(memory), descriptors);
                Err(FreezeError::of(error, chunks))
            }
        }
    }

    /// Serialises a handle to it, with `part`. `what` is the name of its type.
    pub(super) fn serialize<P: Serialize, S: Serializer>(
        &self,
        what: &'static str,
        part: P,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let value = (type_name::<T>(), part);
        handle::serialize(&name::<T>(what), self.descriptors.to_vec(), &value, serializer)
    }

    /// Deserialises a handle to it.
    pub(super) fn deserialize<'de, P: DeserializeOwned, D: Deserializer<'de>>(
        what: &'static str,
        deserializer: D,
    ) -> Result<(Arc<Self>, P), D::Error> {
        let Carried { descriptors, value: (of, part), .. } =
            handle::deserialize::<(String, P), D>(what, deserializer)?;
        if of != type_name::<T>() {
            let name = name::<T>(what);
            return Err(D::Error::custom(format_args!("a {what}<{of}> instead of a {name}")));
        }
        let Ok(descriptors) = <[_; 2]>::try_from(descriptors) else {
            return Err(D::Error::custom(format_args!("a {what} has two descriptors")));
        };
        let chunks = Self::of(descriptors).map_err(|error| {
            D::Error::custom(format_args!("the memory of a {what} can't be mapped: {error}"))
        })?;
        Ok((chunks, part))
    }
}

fn name<T>(what: &str) -> String {
    format!("{what}<{}>", type_name::<T>())
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use serde_core::de::Deserialize;

    use super::*;
    use crate::codec::{self, Encoded};
    use crate::ipc::{Chunk, SharedChunks};
    use crate::sys::WritableMemory;

    /// A handle as another process might send it.
    struct Sent(Vec<Descriptor>, &'static str, u64);

    impl Serialize for Sent {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            handle::serialize("Chunk", self.0.clone(), &(self.1, self.2), serializer)
        }
    }

    impl<'de> Deserialize<'de> for Sent {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(D::Error::custom("it is only sent"))
        }
    }

    fn arrive(sent: &Sent) -> Result<Chunk<u32>, String> {
        let Encoded { body, segments, descriptors, .. } = codec::encode(sent).unwrap();
        codec::decode(&body, (segments, descriptors)).map_err(|error| error.to_string())
    }

    fn memory(length: usize, chunk: usize) -> [Descriptor; 2] {
        let (_, descriptors) = ChunkMemory::create(length, chunk).unwrap();
        descriptors.map(|descriptor| Descriptor::new(descriptor.into()))
    }

    #[test]
    fn what_is_no_array_in_chunks_of_the_type_is_refused() {
        let both = memory(12, 8);
        let [data, locks] = &both;
        let chunk = arrive(&Sent(both.to_vec(), "u32", 1)).unwrap();
        assert_eq!((chunk.index(), chunk.range()), (1, 2..3));
        let [_, other_locks] = memory(12, 8);
        let plain = WritableMemory::create(12).unwrap().1;
        let plain = Descriptor::new(plain.into());
        let wrong = [
            (Sent(vec![Arc::clone(data)], "u32", 0), "two descriptors"),
            (Sent(both.to_vec(), "u64", 0), "a Chunk<u64> instead of a Chunk<u32>"),
            (Sent(both.to_vec(), "u32", 2), "no Chunk of the number 2"),
            (Sent(both.to_vec(), "u32", u64::MAX), "no Chunk"),
            (Sent(vec![Arc::clone(data), other_locks], "u32", 0), "other locks"),
            (Sent(vec![Arc::clone(&plain), plain], "u32", 0), "not memory"),
            (Sent(vec![Arc::clone(locks), Arc::clone(data)], "u32", 0), "not memory"),
            (Sent(memory(6, 4).to_vec(), "u32", 0), "not a whole number"),
            (Sent(memory(12, 6).to_vec(), "u32", 0), "not a whole number"),
        ];
        for (sent, why) in &wrong {
            let error = arrive(sent).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_waits_for_a_chunk_keeps_no_array_from_being_frozen() {
        let array = SharedChunks::<u8>::zeroed(3, 1).unwrap();
        let chunk = array.chunk(0);
        let guard = chunk.try_lock().unwrap().unwrap();
        assert!(chunk.lock_timeout(std::time::Duration::from_millis(1)).is_none());
        drop((guard, chunk));
        // The thread that looks after waits may still have the lock.
        assert_eq!(array.freeze().unwrap()[..], [0; 3]);
    }
}
