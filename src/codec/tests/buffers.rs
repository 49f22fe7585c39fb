//! Buffers, and the memory that they lie in.

use std::fmt::Debug;
use std::panic::catch_unwind;

use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};
use serde::{Deserialize, Serialize, Serializer};

use super::*;
use crate::codec::BUFFER;
use crate::codec::buffer::{Buffer, Element};

#[test]
fn buffers_of_all_numbers_and_lengths_arrive() {
    #[track_caller]
    fn check<T: Element + Portable + Debug + PartialEq>(number: T) {
        for len in [0, 1, 7, 1000, 5000] {
            let buffer = Buffer::from(vec![number; len]);
            assert_arrives(&buffer);
            assert_arrives(&(1_u8, vec![Some(buffer.clone()), None], buffer, "x".to_owned()));
        }
    }
    check(200_u8);
    check(-100_i8);
    check(60_000_u16);
    check(-30_000_i16);
    check(u32::MAX);
    check(i32::MIN);
    check(u64::MAX);
    check(i64::MIN);
    check(0.1_f32);
    check(f64::MIN_POSITIVE);
    check(u128::MAX);
    check(usize::MAX);
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable, Serialize, Deserialize)]
#[repr(C)]
struct Pixel {
    color: [u8; 3],
    depth: u8,
    weight: f32,
}

/// An alignment that received memory does not have.
#[derive(Clone, Copy, Debug, PartialEq, NoUninit, AnyBitPattern, Serialize, Deserialize)]
#[repr(C, align(128))]
struct Wide {
    low: [u64; 8],
    high: [u64; 8],
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable, Serialize, Deserialize)]
#[repr(C)]
struct Nothing;

#[test]
fn buffers_of_structs_arrive() {
    #[track_caller]
    fn check<T: Element + Portable + Debug + PartialEq>(element: T) {
        for len in [0, 1, 7, 1000, 5000] {
            let buffer = Buffer::from(vec![element; len]);
            assert_arrives(&buffer);
            let inside = (1_u8, vec![Some(buffer.slice(len / 2..)), None], buffer, "x".to_owned());
            assert_arrives(&inside);
        }
    }
    check(Pixel { color: [1, 2, 3], depth: 4, weight: 0.5 });
    check([[1.5_f32; 4]; 2]);
    check(Wide { low: [1; 8], high: [2; 8] });
    check(Nothing);
    check([Nothing; 2]);
}

#[test]
fn structs_are_not_copied_and_are_told_from_others() {
    let pixels = vec![Pixel { color: [9; 3], depth: 1, weight: 2.0 }; 2000];
    let at = pixels.as_ptr();
    let encoded = encode(&Buffer::from(pixels)).unwrap();
    assert_eq!((encoded.segments[0].as_ptr(), encoded.segments[0].len()), (at.cast(), 16_000));
    let segments = received(&encoded.segments);
    let at = segments[0].as_ptr();
    assert_eq!(decode::<Buffer<Pixel>>(&encoded.body, segments).unwrap().as_ptr(), at.cast());

    let other = decoded::<Buffer<u64>>(&encoded).unwrap_err().to_string();
    assert_eq!(other, "a buffer of another type instead of u64");
    let other = decoded::<Buffer<[u32; 2]>>(&encoded).unwrap_err().to_string();
    assert_eq!(other, "a buffer of another type instead of [u32; 2]");
    let numbers = encode(&Buffer::from([1_u64; 1000])).unwrap();
    let other = decoded::<Buffer<Pixel>>(&numbers).unwrap_err().to_string();
    assert!(
        other.starts_with("a buffer of u64 instead of ") && other.ends_with("Pixel"),
        "{other}"
    );
    // Their digest is cut off.
    for len in 0..13 {
        let mut body = vec![tag::BUFFER, len, 0xff, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        body.truncate(2 + usize::from(len));
        assert!(decode::<Buffer<Pixel>>(&body, received(&encoded.segments)).is_err());
    }
}

#[test]
fn structs_are_read_from_a_sequence_but_not_shown_as_one() {
    let pixels = vec![Pixel { color: [9; 3], depth: 1, weight: 2.0 }; 3];
    let buffer = Buffer::from(pixels.clone());
    assert_eq!(decoded::<Buffer<Pixel>>(&encode(&pixels).unwrap()).unwrap(), buffer);
    let json = serde_json::to_string(&buffer).unwrap();
    assert_eq!(json, serde_json::to_string(&pixels).unwrap());
    assert_eq!(serde_json::from_str::<Buffer<Pixel>>(&json).unwrap(), pixels);

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Pixels(Buffer<Pixel>),
    }
    let encoded = encode(&(Untagged::Pixels(buffer), 5)).unwrap();
    let error = decoded::<(Untagged, i32)>(&encoded).unwrap_err().to_string();
    assert!(error.starts_with("a buffer of structs can only be read as one"), "{error}");
    // It can be skipped, as any value.
    let mut values = Decoder::new(&encoded.body, received(&encoded.segments));
    assert!(values.next::<(Untagged, i32)>().is_err());
    assert!(values.finish().is_ok());
}

/// 64 MiB lie where they were made, and then where they were received.
#[test]
fn large_buffers_are_not_copied() {
    let numbers: Vec<f64> = (0..8 << 20).map(f64::from).collect();
    let at = numbers.as_ptr();
    let encoded = encode(&(1_u8, Buffer::from(numbers))).unwrap();
    assert!(encoded.body.len() < 64);
    assert_eq!(encoded.segments.len(), 1);
    assert_eq!(encoded.segments[0].as_ptr(), at.cast());
    assert_eq!(encoded.segments[0].len(), 64 << 20);

    let segments = received(&encoded.segments);
    let at = segments[0].as_ptr();
    let (_, buffer): (u8, Buffer<f64>) = decode(&encoded.body, segments).unwrap();
    assert_eq!(buffer.as_ptr(), at.cast());
    assert_eq!((buffer.len(), buffer[5], buffer[(8 << 20) - 1]), (8 << 20, 5.0, 8388607.0));
}

#[test]
fn a_buffer_keeps_its_memory_as_long_as_anybody_has_it() {
    let buffer = Buffer::from(vec![1_u32; 2000]);
    let encoded = encode(&buffer).unwrap();
    drop(buffer);
    assert!(encoded.segments[0].iter().all(|byte| *byte < 2));
    let buffer: Buffer<u32> = decoded(&encoded).unwrap();
    drop(encoded);
    let again = encode(&buffer.clone()).unwrap();
    assert_eq!(again.segments[0].as_ptr(), buffer.as_ptr().cast());
    drop(buffer);
    assert_eq!(decoded::<Buffer<u32>>(&again).unwrap().into_vec(), [1; 2000]);
}

#[test]
fn a_part_of_a_buffer_shares_its_memory_and_travels_alone() {
    let whole: Buffer<u64> = (0..10_000).collect();
    let part = whole.slice(1000..=2999);
    assert_eq!((part.len(), part[0], part.as_ptr()), (2000, 1000, whole[1000..].as_ptr()));
    assert_eq!(part.slice(..).slice(10..).slice(..1), [1010]);
    assert!(whole.slice(10_000..).is_empty() && whole.slice(..0).is_empty());
    let encoded = encode(&part).unwrap();
    assert_eq!((encoded.segments.len(), encoded.segments[0].len()), (1, 16_000));
    drop(whole);
    assert_eq!(decoded::<Buffer<u64>>(&encoded).unwrap(), part);
    // Never the memory of the whole, also if nothing else has it.
    drop(encoded);
    assert_eq!(part.into_vec(), (1000..3000).collect::<Vec<_>>());
    for range in [0..3, 3..3] {
        assert!(catch_unwind(|| drop(Buffer::from([1_u8, 2]).slice(range))).is_err());
    }
    assert!(catch_unwind(|| drop(Buffer::from([1_u8, 2]).slice(..=usize::MAX))).is_err());
}

#[test]
fn a_buffer_is_made_from_and_compared_with_what_holds_numbers() {
    let numbers = [3_i16, 4];
    let boxed: Box<[i16]> = numbers.into();
    let at = boxed.as_ptr();
    let of_box = Buffer::from(boxed);
    assert_eq!(of_box.as_ptr(), at);
    for buffer in [Buffer::from(&numbers[..]), Buffer::from(numbers), of_box] {
        assert_eq!(buffer, numbers);
        assert_eq!(buffer, numbers.to_vec());
        assert!(buffer == numbers[..] && buffer != [3_i16, 5] && buffer != [3_i16]);
        assert_eq!((&buffer).into_iter().sum::<i16>(), 7);
    }
}

#[test]
fn clones_of_a_buffer_go_once() {
    let shared = Buffer::from(vec![1.5_f32; 2000]);
    let other = Buffer::from(vec![1.5_f32; 2000]);
    let value = vec![shared.clone(), other.clone(), shared.clone(), other, shared];
    assert_arrives(&value);
    let encoded = encode(&value).unwrap();
    assert_eq!(encoded.segments.len(), 2);
    let value: Vec<Buffer<f32>> = decoded(&encoded).unwrap();
    assert_eq!(value[0].as_ptr(), value[4].as_ptr());
    assert_ne!(value[0].as_ptr(), value[1].as_ptr());
}

#[test]
fn small_buffers_go_in_the_body() {
    for (len, segments) in [(0, 0), (4095, 0), (4096, 1)] {
        let encoded = encode(&Buffer::from(vec![7_u8; len])).unwrap();
        assert_eq!(encoded.segments.len(), segments);
    }
    let odd = encode(&(1_u8, Buffer::from(vec![0.5_f64; 3]))).unwrap();
    assert_eq!(odd.body.len(), 1 + 1 + 1 + 1 + 5 + 24);
}

#[test]
fn received_memory_is_zeroed_aligned_and_as_long_as_asked_for() {
    for len in [0, 1, 63, 64, 4095, 1 << 20, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 9_999_999] {
        let mut segment = ReceivedSegment::new(len).unwrap();
        assert_eq!((segment.len(), segment.as_ptr().addr() % 64), (len, 0));
        assert!(segment.iter().all(|byte| *byte == 0));
        segment.as_mut().fill(1);
        let segment = Segment::from(segment);
        assert!(segment.clone().iter().all(|byte| *byte == 1));
        assert_eq!(segment.cast::<f64>().is_some(), len % 8 == 0);
    }
    for len in [usize::MAX, usize::MAX / 2 - 63, isize::MAX as usize, 1 << 62, 1 << 47] {
        assert!(ReceivedSegment::new(len).is_err(), "{len}");
    }
}

#[test]
fn memory_moves_between_threads() {
    let buffer = Buffer::from(vec![3_i64; 4000]);
    let there = buffer.clone();
    let encoded = std::thread::spawn(move || encode(&there).unwrap()).join().unwrap();
    let arrived = std::thread::spawn(move || decoded::<Buffer<i64>>(&encoded).unwrap());
    assert_eq!(arrived.join().unwrap(), buffer);
}

// ---- Inside of other things ----

#[test]
fn buffers_in_types_of_all_kinds() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Part {
        numbers: Buffer<i32>,
        bytes: Buffer<u8>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        part: Part,
        own: Buffer<f64>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        None,
        Some(Buffer<u16>),
        Part(Part),
    }
    for len in [0, 3, 3000] {
        let part = Part { numbers: vec![-5; len].into(), bytes: vec![200; 5 * len].into() };
        assert_arrives(&part);
        assert_arrives(&Flat { part: part.clone(), own: vec![0.5; len].into() });
        let some = Untagged::Some((0..len).map(|n| n as u16).collect());
        for value in [Untagged::None, some, Untagged::Part(part)] {
            assert_arrives(&vec![value]);
        }
    }
    // What serde does not put into its own store goes without a copy here, too.
    let part = Part { numbers: vec![-5; 5000].into(), bytes: Buffer::default() };
    let flat = Flat { part, own: vec![0.5; 5000].into() };
    let encoded = encode(&flat).unwrap();
    assert_eq!(encoded.segments[0].as_ptr(), flat.part.numbers.as_ptr().cast());
    assert_eq!(encoded.segments[1].as_ptr(), flat.own.as_ptr().cast());
    let segments = received(&encoded.segments);
    let at = segments[1].as_ptr();
    let arrived: Flat = decode(&encoded.body, segments).unwrap();
    assert_eq!(arrived, flat);
    assert_eq!(arrived.own.as_ptr(), at.cast());
}

#[test]
fn a_buffer_is_an_ordinary_sequence_for_others() {
    let buffer: Buffer<u16> = (0..3000).collect();
    let numbers = buffer.to_vec();
    let bytes = postcard::to_stdvec(&(&buffer, 1)).unwrap();
    assert_eq!(bytes, postcard::to_stdvec(&(&numbers, 1)).unwrap());
    assert_eq!(postcard::from_bytes::<(Buffer<u16>, i32)>(&bytes).unwrap(), (buffer.clone(), 1));
    let bytes = rmp_serde::to_vec_named(&Some(&buffer)).unwrap();
    assert_eq!(bytes, rmp_serde::to_vec_named(&numbers).unwrap());
    assert_eq!(rmp_serde::from_slice::<Buffer<u16>>(&bytes).unwrap(), buffer);
}

#[test]
fn buffers_and_sequences_are_read_as_one_another() {
    for len in [3_u16, 3000] {
        let numbers: Vec<u16> = (0..len).collect();
        let buffer = Buffer::from(numbers.clone());
        let written = encode(&(buffer.clone(), 1)).unwrap();
        assert_eq!(decoded::<(Vec<u16>, i32)>(&written).unwrap(), (numbers.clone(), 1));
        let written = encode(&(numbers, 1)).unwrap();
        assert_eq!(decoded::<(Buffer<u16>, i32)>(&written).unwrap(), (buffer, 1));
    }
}

#[test]
fn nothing_stays_of_a_buffer_whose_value_panics() {
    /// Takes the name, but is no buffer.
    #[derive(Debug, PartialEq)]
    struct Pretender(u64);
    impl Serialize for Pretender {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_newtype_struct(BUFFER, &self.0)
        }
    }
    /// A serialiser that panics when it comes to the numbers.
    struct Panics(Buffer<u8>);
    impl Serialize for Panics {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            struct Number;
            impl std::io::Write for Number {
                fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                    panic!("in the middle of a buffer")
                }
                fn flush(&mut self) -> std::io::Result<()> {
                    Ok(())
                }
            }
            let _ = self.0.serialize(&mut rmp_serde::Serializer::new(Number));
            unreachable!()
        }
    }
    let panicked = catch_unwind(|| {
        let _ = Panics(Buffer::from(vec![0; 5000]))
            .serialize(&mut encoder::serializer::Serializer::new());
    });
    assert!(panicked.is_err());
    let mut serializer = encoder::serializer::Serializer::new();
    Pretender(5).serialize(&mut serializer).unwrap();
    let pretended = serializer.finish();
    assert_eq!((&pretended.body[..], pretended.segments.len()), (&[5][..], 0));
}

// ---- What can be wrong with the bytes ----

/// A message of a buffer, changed.
fn changed(change: impl FnOnce(&mut Vec<u8>, &mut Vec<ReceivedSegment>)) -> Result<(), Error> {
    let encoded = encode(&Buffer::from(vec![1.0_f64; 1000])).unwrap();
    let (mut body, mut segments) = (encoded.body, received(&encoded.segments));
    change(&mut body, &mut segments);
    decode::<Buffer<f64>>(&body, segments).map(|_| ())
}

#[test]
fn a_record_that_is_wrong_is_an_error() {
    // Tag, length of the record, kind, index from 1.
    const LENGTH: usize = 1;
    const KIND: usize = LENGTH + 1;
    const INDEX: usize = KIND + 1;
    assert!(changed(|_, _| ()).is_ok());
    let with_kind = |kind| changed(|body, _| body[KIND] = kind).unwrap_err().to_string();
    assert_eq!(with_kind(0), "a buffer of u8 instead of f64");
    assert_eq!(with_kind(8), "a buffer of f32 instead of f64");
    assert_eq!(with_kind(10), "a buffer is malformed");
    for index in [2, 255] {
        let other = changed(|body, _| body[INDEX] = index).unwrap_err();
        assert_eq!(other.to_string(), "a buffer has no segment");
    }
    let none = changed(|_, segments| segments.clear()).unwrap_err();
    assert_eq!(none.to_string(), "a buffer has no segment");
    let more = changed(|_, segments| segments.push(ReceivedSegment::new(8).unwrap()));
    assert!(more.is_err());
    for len in [7999, 1] {
        let odd = changed(|_, segments| segments[0] = ReceivedSegment::new(len).unwrap());
        assert!(odd.unwrap_err().to_string().starts_with(&format!("invalid length {len}")));
    }
    assert!(changed(|_, segments| segments[0] = ReceivedSegment::new(0).unwrap()).is_ok());
    // Both in a segment and in the body.
    let both = changed(|body, _| {
        body[LENGTH] += 8;
        body.extend([0; 8]);
    });
    assert_eq!(both.unwrap_err().to_string(), "a buffer is malformed");
    // In the body: no whole number of numbers; and a record that is none.
    for (len, rest) in [(5 + 7, 7), (4, 0)] {
        let short = changed(|body, segments| {
            body[LENGTH] = len;
            body[INDEX] = 0;
            body.truncate(KIND + usize::from(len));
            body.resize(KIND + 5 + rest, 0);
            segments.clear();
        });
        assert!(short.is_err());
    }
}

#[test]
fn segments_are_met_in_order() {
    let message = |indices: [u8; 2]| {
        let value = [vec![1_u8; 5000], vec![2; 5000]].map(Buffer::from);
        let encoded = encode(&value).unwrap();
        let mut body = encoded.body;
        // Behind the sequence's tag there are 7 bytes for each: tag, length, kind, index.
        body[1 + 3] = indices[0];
        body[1 + 7 + 3] = indices[1];
        decode::<[Buffer<u8>; 2]>(&body, received(&encoded.segments))
            .map(|buffers| buffers.map(|buffer| buffer[0]))
    };
    assert_eq!(message([1, 2]).unwrap(), [1, 2]);
    for wrong in [[2, 1], [2, 2], [1, 1], [1, 3], [0, 1], [1, 0]] {
        assert!(message(wrong).is_err(), "{wrong:?}");
    }
}
