//! What a type's serde form can be, and what bytes can be.

mod buffers;
mod hostile;
mod messages;
mod types;

use std::fmt::Debug;
use std::sync::LazyLock;

use super::body::Body;
use super::form::{Form, SEAL};
use super::known::Known;
use super::{Encoded, Error, Format, ReceivedSegment, Segment, compact, decode, encode, named};
use crate::portable::Portable;

/// As a message is after its way through a socket.
fn received(segments: &[Segment]) -> Vec<ReceivedSegment> {
    let receive = |segment: &Segment| {
        let mut received = ReceivedSegment::new(segment.len()).unwrap();
        received.as_mut().copy_from_slice(segment);
        received
    };
    segments.iter().map(receive).collect()
}

fn decoded<T: Portable>(encoded: &Encoded) -> Result<T, Error> {
    decode(encoded.format, &encoded.body, received(&encoded.segments))
}

static NOTHING_KNOWN: LazyLock<Known> = LazyLock::new(Known::default);

/// Without looking at what is known of the type, and without the check.
fn encoded_as<T: Portable>(format: Format, value: &T) -> Result<Encoded, Error> {
    let (mut body, mut segments) = (Body::default(), Vec::new());
    if format == Format::Named {
        value.serialize(&mut named::Serializer::new(&mut body, &mut segments))?;
        return Ok(Encoded { format, body: body.into_vec(), segments });
    }
    body.append(&[0; SEAL])?;
    let mut serializer = compact::Serializer::new(&mut body, &mut segments, &NOTHING_KNOWN);
    value.serialize(&mut serializer)?;
    let mut form = Form::default();
    form.push(serializer.finish().0);
    let mut body = body.into_vec();
    body[..SEAL].copy_from_slice(&form.seal());
    Ok(Encoded { format, body, segments })
}

/// Tells the format that was chosen for a value, which has to arrive.
#[track_caller]
fn assert_arrives<T: Portable + PartialEq + Debug>(value: &T) -> Format {
    let encoded = encode(value).unwrap();
    assert_eq!(decoded::<T>(&encoded).as_ref().unwrap(), value);
    // The type is known by now.
    let again = encode(value).unwrap();
    assert_eq!(again.format, encoded.format);
    assert_eq!(decoded::<T>(&again).as_ref().unwrap(), value);
    encoded.format
}

/// The compact format carries it; and so does the named one.
#[track_caller]
fn assert_compact<T: Portable + PartialEq + Debug>(value: &T) {
    assert_eq!(assert_arrives(value), Format::Compact);
    let named = encoded_as(Format::Named, value).unwrap();
    assert_eq!(decoded::<T>(&named).as_ref().unwrap(), value);
}

/// Only the named format carries it. Whoever tries the compact one is told so.
#[track_caller]
fn assert_named<T: Portable + PartialEq + Debug>(value: &T) {
    assert_eq!(assert_arrives(value), Format::Named);
    let compact = encoded_as(Format::Compact, value);
    if let Ok(other) = compact.and_then(|compact| decoded::<T>(&compact)) {
        panic!("it was read as {other:?}");
    }
    assert!(Known::of::<T>().is_unsuited());
}
