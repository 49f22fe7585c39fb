//! Memory that processes share, with a lock that is free again when its holder dies. In any process.

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::Release};
use std::time::Instant;

use rustix::fs::{FallocateFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap,
};

use super::robust_list::{DISTANCE, Keeper, Node};
use super::robust_lock;
use super::shared_memory::file;
use crate::fork::{self, Own};
use crate::sync::{Mutex, MutexGuard};

/// Words between which no two processes get into each other's way have lines of their own.
const LINE: usize = 64;

/// The lines for single words: the lock, those of [`event`](RobustMemory::event), and the [slots](RobustMemory::slot).
const LINES: usize = FIRST_SLOT + SLOTS;
const FIRST_SLOT: usize = 64;

/// The number of slots, which is the most processes that can have one of the same memory.
pub(crate) const SLOTS: usize = 128;

/// The part with the lines. Its pages, and the nodes of the list before it, are no others' (16 KiB pages too).
const WORDS_AT: usize = 16 << 10;
const _: () = assert!(LINES * LINE <= WORDS_AT);

/// Looks at the lock before one that may not block gives up.
const TRIES: u32 = 100;

const _: () = assert!(size_of::<Node>() <= size_of::<AtomicU64>());

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// The keepers of this process: one, but for programs that share very much.
pub(super) static KEEPERS: Own<Mutex<Vec<Keeper>>> =
    Own::from_start(Mutex::new(Vec::new()), || Mutex::new(Vec::new()));

/// One process's mapping of the memory. It costs what is touched of it.
///
/// ```text
/// nodes of the list | nothing | lock, event words, slots | words
/// ^ start            <- DISTANCE ->^                     ^ WORDS_AT behind it
/// ```
pub(crate) struct RobustMemory {
    /// This process's own pages; the shared memory is [`DISTANCE`] behind it.
    start: NonNull<u8>,
    /// Of the shared memory, in bytes: at least [`WORDS_AT`], a multiple of 8.
    length: usize,
    /// The keeper's thread that stands for this process, and the process: one that was forked needs its own.
    holder: AtomicU32,
    generation: AtomicU32,
    slot: Mutex<Option<Slot>>,
}

/// The slot that a process has, and as [`RobustMemory`].
struct Slot {
    number: usize,
    holder: u32,
    generation: u32,
}

// SAFETY: all that it gives access to are atomics, which any thread may use, for as long as it is there; the nodes are
// used under the lock of `KEEPERS` only.
unsafe impl Send for RobustMemory {}
// SAFETY: as above.
unsafe impl Sync for RobustMemory {}

impl RobustMemory {
    /// New memory of so many words, all zeros and none of them [reserved](reserve) yet, and the descriptor by which
    /// another process can [`map`](Self::map) it.
    pub(crate) fn create(words: usize) -> io::Result<(Self, OwnedFd)> {
        let length = words.checked_mul(size_of::<AtomicU64>());
        let length = length.and_then(|length| length.checked_add(WORDS_AT));
        let length = length.filter(|length| *length <= isize::MAX as usize - DISTANCE);
        let length = length.ok_or(io::ErrorKind::OutOfMemory)?;
        let fd = file(length)?;
        rustix::fs::ftruncate(&fd, length as u64)?;
        allocate(&fd, 0, WORDS_AT)?;
        rustix::fs::fcntl_add_seals(&fd, SEALS)?;
        Ok((Self::map(&fd)?, fd))
    }

    /// Maps what [`create`](Self::create) has made.
    pub(crate) fn map(fd: impl AsFd) -> io::Result<Self> {
        let is_sealed = rustix::fs::fcntl_get_seals(&fd).is_ok_and(|seals| seals.contains(SEALS));
        let length = usize::try_from(rustix::fs::fstat(&fd)?.st_size).unwrap_or(0);
        let has_length = length >= WORDS_AT && length % size_of::<AtomicU64>() == 0;
        if !is_sealed || !has_length || length > isize::MAX as usize - DISTANCE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not memory that is to be shared",
            ));
        }
        let all = DISTANCE + length;
        let private = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let start =
            unsafe { mmap_anonymous(std::ptr::null_mut(), all, ProtFlags::empty(), private)? };
        let start = NonNull::new(start.cast::<u8>()).ok_or(Errno::NOMEM)?;
        // From here on it is removed if a step fails.
        let generation = fork::generation();
        let (holder, generation) = (0.into(), generation.into());
        let memory = Self { start, length, holder, generation, slot: Mutex::new(None) };
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let own = MapFlags::PRIVATE | MapFlags::FIXED;
        let shared = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: both take the place of parts of the mapping from above, which is this function's. The file can't be
        // made shorter, so all of it stays there.
        unsafe {
            mmap_anonymous(start.as_ptr().cast(), LINES * LINE, access, own)?;
            mmap(memory.shared().as_ptr().cast(), length, access, shared, &fd, 0)?;
        }
        memory.link()?;
        Ok(memory)
    }

    /// The shared memory.
    fn shared(&self) -> NonNull<u8> {
        // SAFETY: the mapping goes on behind it.
        unsafe { self.start.byte_add(DISTANCE) }
    }

    fn line(&self, number: usize) -> &AtomicU32 {
        assert!(number < LINES);
        // SAFETY: within the first `WORDS_AT` bytes of the shared memory, which is mapped as long as `self` is
        // there; aligned, as the memory is to a page; and all that any process does with it is atomic.
        unsafe { self.shared().byte_add(number * LINE).cast().as_ref() }
    }

    /// A word of its own to wait for; there are 63.
    pub(crate) fn event(&self, number: usize) -> &AtomicU32 {
        self.line(1 + number)
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        let words = (self.length - WORDS_AT) / size_of::<AtomicU64>();
        // SAFETY: so many are mapped behind the lines as long as `self` is there; aligned, as the memory is to a page;
        // and all that any process does with them is atomic.
        unsafe {
            let start = self.shared().byte_add(WORDS_AT).cast();
            NonNull::slice_from_raw_parts(start, words).as_ref()
        }
    }

    /// The lock's word, for who holds it for longer than a call: see [`robust_lock`].
    pub(crate) fn lock_word(&self) -> &AtomicU32 {
        self.line(0)
    }

    /// Returns the number of the thread that holds the lock if this process does. An error: it was forked, and has no
    /// thread for the list.
    #[inline]
    pub(crate) fn holder(&self) -> io::Result<u32> {
        if self.generation.load(Relaxed) != fork::generation() {
            self.link()?;
        }
        Ok(self.holder.load(Relaxed))
    }

    /// Blocks until this process has the lock, or until `deadline`: `None`. An error: it was forked, and has no thread
    /// for the list.
    #[inline]
    pub(crate) fn lock(&self, deadline: Option<Instant>) -> io::Result<Option<RobustGuard<'_>>> {
        let (word, holder) = (self.line(0), self.holder()?);
        let is_locked = robust_lock::lock(word, holder, deadline);
        Ok(is_locked.then(|| RobustGuard { word, holder, not_send: PhantomData }))
    }

    /// Takes the lock, unless another has it.
    #[inline]
    pub(crate) fn try_lock(&self) -> io::Result<Option<RobustGuard<'_>>> {
        let (word, holder) = (self.line(0), self.holder()?);
        let is_locked = robust_lock::try_lock(word, holder);
        Ok(is_locked.then(|| RobustGuard { word, holder, not_send: PhantomData }))
    }

    /// Takes the lock, unless another has it for longer than a moment.
    pub(crate) fn try_lock_soon(&self) -> io::Result<Option<RobustGuard<'_>>> {
        for _ in 0..TRIES {
            if let Some(locked) = self.try_lock()? {
                return Ok(Some(locked));
            }
            std::hint::spin_loop();
        }
        Ok(None)
    }

    /// Puts the lock into the list of this process.
    #[cold]
    fn link(&self) -> io::Result<()> {
        fork::watch();
        let mut keepers = KEEPERS.lock();
        let generation = fork::generation();
        if self.holder.load(Relaxed) != 0 && self.generation.load(Relaxed) == generation {
            return Ok(()); // Another thread of a forked process has.
        }
        let keeper = with_room(&mut keepers)?;
        // SAFETY: it is in no list: new, or in the list of a process that this one was forked from, whose memory this
        // one has a copy of. Its page is this value's own, can be written to, and is used for nothing else; `drop`
        // unlinks it before the mapping goes. The lock is at the distance.
        unsafe { keeper.link(self.node(0)) };
        self.holder.store(keeper.thread, Relaxed);
        self.generation.store(generation, Relaxed);
        Ok(())
    }

    /// The node of a line.
    fn node(&self, line: usize) -> NonNull<Node> {
        assert!(line < LINES);
        // SAFETY: the mapping begins with a page of its own for each page of the lines.
        unsafe { self.start.byte_add(line * LINE).cast() }
    }

    /// Has the first so many words be locks. A process that is forked from this one finds them in no list.
    pub(super) fn allow_locks(&self, words: usize) -> io::Result<()> {
        let length = WORDS_AT + words * size_of::<AtomicU64>();
        assert!(length <= DISTANCE && words <= self.words().len());
        // SAFETY: this value's own part of the mapping, before the shared one. Nodes of its lines that are in the list
        // stay as they are; one that is forked links them anew.
        unsafe {
            let start = self.start.as_ptr().cast();
            mprotect(start, length, MprotectFlags::READ | MprotectFlags::WRITE)?;
            madvise(start, length, Advice::LinuxWipeOnFork)?;
        }
        Ok(())
    }

    /// A word that is a lock, and its node. The caller has [allowed](Self::allow_locks) it.
    pub(super) fn lock_in_word(&self, number: usize) -> (&AtomicU32, NonNull<Node>) {
        let word = NonNull::from(&self.words()[number]).cast();
        let at = WORDS_AT + number * size_of::<AtomicU64>();
        assert!(at < DISTANCE);
        // SAFETY: the first half of a word, with which any process does only what is atomic; and what is before it at
        // the distance is within this process's own part.
        unsafe { (word.as_ref(), self.start.byte_add(at).cast()) }
    }

    /// The word of a slot, of which [`holder_of`](super::robust_lock::holder_of) says whether a process has it, and whether that has died.
    pub(crate) fn slot(&self, number: usize) -> &AtomicU32 {
        assert!(number < SLOTS);
        self.line(FIRST_SLOT + number)
    }

    /// The number of this process's slot.
    pub(crate) fn own_slot(&self) -> Option<usize> {
        let slot = self.slot.lock();
        slot.as_ref().filter(|slot| slot.generation == fork::generation()).map(|slot| slot.number)
    }

    /// Takes a slot that no process has, for this one, which has none. By the caller that has the lock.
    pub(crate) fn take_slot(&self, number: usize) -> io::Result<()> {
        let word = self.slot(number);
        fork::watch();
        let mut slot = self.slot.lock();
        let mut keepers = KEEPERS.lock();
        let keeper = with_room(&mut keepers)?;
        // SAFETY: it is in no list of this process, which has no slot, or left it. Its page is this value's own, can be
        // written to, and is used for nothing else; `drop` unlinks it before the mapping goes, as `slot` says which it
        // is. The word is at the distance.
        unsafe { keeper.link(self.node(FIRST_SLOT + number)) };
        let generation = fork::generation();
        *slot = Some(Slot { number, holder: keeper.thread, generation });
        // Behind that: a process that is killed before has not had the slot.
        word.store(keeper.thread, Release);
        Ok(())
    }
}

/// The keeper that has room for one more lock.
pub(super) fn with_room<'a>(
    keepers: &'a mut MutexGuard<'_, Vec<Keeper>>,
) -> io::Result<&'a mut Keeper> {
    let free = match keepers.iter().position(Keeper::has_room) {
        Some(free) => free,
        None => {
            keepers.push(Keeper::start()?);
            keepers.len() - 1
        }
    };
    Ok(&mut keepers[free])
}

impl Drop for RobustMemory {
    fn drop(&mut self) {
        if let Some(Slot { number, holder, generation }) = self.slot.lock().take() {
            if generation == fork::generation() {
                self.slot(number).store(0, Release);
                let mut keepers = KEEPERS.lock();
                if let Some(keeper) = keepers.iter_mut().find(|keeper| keeper.thread == holder) {
                    // SAFETY: this process has put it into that list, as its number and the generation say.
                    unsafe { keeper.unlink(self.node(FIRST_SLOT + number)) };
                }
            }
        }
        let holder = *self.holder.get_mut();
        if holder != 0 && *self.generation.get_mut() == fork::generation() {
            let mut keepers = KEEPERS.lock();
            if let Some(keeper) = keepers.iter_mut().find(|keeper| keeper.thread == holder) {
                // SAFETY: this process has put it into that list, as its number and the generation say.
                unsafe { keeper.unlink(self.start.cast()) };
            }
        }
        // SAFETY: it is this value's own mapping, and no reference to it outlives the value. No list has its node:
        // it was taken out, or never in, or in the list of another process, in that one's memory.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), DISTANCE + self.length) };
    }
}

/// The lock, until it is dropped.
#[must_use]
pub(crate) struct RobustGuard<'a> {
    word: &'a AtomicU32,
    holder: u32,
    not_send: PhantomData<*const ()>,
}

impl Drop for RobustGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        robust_lock::unlock(self.word, self.holder);
    }
}

/// Has the system set aside what these words need. An access to a word for which there is no memory would be the death
/// of the process (SIGBUS).
pub(crate) fn reserve(fd: impl AsFd, words: Range<usize>) -> io::Result<()> {
    let [start, end] = [words.start, words.end].map(|at| WORDS_AT + at * size_of::<AtomicU64>());
    allocate(fd, start, end - start)
}

fn allocate(fd: impl AsFd, from: usize, length: usize) -> io::Result<()> {
    match rustix::fs::fallocate(fd, FallocateFlags::empty(), from as u64, length as u64) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        reserved => Ok(reserved?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::process::{Child, Command};
    use std::time::Duration;

    use super::*;

    const PART: &str = "CF_TEST_ROBUST_MEMORY";

    /// Runs this test again as a process that has the memory.
    fn child(fd: &OwnedFd, part: &str) -> Child {
        // It is closed by `exec`; its duplicate is not.
        let duplicate = rustix::io::dup(fd).unwrap();
        let name = std::thread::current().name().unwrap().to_owned();
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", &name]).stdout(std::process::Stdio::null());
        program.env(PART, format!("{} {part}", duplicate.as_raw_fd())).spawn().unwrap()
    }

    /// In the child: the memory, and its part.
    fn part() -> Option<(RobustMemory, String)> {
        let part = std::env::var(PART).ok()?;
        let (fd, part) = part.split_once(' ').unwrap();
        // SAFETY: the test has left it open for this process, and nothing else uses it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd.parse().unwrap()) };
        Some((RobustMemory::map(&fd).unwrap(), part.to_owned()))
    }

    fn hold(memory: &RobustMemory) -> ! {
        let _locked = memory.lock(None).unwrap();
        memory.words()[0].store(1, Relaxed);
        loop {
            std::thread::park();
        }
    }

    /// C-2, C-7.
    #[test]
    fn the_lock_of_a_process_that_is_killed_goes_to_one_that_waits() {
        if let Some((memory, part)) = part() {
            if part == "forks" {
                drop(memory.lock(None).unwrap());
                // SAFETY: the child uses the memory, and a thread that it starts.
                if unsafe { libc::fork() } != 0 {
                    loop {
                        std::thread::park();
                    }
                }
                memory.words()[1].store(std::process::id().into(), Relaxed);
            }
            hold(&memory);
        }
        let (memory, fd) = RobustMemory::create(512).unwrap();
        reserve(&fd, 0..512).unwrap();
        for round in 0..20 {
            let mut child = child(&fd, if round % 4 == 3 { "forks" } else { "holds" });
            while memory.words()[0].swap(0, Relaxed) == 0 {
                std::thread::yield_now();
            }
            assert!(memory.try_lock().unwrap().is_none());
            if round % 2 == 1 {
                let soon = Instant::now() + Duration::from_millis(1);
                assert!(memory.lock(Some(soon)).unwrap().is_none());
            }
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| drop(memory.lock(None).unwrap()));
                // It has said that it waits, or, in every other round, one did before.
                while !robust_lock::has_waiters(memory.line(0)) {
                    std::thread::yield_now();
                }
                match memory.words()[1].swap(0, Relaxed) {
                    0 => {}
                    // The forked child is the holder.
                    pid => {
                        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
                        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                    }
                }
                child.kill().unwrap();
                waits.join().unwrap();
            });
            child.wait().unwrap();
            drop(memory.try_lock().unwrap().expect("it is free"));
        }
    }

    /// C-3.
    #[test]
    fn of_what_is_done_under_the_lock_nobody_sees_a_part_but_after_a_kill() {
        if let Some((memory, _)) = part() {
            loop {
                let _locked = memory.lock(None).unwrap();
                let both = &memory.words()[..2];
                let one = both[0].load(Relaxed);
                // The last holder may have been killed between its two stores.
                both[1].store(one + 1, Relaxed);
                both[0].store(one + 1, Relaxed);
                memory.words()[2].fetch_add(1, Relaxed);
            }
        }
        let (memory, fd) = RobustMemory::create(512).unwrap();
        reserve(&fd, 0..512).unwrap();
        let mut children: Vec<_> = (0..4).map(|_| child(&fd, "")).collect();
        for round in 0..40 {
            let before = memory.words()[2].load(Relaxed);
            while memory.words()[2].load(Relaxed) < before + 1_000 {
                std::thread::yield_now();
            }
            let killed = &mut children[round % 4];
            killed.kill().unwrap();
            killed.wait().unwrap();
            *killed = child(&fd, "");
            let _locked = memory.lock(None).unwrap();
            let [one, other] = [0, 1].map(|at| memory.words()[at].load(Relaxed));
            assert!(other == one || other == one + 1, "{one} {other}");
        }
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// C-6.
    #[test]
    fn a_lock_with_the_number_of_no_thread_is_free() {
        let (memory, _) = RobustMemory::create(512).unwrap();
        // Above the highest number that Linux gives.
        for garbage in [0x3fff_fff0, 0x8000_0000 | (5 << 20), 0x4000_0000, 0x8000_0000] {
            memory.line(0).store(garbage, Relaxed);
            drop(memory.lock(None).unwrap());
            drop(memory.try_lock().unwrap().unwrap());
        }
    }

    /// C-7.
    #[test]
    fn more_locks_than_a_list_may_have_are_in_several() {
        let all: Vec<_> = (0..2_100).map(|_| RobustMemory::create(1).unwrap().0).collect();
        assert!(KEEPERS.lock().len() >= 2);
        for memory in &all {
            drop(memory.lock(None).unwrap());
        }
        let first = all[0].holder().unwrap();
        assert_ne!(all[2_099].holder().unwrap(), first);
    }

    #[test]
    fn other_files_are_refused() {
        let file = super::super::shared_memory::file(WORDS_AT).unwrap();
        rustix::fs::ftruncate(&file, WORDS_AT as u64).unwrap();
        let refused = RobustMemory::map(&file).map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "not sealed: {refused}");
        let short = super::super::shared_memory::file(8).unwrap();
        rustix::fs::ftruncate(&short, 8).unwrap();
        rustix::fs::fcntl_add_seals(&short, SEALS).unwrap();
        assert!(RobustMemory::map(&short).is_err());
        assert!(RobustMemory::create(usize::MAX / 8).is_err());
    }
}
