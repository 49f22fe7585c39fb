//! Tests of the codec: every serde form that a type can have, and bytes that are no value.

mod buffers;
mod hostile;
mod messages;
mod types;

use std::fmt::Debug;

use super::{
    Decoder, Encoded, Encoder, Error, ReceivedSegment, Segment, decode, encode, encoder, tag,
};
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
    decode(&encoded.body, received(&encoded.segments))
}

/// A value arrives: alone, behind others, and read by name. It has the same bytes each time.
#[track_caller]
fn assert_arrives<T: Portable + PartialEq + Debug>(value: &T) {
    let encoded = encode(value).unwrap();
    assert_eq!(decoded::<T>(&encoded).as_ref().unwrap(), value);
    assert_eq!(encode(value).unwrap().body, encoded.body);
    encoder::shapes::forget_all();
    assert_eq!(encode(value).unwrap().body, encoded.body);

    let mut encoder = Encoder::new();
    for number in 0..3_u32 {
        encoder.push(&number).unwrap();
        encoder.push(value).unwrap();
    }
    let encoded = encoder.finish();
    for by_name in [false, true] {
        let mut values = Decoder::new(&encoded.body, received(&encoded.segments));
        if by_name {
            values.read_by_name();
        }
        for number in 0..3_u32 {
            assert_eq!(values.next::<u32>().unwrap(), number);
            assert_eq!(values.next::<T>().as_ref().unwrap(), value);
        }
        values.finish().unwrap();
    }
}
