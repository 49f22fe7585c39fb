//! A value that processes change. In any process.

use std::any::type_name;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};
use std::time::{Duration, Instant};

use serde_core::de::{Deserialize, Deserializer};
use serde_core::ser::{Serialize, Serializer};

use super::error::Error;
use super::halves::{self, Content, Halves};
use super::held::Held;
use super::journal::step;
use super::object::{Attempt, Kind, Object};
use super::room::Room;
use super::waiting::Waiting;
use super::waits::{Look, Watched};
use super::{event_word, image};
use crate::codec::{self, Attached, Encoded, Segment, codec_error, guarded};
use crate::core::Awaited;
use crate::error::CodecSide;
use crate::portable::Portable;
use crate::sys;

/// The capacity of a value that none is given for, in bytes.
const CAPACITY: usize = 64 << 10;

/// The most, in bytes.
const MOST: usize = 1 << 30;

/// The event that it has changed.
const CHANGED: usize = 0;

/// A value of any type of serde's that processes share, and that each of them can change.
///
/// A change is made by one process at a time, in a closure that gets the value: [`with`](Self::with). It happens as a
/// whole or not at all: if the process is killed within, if the closure panics, or if the new value can't be encoded,
/// the value is as it was, and the next one finds nothing to repair. [`get`](Self::get) returns a copy, without waiting
/// for anybody.
///
/// A clone is the same value, and so is what arrives in another process: see [`ipc`](crate::ipc) for how it travels.
///
/// ```
/// use std::collections::HashMap;
///
/// use concurrent_futures::ipc::{Error, Value};
///
/// fn count((words, line): (Value<HashMap<String, u32>>, String)) {
///     let words_of_line = line.split_whitespace();
///     let counted = words.with_blocking(|words| {
///         words_of_line.for_each(|word| *words.entry(word.to_owned()).or_default() += 1);
///     });
///     counted.unwrap();
/// }
///
/// let words = Value::new(HashMap::new())?;
/// // On a process pool: pool.submit(call!(count((words.clone(), line))))
/// count((words.clone(), "to be or not to be".to_owned()));
/// assert_eq!(words.get()?["to"], 2);
/// # Ok::<(), Error>(())
/// ```
///
/// # What it costs
///
/// Each change decodes the value and encodes it again, so it is for small ones: totals, settings, the state of a job.
/// For many numbers there is [`SharedArray`](super::SharedArray), for a large value that nobody changes
/// [`Shared`](super::Shared). Of the memory for two values of the capacity only what was used is taken.
///
/// # What is in it
///
/// Whatever can be an argument, but for handles: these go beside it. A [`Buffer`](crate::Buffer) is copied with it.
///
/// # Blocking
///
/// A change does not recur: one within another to the same value waits for itself. In a task of a process pool that
/// blocks for a value the worker's place is lent out meanwhile. A process that is stopped in a change holds up others
/// who want to make one, and no reader.
///
/// Source of the ideas: `multiprocessing.Value`, and its `Condition` for [`wait_until`](Self::wait_until).
pub struct Value<T> {
    object: Arc<Object<Stored>>,
    value: PhantomData<fn() -> T>,
}

/// The word with the capacity, in bytes.
const CAPACITY_AT: usize = 1;

struct Stored {
    capacity: usize,
    /// The version at the last look.
    seen: AtomicU64,
    encoded: Room<u8>,
    read: Room<u64>,
}

impl Kind for Stored {
    const MARK: u64 = u64::from_le_bytes(*b"value001");
    const EVENTS: usize = 1;
    const AWAITED: Awaited = Awaited::Value;

    fn open(words: &[AtomicU64]) -> Option<Self> {
        let capacity = usize::try_from(words.get(CAPACITY_AT)?.load(Relaxed)).ok();
        let capacity = capacity.filter(|it| (1..=MOST).contains(it))?;
        let (seen, encoded, read) = Default::default();
        (words.len() == halves::words(capacity)).then_some(Self { capacity, seen, encoded, read })
    }

    fn look(value: &Object<Self>, _: usize) -> Look {
        // Who has changed it may have been killed before it had woken anybody.
        let version = value.halves().version();
        if value.kind.seen.swap(version, Relaxed) == version { Look::None } else { Look::All }
    }
}

impl Object<Stored> {
    fn halves(&self) -> Halves<'_> {
        Halves::new(self.words())
    }
}

type Changing = Held<Object<Stored>>;

impl<T: Portable> Value<T> {
    /// Shares a value, which may take 64 KiB when it is encoded.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](Error::TooLarge), and [`Codec`](Error::Codec) if it can't be encoded. [`Io`](Error::Io) if the system
    /// refuses the memory, the descriptor, or a thread, which each process has that shares a value.
    pub fn new(value: T) -> Result<Self, Error> {
        Self::with_capacity(CAPACITY, value)
    }

    /// As [`new`](Self::new), with room for so many bytes of the encoded value.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`InvalidSetting`](Error::InvalidSetting) if the capacity is not 1 byte to 1 GiB.
    pub fn with_capacity(bytes: usize, value: T) -> Result<Self, Error> {
        if !(1..=MOST).contains(&bytes) {
            return Err(Error::InvalidSetting("the capacity of a value is 1 byte to 1 GiB"));
        }
        let capacity = |words: &[AtomicU64]| words[CAPACITY_AT].store(bytes as u64, Relaxed);
        let object = Object::create(halves::words(bytes), halves::HEAD, capacity);
        let object = object.map_err(Error::io("the shared value can't be made"))?;
        let shared = Self { object, value: PhantomData };
        shared.write(&value)?;
        Ok(shared)
    }

    /// A copy of the value, as it is now. It waits for no change of another process.
    ///
    /// # Errors
    ///
    /// [`Codec`](Error::Codec) if it can't be decoded, [`Damaged`](Error::Damaged) if a process has written nonsense.
    pub fn get(&self) -> Result<T, Error> {
        self.read().map(|(value, _)| value)
    }

    /// Replaces the value, and waits while another changes it.
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with), but what was there before may be damaged.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time; the value is as it was then.
    pub async fn set(&self, value: T) -> Result<(), Error> {
        let changing = self.begin().await;
        self.replace(changing, &value)
    }

    /// As [`set`](Self::set), and blocks the thread.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn set_blocking(&self, value: T) -> Result<(), Error> {
        self.replace(self.begin_blocking(), &value)
    }

    /// Changes the value by a closure, and waits while another changes it. Nobody else changes it meanwhile. Returns what
    /// the closure returns.
    ///
    /// # Errors
    ///
    /// [`Codec`](Error::Codec) if the value can't be decoded, or the new one not encoded, [`TooLarge`](Error::TooLarge)
    /// if that needs more than the capacity, [`Damaged`](Error::Damaged) if a process has written nonsense, and
    /// [`Io`](Error::Io) if there is no memory for it. The value is as it was then.
    ///
    /// # Panics
    ///
    /// If the closure does. The value is as it was then.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time; the closure has not run then.
    pub async fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        let changing = self.begin().await;
        self.change(changing, change)
    }

    /// As [`with`](Self::with), and blocks the thread.
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with).
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn with_blocking<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        self.change(self.begin_blocking(), change)
    }

    /// As [`with_blocking`](Self::with_blocking), and waits for `limit` at most. `None`: another changes it still.
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with).
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn with_timeout<R>(
        &self,
        limit: Duration,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, Error> {
        // A limit beyond the clock's range is none.
        let changing = Held::block(&self.object, Instant::now().checked_add(limit));
        changing.map(|changing| self.change(changing, change)).transpose()
    }

    /// As [`with`](Self::with), unless another changes it now: `None`.
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with).
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    pub fn try_with<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<Option<R>, Error> {
        let changing = Held::try_new(&self.object);
        changing.map(|changing| self.change(changing, change)).transpose()
    }

    /// Waits until the value is as `is_ready` wants it. Returns a copy of that value.
    ///
    /// `is_ready` sees the value as it is now, and whenever it was changed, but not each of several changes in a row. If
    /// the process that changes it is killed while it does, this learns of it within 20 ms.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn wait_until(&self, mut is_ready: impl FnMut(&T) -> bool) -> Result<T, Error> {
        let (mut waiting, mut last) = (Waiting::default(), None);
        let look = |_: &Object<Stored>| self.look(&mut last, &mut is_ready);
        let mut look = look;
        poll_fn(|cx| self.object.poll(CHANGED, &mut waiting, cx, &mut look)).await
    }

    /// As [`wait_until`](Self::wait_until), and blocks the thread.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn wait_until_blocking(&self, mut is_ready: impl FnMut(&T) -> bool) -> Result<T, Error> {
        loop {
            if let Some(ready) = self.block(None, &mut is_ready) {
                return ready;
            }
        }
    }

    /// As [`wait_until_blocking`](Self::wait_until_blocking), for `limit` at most. `None`: it did not become so.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn wait_until_timeout(
        &self,
        limit: Duration,
        mut is_ready: impl FnMut(&T) -> bool,
    ) -> Result<Option<T>, Error> {
        // A limit beyond the clock's range is none.
        self.block(Instant::now().checked_add(limit), &mut is_ready).transpose()
    }

    #[cfg_attr(debug_assertions, track_caller)]
    fn block(
        &self,
        deadline: Option<Instant>,
        is_ready: &mut dyn FnMut(&T) -> bool,
    ) -> Option<Result<T, Error>> {
        let mut last = None;
        self.object.block(CHANGED, deadline, |_| self.look(&mut last, is_ready))
    }

    /// Done if the value is ready. `last` is the version that was looked at last.
    fn look(
        &self,
        last: &mut Option<u64>,
        is_ready: &mut dyn FnMut(&T) -> bool,
    ) -> Attempt<Result<T, Error>> {
        // Behind the mark that this waits, which `wake_waiting` has its own fence for.
        fence(SeqCst);
        if *last == Some(self.object.halves().version()) {
            return Attempt::Wait;
        }
        let read = self.read().map(|(value, content)| {
            *last = Some(content.version);
            is_ready(&value).then_some(value)
        });
        Attempt::from(read.transpose())
    }

    async fn begin(&self) -> Changing {
        let mut waiting = Waiting::default();
        poll_fn(|cx| Held::poll(&self.object, &mut waiting, cx)).await
    }

    #[cfg_attr(debug_assertions, track_caller)]
    fn begin_blocking(&self) -> Changing {
        loop {
            if let Some(changing) = Held::block(&self.object, None) {
                return changing;
            }
        }
    }

    fn replace(&self, changing: Changing, value: &T) -> Result<(), Error> {
        let changed = self.write(value);
        drop(changing);
        step();
        changed.map(|()| event_word::wake_waiting(self.object.word(CHANGED)))
    }

    fn change<R>(&self, changing: Changing, change: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        let (mut value, _) = self.read()?;
        let result = change(&mut value);
        self.replace(changing, &value)?;
        Ok(result)
    }

    fn read(&self) -> Result<(T, Content), Error> {
        let mut words = self.object.kind.read.take();
        let content = self.object.halves().read(&mut words);
        let content = content.map_err(|_| Error::Damaged)?;
        let bytes: &[u8] = &bytemuck::cast_slice(&words)[..content.length];
        let side = CodecSide::DecodeShared;
        let value = if content.is_marked {
            let image = image::read(Segment::from(bytes.to_vec())).ok_or(Error::Damaged)?;
            guarded::<T, _, _>(side, || {
                codec::decode::<T>(&image.body, (image.segments, Vec::new()))
            })
        } else {
            guarded::<T, _, _>(side, || codec::decode::<T>(bytes, Attached::default()))
        };
        self.object.kind.read.leave(words);
        Ok((value.map_err(|error| Error::Codec(Box::new(error)))?, content))
    }

    /// By the holder of the lock, or the one that has made it. The same bytes are no change.
    fn write(&self, value: &T) -> Result<(), Error> {
        let room = self.object.kind.encoded.take();
        let side = CodecSide::EncodeShared;
        let encoded = guarded::<T, _, _>(side, || codec::encode_within(value, room));
        let encoded = encoded.map_err(|error| Error::Codec(Box::new(error)))?;
        if !encoded.descriptors.is_empty() {
            let handle = "it has a handle, and a shared value can't; send that beside it";
            return Err(Error::Codec(Box::new(codec_error::<T>(side, handle))));
        }
        let capacity = self.object.kind.capacity;
        let size =
            if encoded.is_body() { Some(encoded.body.len()) } else { image::length(&encoded) };
        let size = size.unwrap_or(usize::MAX);
        if size > capacity {
            return Err(Error::TooLarge { size, capacity });
        }
        let is_image = !encoded.is_body();
        let bytes = if is_image { image_of(&encoded, size) } else { encoded.body };
        let halves = self.object.halves();
        if !self.is_same(halves, &bytes, is_image) {
            if let Some(words) = halves.must_reserve(bytes.len()) {
                sys::reserve(&*self.object.descriptor, words)
                    .map_err(Error::io("there is no memory for the shared value"))?;
            }
            halves.write(&bytes, is_image);
        }
        self.object.kind.encoded.leave(bytes);
        Ok(())
    }

    fn is_same(&self, halves: Halves<'_>, bytes: &[u8], is_image: bool) -> bool {
        let mut words = self.object.kind.read.take();
        let is_same = halves.read(&mut words).is_ok_and(|content| {
            content.version > 0
                && content.is_marked == is_image
                && bytemuck::cast_slice::<u64, u8>(&words)[..content.length] == *bytes
        });
        self.object.kind.read.leave(words);
        is_same
    }
}

fn image_of(encoded: &Encoded, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    image::write_to(encoded, &mut bytes);
    bytes
}

impl<T> Value<T> {
    /// The most bytes that the encoded value may take.
    pub fn capacity(&self) -> usize {
        self.object.kind.capacity
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self { object: Arc::clone(&self.object), value: PhantomData }
    }
}

impl<T: Portable + fmt::Debug> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Ok(value) => f.debug_tuple("Value").field(&value).finish(),
            Err(error) => f.debug_tuple("Value").field(&error).finish(),
        }
    }
}

fn name<T>() -> String {
    format!("Value<{}>", type_name::<T>())
}

impl<T> Serialize for Value<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = name::<T>();
        self.object.serialize(&name, &name, serializer)
    }
}

impl<'de, T: Portable> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object::deserialize("Value", &name::<T>(), deserializer)?;
        Ok(Self { object, value: PhantomData })
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::super::journal::{part, was_killed};
    use super::*;

    /// C-1. A process is killed at each of its steps.
    #[test]
    fn a_value_is_the_old_or_the_new_one_whenever_a_process_is_killed() {
        if let Some((memory, _, begin)) = part() {
            let object = Object::of(memory).unwrap();
            let value = Value::<Vec<u64>> { object, value: PhantomData };
            begin();
            value.with_blocking(|it| it.push(7)).unwrap();
            std::process::exit(0);
        }
        for step in 0.. {
            let value = Value::new(vec![1_u64]).unwrap();
            let waits = std::thread::spawn({
                let value = value.clone();
                move || value.wait_until_blocking(|it| it.len() == 2).unwrap()
            });
            let is_done = !was_killed(&value.object.descriptor, "pushes", step);
            let now = value.get().unwrap();
            assert!(now == [1] || now == [1, 7], "{now:?}");
            // The next one goes on, and who waits is told of what nobody was told of.
            value.with_blocking(|it| it.resize(2, 7)).unwrap();
            assert_eq!(waits.join().unwrap(), [1, 7]);
            if is_done {
                assert_eq!(now, [1, 7]);
                assert!(step > 3, "{step}");
                break;
            }
        }
    }
}
