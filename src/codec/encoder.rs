use super::body::Body;
use super::compact;
use super::error::Error;
use super::form::{Form, SEAL};
use super::known::Known;
use super::named;
use super::segment::Received;
use super::{Encoded, Format, Segment};
use crate::portable::Portable;

/// A message with one value.
pub(crate) fn encode<T: Portable>(value: &T) -> Result<Encoded, Error> {
    let mut encoder = Encoder::new();
    match encoder.push(value)? {
        Pushed::Appended => Ok(encoder.finish()),
        Pushed::ForTheNext => unreachable!("the first value decides the format"),
    }
}

/// Puts values into one message.
///
/// The first one decides the format.
#[derive(Default)]
pub(crate) struct Encoder {
    format: Format,
    values: usize,
    body: Body,
    segments: Vec<Segment>,
    form: Form,
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Pushed {
    Appended,
    /// It can't go by the format of this message, which is as before: it is for another one.
    ForTheNext,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.values
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn has_segments(&self) -> bool {
        !self.segments.is_empty()
    }

    /// What there is so far. It only grows; a compact message begins with room for its seal.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// What a compact message of these values begins with.
    pub(crate) fn seal(&self) -> [u8; SEAL] {
        self.form.seal()
    }

    /// Appends a value. After an error, or a panic of the value's, the message is as before.
    pub(crate) fn push<T: Portable>(&mut self, value: &T) -> Result<Pushed, Error> {
        let known = Known::of::<T>();
        if self.values == 0 {
            self.body.reserve(known.size())?;
            self.begin(if known.is_unsuited() { Format::Named } else { Format::Compact })?;
        }
        let start = self.body.len();
        match self.format {
            Format::Compact if known.is_unsuited() => return Ok(Pushed::ForTheNext),
            Format::Compact => {
                // If something is wrong with the value itself, the named format tells as well.
                if self.push_compact(value, known).is_err() {
                    if self.values > 0 {
                        return Ok(Pushed::ForTheNext);
                    }
                    self.begin(Format::Named)?;
                    self.push_named(value)?;
                    known.set_unsuited();
                }
            }
            Format::Named => self.push_named(value)?,
        }
        self.values += 1;
        known.learn_size(self.body.len().saturating_sub(start));
        Ok(Pushed::Appended)
    }

    fn begin(&mut self, format: Format) -> Result<(), Error> {
        self.format = format;
        self.body.as_vec().clear();
        match format {
            Format::Compact => self.body.append(&[0; SEAL]),
            Format::Named => Ok(()),
        }
    }

    fn push_compact<T: Portable>(&mut self, value: &T, known: &'static Known) -> Result<(), Error> {
        let draft = Draft::new(self);
        let mut serializer =
            compact::Serializer::new(&mut draft.to.body, &mut draft.to.segments, known);
        let written = value.serialize(&mut serializer);
        let (form, unchecked) = serializer.finish();
        let checked = written
            .and_then(|()| if unchecked.is_empty() { Ok(()) } else { draft.check::<T>(form) });
        checked?;
        known.set_checked(&unchecked);
        draft.to.form.push(form);
        draft.keep();
        Ok(())
    }

    fn push_named<T: Portable>(&mut self, value: &T) -> Result<(), Error> {
        let draft = Draft::new(self);
        let mut serializer = named::Serializer::new(&mut draft.to.body, &mut draft.to.segments);
        value.serialize(&mut serializer)?;
        draft.keep();
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Encoded {
        if let (Format::Compact, Some(seal)) = (self.format, self.body.as_vec().first_chunk_mut()) {
            *seal = self.form.seal();
        }
        Encoded { format: self.format, body: self.body.into_vec(), segments: self.segments }
    }
}

/// A value that is being appended. Unless it is kept, there was none.
struct Draft<'a> {
    to: &'a mut Encoder,
    start: usize,
    segments: usize,
}

impl<'a> Draft<'a> {
    fn new(to: &'a mut Encoder) -> Self {
        let (start, segments) = (to.body.len(), to.segments.len());
        Self { to, start, segments }
    }

    fn keep(self) {
        std::mem::forget(self);
    }

    /// Whether the value can be decoded again.
    fn check<T: Portable>(&self, form: Form) -> Result<(), Error> {
        let segments = Received::new(self.to.segments.clone(), self.segments);
        let mut values = compact::Deserializer::new(&self.to.body[self.start..], segments);
        values.value::<T>()?;
        if values.form() != form {
            return Err(Error::not_as_written());
        }
        values.finish()
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        self.to.body.as_vec().truncate(self.start);
        self.to.segments.truncate(self.segments);
    }
}
