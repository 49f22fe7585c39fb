//! The shapes of a message that is being encoded. At the end that writes.
//!
//! A shape is a list of names: those of a struct's fields, or of one variant. The shapes of a message
//! are numbered in the order in which they are first complete, and no two have the same names. So the
//! numbers, and with them the bytes, depend on nothing but the values.
//!
//! The names of a struct come one by one, so its shape is certain only at its end, while its values
//! stand behind the number. So shape and number are guessed, the names are checked as they come, and a
//! wrong number is corrected at the end. Each thread keeps the shapes that it has met, which makes
//! the guesses right nearly always.

use std::any::TypeId;
use std::cell::Cell;

use super::body::Body;
use crate::codec::error::Error;
use crate::codec::tag;

/// Number of places that remember the last shape of a name.
const PLACES: usize = 64;

/// Number of shapes that a thread keeps from one message to the next.
const KEPT: usize = 256;

/// Stands behind the names of a shape. No name is at its address.
static END: &str = "\0 the end of the names of a shape";

thread_local! {
    static SPARE: Cell<Option<Box<Shapes>>> = const { Cell::new(None) };
    /// The type of the last value that began a message with shapes.
    static LAST: Cell<Option<TypeId>> = const { Cell::new(None) };
}

/// Returns whether a message that begins with a value of this type is likely to have the shapes of the last
/// one that has had some.
#[inline]
pub(super) fn are_expected(first: TypeId) -> bool {
    LAST.try_with(|last| last.get() == Some(first)).unwrap_or(false)
}

/// The shapes that a thread has met. One message at a time numbers some of them.
pub(super) struct Shapes {
    all: Vec<Shape>,
    /// The names of all shapes, an [`END`] before the first and behind each of them.
    names: Vec<&'static str>,
    /// The shapes of the message, in order of their numbers: indices into `all`.
    numbered: Vec<usize>,
    /// Those of the first value of the last message, whose type is [`LAST`].
    expected: Vec<usize>,
    /// The names so far of structs that are being written without a guess, the innermost last.
    open: Vec<&'static str>,
    /// Indices into `all`, by the key of a struct or variant: its last shape.
    places: [usize; PLACES],
}

/// Has the thread forget the shapes that it has met.
#[cfg(test)]
pub(in crate::codec) fn forget_all() {
    SPARE.take();
    LAST.take();
}

struct Shape {
    key: Key,
    start: usize,
    end: usize,
    /// `None`: the message does not have it yet.
    number: Option<usize>,
    /// As it is written.
    declaration: Box<[u8]>,
}

/// Identifies a struct or a variant while the program runs. Only guesses are made of it: one name may
/// be at several addresses, and two types may have the same one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key(usize, usize);

impl Key {
    #[inline]
    fn of_struct(name: &'static str, len: usize) -> Self {
        Self(name.as_ptr().addr(), len)
    }

    #[inline]
    fn of_variant(name: &'static str) -> Self {
        Self(name.as_ptr().addr(), usize::MAX)
    }

    #[inline]
    fn place(self) -> usize {
        (self.0 ^ self.1 << 4).wrapping_mul(0x9e37_79b9) >> 16 & (PLACES - 1)
    }
}

/// Names of one type are mostly at one address.
#[inline]
fn is_same(a: &'static str, b: &'static str) -> bool {
    std::ptr::eq(a, b) || a == b
}

/// A struct that is being written.
pub(super) struct Open {
    /// The index of the shape that it is expected to have. `None`: its names are the open ones from
    /// `start` on.
    guess: Option<usize>,
    /// The index of the next name that is expected.
    next: usize,
    start: usize,
    key: Key,
    /// The number that was written.
    pub(super) number: usize,
}

impl Shapes {
    /// Takes the thread's shapes for a message.
    #[cold]
    pub(super) fn take() -> Box<Self> {
        match SPARE.try_with(Cell::take) {
            Ok(Some(mut spare)) if spare.all.len() <= KEPT => {
                // The numbers are those of the last message.
                spare.truncate(0);
                spare
            }
            // There are none or too many; or a message has them whose values encode this one; or
            // the thread is ending.
            _ => Box::new(Self {
                all: Vec::new(),
                names: vec![END],
                numbered: Vec::new(),
                expected: Vec::new(),
                open: Vec::new(),
                places: [0; PLACES],
            }),
        }
    }

    /// Gives them back, after the message.
    pub(super) fn give_back(self: Box<Self>) {
        let _ = SPARE.try_with(|spare| spare.set(Some(self)));
    }

    /// The number of shapes that the message has.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.numbered.len()
    }

    /// Takes all but the first `len` shapes out of the message.
    pub(super) fn truncate(&mut self, len: usize) {
        for index in self.numbered.drain(len..) {
            self.all[index].number = None;
        }
        self.open.clear();
    }

    #[inline]
    fn guess(&self, key: Key) -> Option<(usize, &Shape)> {
        // An unused place has index 0; the key shows whether the shape is meant.
        let index = self.places[key.place()];
        self.all.get(index).filter(|shape| shape.key == key).map(|shape| (index, shape))
    }

    /// Begins a struct with `len` fields.
    #[inline]
    pub(super) fn open(&self, name: &'static str, len: usize) -> Open {
        let (key, start) = (Key::of_struct(name, len), self.open.len());
        match self.guess(key) {
            Some((index, shape)) => {
                // The next number is right unless a new shape is completed inside of this struct.
                let number = shape.number.unwrap_or(self.len());
                Open { guess: Some(index), next: shape.start, start, key, number }
            }
            None => Open { guess: None, next: 0, start, key, number: self.len() },
        }
    }

    /// Adds the next name to a struct.
    #[inline]
    pub(super) fn add(&mut self, to: &mut Open, name: &'static str) {
        match self.names.get(to.next) {
            // By address, since to compare texts takes longer; behind the last name is `END`.
            Some(next) if std::ptr::eq(*next, name) => to.next += 1,
            _ => self.add_other(to, name),
        }
    }

    #[cold]
    fn add_other(&mut self, to: &mut Open, name: &'static str) {
        if to.guess.is_some() && self.names[to.next] == name {
            to.next += 1;
            return;
        }
        self.give_up(to);
        self.open.push(name);
    }

    /// The names that a guess has foretold rightly are open ones from here on.
    #[cold]
    fn give_up(&mut self, struct_: &mut Open) {
        if let Some(index) = struct_.guess.take() {
            self.open.extend(&self.names[self.all[index].start..struct_.next]);
            struct_.next = 0;
        }
    }

    /// Ends a struct, and gives the number of its shape.
    #[inline]
    pub(super) fn close(&mut self, mut struct_: Open) -> Result<usize, Error> {
        match struct_.guess {
            Some(index) if struct_.next == self.all[index].end => Ok(self.number(index)),
            _ => {
                self.give_up(&mut struct_);
                self.find(struct_.key, struct_.start)
            }
        }
    }

    /// Gives the number of a variant's shape.
    #[inline]
    pub(super) fn variant(&mut self, name: &'static str) -> Result<usize, Error> {
        let key = Key::of_variant(name);
        match self.guess(key) {
            Some((index, shape)) if is_same(self.names[shape.start], name) => {
                Ok(self.number(index))
            }
            _ => {
                self.open.push(name);
                self.find(key, self.open.len() - 1)
            }
        }
    }

    #[inline]
    fn number(&mut self, index: usize) -> usize {
        match self.all[index].number {
            Some(number) => number,
            None => self.number_next(index),
        }
    }

    #[inline(never)]
    fn number_next(&mut self, index: usize) -> usize {
        let number = self.numbered.len();
        self.numbered.push(index);
        self.all[index].number = Some(number);
        number
    }

    /// Gives the number of the shape of the open names from `start` on, which end with that.
    #[cold]
    fn find(&mut self, key: Key, start: usize) -> Result<usize, Error> {
        let names = &self.open[start..];
        let is_it = |shape: &Shape| {
            let known = &self.names[shape.start..shape.end];
            known.len() == names.len() && known.iter().zip(names).all(|(a, b)| is_same(a, b))
        };
        let index = match self.all.iter().position(is_it) {
            Some(index) => index,
            None => {
                let mut declaration = Body::default();
                declaration.put_varint(names.len() as u64)?;
                names.iter().try_for_each(|name| declaration.put_varint(name.len() as u64))?;
                names.iter().try_for_each(|name| declaration.append(name.as_bytes()))?;
                let declaration = declaration.into_vec().into();
                let first = self.names.len();
                self.names.extend(names);
                let end = self.names.len();
                self.names.push(END);
                self.all.push(Shape { key, start: first, end, number: None, declaration });
                self.all.len() - 1
            }
        };
        self.open.truncate(start);
        self.all[index].key = key;
        self.places[key.place()] = index;
        Ok(self.number(index))
    }

    /// Writes the declarations that the first value of the message will probably need.
    pub(super) fn declare_expected(&self, body: &mut Body) -> Result<(), Error> {
        if self.expected.is_empty() { Ok(()) } else { self.write(&self.expected, body) }
    }

    /// Declares the shapes of the first value of a message, which is of type `first`, where the
    /// expected ones take up the first `declared` bytes.
    pub(super) fn declare_first(
        &mut self,
        first: TypeId,
        declared: usize,
        body: &mut Body,
    ) -> Result<(), Error> {
        // The guess was right, and has the bytes that would be written now.
        if declared > 0 && self.numbered == self.expected {
            return Ok(());
        }
        // Taken out, since the bytes must not depend on what was encoded before.
        body.as_vec().drain(..declared);
        self.declare(0, body, 0)?;
        self.expected.clone_from(&self.numbered);
        let _ = LAST.try_with(|last| last.set(Some(first)));
        Ok(())
    }

    /// Puts the shapes from number `first` on before the value that begins at `start`.
    pub(super) fn declare(&self, first: usize, body: &mut Body, start: usize) -> Result<(), Error> {
        let end = body.len();
        if first < self.len() {
            self.write(&self.numbered[first..], body)?;
        }
        let declared = body.len() - end;
        body.as_vec()[start..].rotate_right(declared);
        Ok(())
    }

    fn write(&self, shapes: &[usize], body: &mut Body) -> Result<(), Error> {
        body.push(tag::SHAPES)?;
        body.put_varint(shapes.len() as u64)?;
        shapes.iter().try_for_each(|index| body.append(&self.all[*index].declaration))
    }
}
