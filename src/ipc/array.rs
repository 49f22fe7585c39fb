//! Arrays that many processes write to. In any process.

use std::any::type_name;
use std::fmt;
use std::sync::Arc;

use serde_core::de::{Deserialize, Deserializer, Error as _};
use serde_core::ser::{Serialize, Serializer};

use super::atomic_element::AtomicElement;
use super::error::{Error, FreezeError};
use super::slice::SharedSlice;
use super::writable::Writable;
use crate::codec::handle::{self, Carried};

/// An array of numbers in memory that all processes map, and that all may write to at the same time.
///
/// Each element is an atomic, as those of `std::sync::atomic` are: it is read and written in one step, and what
/// several processes add at once is all there in the end. There is no lock, so a process that is killed holds up no
/// other; and there is no reference to an element, as it may change at any time. What travels to a worker process is
/// a handle: the worker maps the same memory, however large it is. A clone is another handle to it. The memory is free
/// when no process has a handle any more, however these end; it has no name that could be left behind.
///
/// A single number is an array of one.
///
/// ```
/// use concurrent_futures::ipc::SharedArray;
///
/// fn count((lengths, line): (SharedArray<u64>, String)) {
///     for word in line.split_whitespace() {
///         lengths.add(word.len().min(9), 1);
///     }
/// }
///
/// let lengths = SharedArray::<u64>::zeroed(10)?;
/// // On a process pool: pool.map(count, lines.map(|line| (lengths.clone(), line)))
/// for line in ["to be or not to be", "that is the question"] {
///     count((lengths.clone(), line.to_owned()));
/// }
/// assert_eq!(lengths.load(2), 6);
/// assert_eq!(lengths.to_vec(), [0, 0, 6, 2, 1, 0, 0, 0, 1, 0]);
/// # Ok::<(), concurrent_futures::ipc::Error>(())
/// ```
///
/// # Order
///
/// All operations are [`Relaxed`](std::sync::atomic::Ordering::Relaxed): two elements that one process has written may
/// be seen by another in any order, and [`to_vec`](Self::to_vec) may have one from before another process's loop and
/// the next one from after it. What a task has written before its result is there when that has come; and the same
/// holds for what was written before an item was sent through a [`channel`](super::channel()), once that is received,
/// and for what was there before a task was submitted.
///
/// # When nothing is written any more
///
/// [`freeze`](Self::freeze) makes it a [`SharedSlice`], which is the same memory, and is read as a slice.
///
/// # How it travels
///
/// As a [`SharedSlice`](SharedSlice#how-it-travels): in any value that is sent to a worker process, or back, or on to
/// another worker. But a worker does not keep it mapped between its tasks, however large it is, as nobody could freeze
/// it then; items of a map that come to a worker together have one mapping. Where many small tasks write to a large
/// array, give it to all of them by [`map_with`](crate::ProcessPoolExecutor::map_with), which has it mapped once in
/// each worker.
pub struct SharedArray<T> {
    writable: Arc<Writable<T>>,
}

impl<T: AtomicElement> SharedArray<T> {
    /// `len` zeros.
    ///
    /// # Errors
    ///
    /// If the system refuses the memory or the descriptor, or allows no file of that length (`ulimit -f`).
    pub fn zeroed(len: usize) -> Result<Self, Error> {
        let writable = Writable::create(len);
        let writable = writable.map_err(Error::io("there is no shared memory for the elements"))?;
        Ok(Self { writable })
    }

    /// Copies the numbers into shared memory.
    ///
    /// # Errors
    ///
    /// As [`zeroed`](Self::zeroed).
    ///
    /// ```
    /// use concurrent_futures::ipc::SharedArray;
    ///
    /// let best = SharedArray::new([f64::INFINITY])?;
    /// best.min(0, 2.5);
    /// best.min(0, 3.5);
    /// assert_eq!(best.load(0), 2.5);
    /// # Ok::<(), concurrent_futures::ipc::Error>(())
    /// ```
    pub fn new(values: impl AsRef<[T]>) -> Result<Self, Error> {
        let values = values.as_ref();
        let array = Self::zeroed(values.len())?;
        array.write(0, values);
        Ok(array)
    }

    fn words(&self) -> &[T::Word] {
        match self.writable.memory.words() {
            Some(words) => words,
            None => unreachable!("it was looked at when it was mapped"),
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.words().len()
    }

    /// Returns whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the element at `index`.
    ///
    /// # Panics
    ///
    /// If there is no such element, as all methods with an index.
    #[inline]
    #[track_caller]
    pub fn load(&self, index: usize) -> T {
        T::load(&self.words()[index])
    }

    /// Writes `value` to the element at `index`.
    #[inline]
    #[track_caller]
    pub fn store(&self, index: usize, value: T) {
        T::store(&self.words()[index], value);
    }

    /// Writes `value` to the element at `index`, and returns what was there before.
    #[inline]
    #[track_caller]
    pub fn swap(&self, index: usize, value: T) -> T {
        T::swap(&self.words()[index], value)
    }

    /// Adds `value` to the element at `index`, and returns what was there before. Integers wrap around at their
    /// ends.
    ///
    /// Floats are added one after the other, so what comes of many depends on their order, as always with floats.
    ///
    /// ```
    /// use concurrent_futures::ipc::SharedArray;
    ///
    /// let next = SharedArray::<u32>::zeroed(1)?;
    /// assert_eq!([next.add(0, 1), next.add(0, 1)], [0, 1]);
    /// # Ok::<(), concurrent_futures::ipc::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn add(&self, index: usize, value: T) -> T {
        T::add(&self.words()[index], value)
    }

    /// Subtracts `value` from the element at `index`, and returns what was there before. Integers wrap around at
    /// their ends.
    #[inline]
    #[track_caller]
    pub fn sub(&self, index: usize, value: T) -> T {
        T::sub(&self.words()[index], value)
    }

    /// Writes `value` to the element at `index` if it is larger than that, which is returned. A NaN is less than any
    /// number.
    #[inline]
    #[track_caller]
    pub fn max(&self, index: usize, value: T) -> T {
        T::max(&self.words()[index], value)
    }

    /// Writes `value` to the element at `index` if it is smaller than that, which is returned. A NaN is more than any
    /// number.
    #[inline]
    #[track_caller]
    pub fn min(&self, index: usize, value: T) -> T {
        T::min(&self.words()[index], value)
    }

    /// Writes what `update` makes of the element at `index`, and returns what was there before.
    ///
    /// If another process writes to it meanwhile, `update` is called again, with what is there then.
    ///
    /// ```
    /// use concurrent_futures::ipc::SharedArray;
    ///
    /// let seen = SharedArray::<u64>::zeroed(4)?;
    /// seen.update(100 / 64, |bits| bits | 1 << (100 % 64));
    /// assert_eq!(seen.load(1), 1 << 36);
    /// # Ok::<(), concurrent_futures::ipc::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn update(&self, index: usize, update: impl FnMut(T) -> T) -> T {
        T::update(&self.words()[index], update)
    }

    /// Writes `new` to the element at `index` if that is `current`; floats are compared by their bits.
    ///
    /// # Errors
    ///
    /// The element, if it is another one. Nothing was written then.
    ///
    /// ```
    /// use concurrent_futures::ipc::SharedArray;
    ///
    /// let owners = SharedArray::<u32>::zeroed(10)?;
    /// assert_eq!(owners.compare_exchange(3, 0, 71), Ok(0));
    /// assert_eq!(owners.compare_exchange(3, 0, 72), Err(71));
    /// # Ok::<(), concurrent_futures::ipc::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn compare_exchange(&self, index: usize, current: T, new: T) -> Result<T, T> {
        T::compare_exchange(&self.words()[index], current, new)
    }

    /// Copies the elements from `index` on, as many as there are in `values`.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    ///
    /// ```
    /// use concurrent_futures::ipc::SharedArray;
    ///
    /// let array = SharedArray::<u16>::zeroed(6)?;
    /// array.write(2, &[7, 8]);
    /// let mut values = [0; 3];
    /// array.read(1, &mut values);
    /// assert_eq!(values, [0, 7, 8]);
    /// # Ok::<(), concurrent_futures::ipc::Error>(())
    /// ```
    #[track_caller]
    pub fn read(&self, index: usize, values: &mut [T]) {
        let words = &self.words()[index..][..values.len()];
        for (value, word) in values.iter_mut().zip(words) {
            *value = T::load(word);
        }
    }

    /// Copies `values` to the elements from `index` on.
    ///
    /// # Panics
    ///
    /// If there are not so many. Nothing was written then.
    #[track_caller]
    pub fn write(&self, index: usize, values: &[T]) {
        let words = &self.words()[index..][..values.len()];
        for (value, word) in values.iter().zip(words) {
            T::store(word, *value);
        }
    }

    /// Copies all elements.
    pub fn to_vec(&self) -> Vec<T> {
        self.words().iter().map(T::load).collect()
    }

    /// Has the kernel seal the memory: from here on no process can write to it, and all may read it as a slice.
    /// Nothing is copied.
    ///
    /// It succeeds once no other handle to the array is left: when the tasks that it was given to are done, and the
    /// other handles of this process are dropped. A task that it was given to and that has not begun has no array then:
    /// its error is [`Codec`](crate::Error::Codec).
    ///
    /// # Errors
    ///
    /// If another handle to the array exists, or the system refuses. The array comes back, and is as it was.
    ///
    /// # Panics
    ///
    /// If another process has the array mapped, and the system, for want of memory, can't map it here again.
    ///
    /// ```
    /// use concurrent_futures::ipc::{FreezeError, SharedArray, SharedSlice};
    ///
    /// let squares = SharedArray::<u32>::zeroed(10)?;
    /// let other = squares.clone();
    /// (0..10).for_each(|n| other.store(n as usize, n * n));
    /// let Err(FreezeError::OtherHandle(squares)) = squares.freeze() else {
    ///     panic!("it has a clone")
    /// };
    /// drop(other);
    /// let squares: SharedSlice<u32> = squares.freeze()?;
    /// assert_eq!(squares[3..6], [9, 16, 25]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn freeze(self) -> Result<SharedSlice<T>, FreezeError<Self>> {
        let sealed = self.writable.freeze();
        let sealed = sealed.map_err(|error| error.map(|writable| Self { writable }))?;
        match SharedSlice::of_mapped(sealed) {
            Ok(slice) => Ok(slice),
            Err(_) => unreachable!("the memory has a whole number of elements"),
        }
    }
}

impl<T> Clone for SharedArray<T> {
    fn clone(&self) -> Self {
        Self { writable: Arc::clone(&self.writable) }
    }
}

impl<T: AtomicElement> fmt::Debug for SharedArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.words().iter().map(T::load)).finish()
    }
}

impl<T: AtomicElement> Serialize for SharedArray<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let descriptors = vec![Arc::clone(&self.writable.descriptor)];
        handle::serialize(&name::<T>(), descriptors, type_name::<T>(), serializer)
    }
}

impl<'de, T: AtomicElement> Deserialize<'de> for SharedArray<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Carried { descriptors, value: of, .. } =
            handle::deserialize::<String, D>("SharedArray", deserializer)?;
        if of != type_name::<T>() {
            let name = name::<T>();
            return Err(D::Error::custom(format_args!("a SharedArray<{of}> instead of a {name}")));
        }
        let Ok([descriptor]) = <[_; 1]>::try_from(descriptors) else {
            return Err(D::Error::custom("a SharedArray has one descriptor"));
        };
        let writable = Writable::of(descriptor).map_err(|error| {
            D::Error::custom(format_args!("the memory of a SharedArray can't be mapped: {error}"))
        })?;
        Ok(Self { writable })
    }
}

fn name<T>() -> String {
    format!("SharedArray<{}>", type_name::<T>())
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;
    use crate::codec::handle::Descriptor;
    use crate::codec::{self, Encoded};
    use crate::sys::{SealedMemory, WritableMemory};

    /// A handle as another process might send it.
    struct Sent(Vec<Descriptor>, &'static str);

    impl Serialize for Sent {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            handle::serialize("SharedArray", self.0.clone(), self.1, serializer)
        }
    }

    impl<'de> Deserialize<'de> for Sent {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(D::Error::custom("it is only sent"))
        }
    }

    fn arrive<T: AtomicElement>(sent: &Sent) -> Result<SharedArray<T>, String> {
        let Encoded { body, segments, descriptors, .. } = codec::encode(sent).unwrap();
        codec::decode(&body, (segments, descriptors)).map_err(|error| error.to_string())
    }

    fn memory(length: usize) -> Descriptor {
        Descriptor::new(WritableMemory::create(length).unwrap().1.into())
    }

    #[test]
    fn what_is_no_array_of_the_type_is_refused() {
        let array = arrive::<u32>(&Sent(vec![memory(12)], "u32")).unwrap();
        assert_eq!(array.to_vec(), [0, 0, 0]);
        let null = std::fs::File::open("/dev/null").unwrap();
        let sealed = SealedMemory::of(&[0; 8]).unwrap().1;
        let wrong = [
            (Sent(vec![], "u32"), "one descriptor"),
            (Sent(vec![memory(8), memory(8)], "u32"), "one descriptor"),
            (Sent(vec![memory(8)], "u64"), "a SharedArray<u64> instead of a SharedArray<u32>"),
            (Sent(vec![memory(6)], "u32"), "not a whole number"),
            (Sent(vec![Descriptor::new(sealed.into())], "u32"), "frozen"),
            (
                Sent(vec![Descriptor::new(std::os::fd::OwnedFd::from(null).into())], "u32"),
                "not memory",
            ),
        ];
        for (sent, why) in &wrong {
            let error = arrive::<u32>(sent).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_file_is_mapped_once_for_elements_of_one_type() {
        let memory = memory(8);
        let numbers = arrive::<u32>(&Sent(vec![Arc::clone(&memory)], "u32")).unwrap();
        let same = arrive::<u32>(&Sent(vec![Arc::clone(&memory)], "u32")).unwrap();
        assert_eq!(numbers.words().as_ptr(), same.words().as_ptr());
        // Of one of its own, so that no address is accessed in two sizes.
        let bytes = arrive::<u8>(&Sent(vec![memory], "u8")).unwrap();
        assert_ne!(bytes.words().as_ptr().addr(), numbers.words().as_ptr().addr());
        numbers.store(1, u32::MAX);
        assert_eq!(bytes.to_vec(), [0, 0, 0, 0, 255, 255, 255, 255]);
    }

    /// M-10.
    #[test]
    fn an_array_that_is_mapped_elsewhere_comes_back_and_goes_on() {
        let array = SharedArray::new([1_u64, 2]).unwrap();
        let elsewhere = WritableMemory::map(&*array.writable.descriptor).unwrap();
        let error = array.freeze().unwrap_err();
        assert!(error.to_string().contains("another process has it mapped"), "{error}");
        let FreezeError::OtherProcess(array) = error else { panic!("{error}") };
        array.add(1, 5);
        let same: SharedArray<u64> = {
            let sent = Sent(vec![Arc::clone(&array.writable.descriptor)], "u64");
            arrive(&sent).unwrap()
        };
        assert_eq!(same.words().as_ptr(), array.words().as_ptr());
        drop((elsewhere, same));
        assert_eq!(array.freeze().unwrap()[..], [1, 7]);
    }
}
