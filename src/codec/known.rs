//! What is known of each type: whether the compact format can carry it.
//!
//! That shows when a value is decoded again, so the encoder does that. Not with every value, but
//! not only with the first one either: the next may have a variant that was not there yet, or an
//! item in a list that was empty. At such places, the turns of a value, its form is not given by
//! its type. A value is trusted if each of its turns was there in one that has been checked.

use std::any::TypeId;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::form::{hash, mix};
use crate::fork::Own;
use crate::sync::Mutex;

const WORDS: usize = 16;

/// The most that is reserved for a body in advance.
const LARGEST_RESERVE: usize = 64 * 1024;

/// What is reserved besides: a value need not be of the same size, and a number is given room for
/// the longest one before it is written.
const SLACK: usize = 48;

/// What is known of a type. All of this is advice, so nothing has to be in order.
#[derive(Default)]
pub(super) struct Known {
    is_unsuited: AtomicBool,
    /// The turns that have been checked, as a set of hashes. Few types have more than twenty. Two
    /// that share a place are not both checked; then the seal is left, which makes a value that
    /// can't be carried an error.
    checked: [AtomicU64; WORDS],
    /// How many bytes a value takes.
    size: AtomicUsize,
}

impl Known {
    pub(super) fn of<T: 'static>() -> &'static Self {
        type All = Mutex<BTreeMap<TypeId, &'static Known>>;

        const fn none() -> All {
            Mutex::new(BTreeMap::new())
        }

        static ALL: Own<All> = Own::from_start(none(), none);
        thread_local! {
            /// Mostly a thread has to do with one type at a time.
            static LAST: Cell<Option<(TypeId, &'static Known)>> = const { Cell::new(None) };
        }

        let id = TypeId::of::<T>();
        if let Some((last, known)) = LAST.get() {
            if last == id {
                return known;
            }
        }
        // There are as many as types in the program, and they stay.
        let known = *ALL.lock().entry(id).or_insert_with(|| Box::leak(Box::default()));
        LAST.set(Some((id, known)));
        known
    }

    pub(super) fn is_unsuited(&self) -> bool {
        self.is_unsuited.load(Relaxed)
    }

    /// The compact format can't carry all values of the type.
    pub(super) fn set_unsuited(&self) {
        self.is_unsuited.store(true, Relaxed);
    }

    /// How much to reserve for a value.
    pub(super) fn size(&self) -> usize {
        self.size.load(Relaxed) + SLACK
    }

    pub(super) fn learn_size(&self, size: usize) {
        let (size, known) = (size.min(LARGEST_RESERVE), self.size.load(Relaxed));
        // Values of much the same size don't write to what all threads read.
        if size > known || size < known / 4 {
            self.size.store(size, Relaxed);
        }
    }

    pub(super) fn set_checked(&self, turns: &[u16]) {
        for turn in turns {
            self.checked[usize::from(turn / 64)].fetch_or(1 << (turn % 64), Relaxed);
        }
    }

    #[inline]
    fn is_checked(&self, turn: u16) -> bool {
        self.checked[usize::from(turn / 64) % WORDS].load(Relaxed) >> (turn % 64) & 1 == 1
    }
}

/// The way that a value takes.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// The value itself.
    Start,
    None,
    Some,
    /// A list that is not empty.
    Items,
}

/// Where in its type an encoder is: a field of a struct or a variant, by their names. A type that
/// contains itself comes back to the same places.
#[derive(Clone, Copy)]
pub(super) struct Place(u64);

impl Place {
    const OUTERMOST: Self = Self(u64::MAX);

    #[inline]
    pub(super) fn of(name: &str) -> Self {
        Self(hash(name))
    }

    #[inline]
    pub(super) fn field(self, name: &str) -> Self {
        Self(mix(self.0, hash(name)))
    }

    #[inline]
    pub(super) fn element(self, index: usize) -> Self {
        // Not by 0, which mixes in nothing.
        Self(mix(self.0, (index as u64).wrapping_add(1)))
    }
}

/// The turns of one value.
pub(super) struct Turns {
    known: &'static Known,
    pub(super) place: Place,
    /// Those that have not been checked.
    unchecked: Vec<u16>,
}

impl Turns {
    pub(super) fn new(known: &'static Known) -> Self {
        let mut turns = Self { known, place: Place::OUTERMOST, unchecked: Vec::new() };
        turns.take(Way::Start);
        turns
    }

    #[inline]
    pub(super) fn take(&mut self, way: Way) {
        self.meet(self.place.element(way as usize));
    }

    /// Gives the place inside of the variant.
    #[inline]
    pub(super) fn take_variant(&mut self, name: &str, variant: &str) -> Place {
        let place = Place::of(name).field(variant);
        self.meet(Place(mix(self.place.0, place.0)));
        place
    }

    #[inline]
    fn meet(&mut self, place: Place) {
        let turn = (mix(place.0, 0) >> 54) as u16;
        if !self.known.is_checked(turn) {
            self.remember(turn);
        }
    }

    #[cold]
    fn remember(&mut self, turn: u16) {
        // A long list can bring the same one again and again.
        if !self.unchecked.contains(&turn) {
            self.unchecked.push(turn);
        }
    }

    pub(super) fn unchecked(self) -> Vec<u16> {
        self.unchecked
    }
}
