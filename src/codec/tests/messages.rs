//! Messages with several values.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;
use crate::codec::buffer::Buffer;
use crate::codec::{Decoder, Encoder, Pushed};

/// Its format depends on the value; some can't be encoded at all.
#[derive(Debug, PartialEq, Deserialize)]
enum Item<const N: u8> {
    Plain(Buffer<u64>),
    Unsuited,
    Failing,
    Panicking,
}

impl<const N: u8> Serialize for Item<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error, SerializeStructVariant, SerializeTupleVariant};
        match self {
            Item::Plain(numbers) => serializer.serialize_newtype_variant("", 0, "Plain", numbers),
            Item::Unsuited => {
                let mut variant = serializer.serialize_struct_variant("", 1, "Unsuited", 0)?;
                variant.skip_field("field")?;
                variant.end()
            }
            Item::Failing | Item::Panicking => {
                let mut variant = serializer.serialize_tuple_variant("", 2, "Failing", 2)?;
                variant.serialize_field(&Buffer::from(vec![1_u8; 5000]))?;
                assert_ne!(self, &Item::Panicking);
                Err(S::Error::custom("failed"))
            }
        }
    }
}

fn plain<const N: u8>(len: usize) -> Item<N> {
    Item::Plain((0..len as u64).collect())
}

#[track_caller]
fn push<T: Portable>(to: &mut Encoder, value: &T) {
    assert_eq!(to.push(value).unwrap(), Pushed::Appended);
}

fn decoder(encoded: &Encoded) -> Decoder<'_> {
    Decoder::new(encoded.format, &encoded.body, received(&encoded.segments))
}

#[test]
fn values_come_out_as_they_went_in() {
    let mut encoder = Encoder::new();
    push(&mut encoder, &1_u64);
    push(&mut encoder, &"two".to_owned());
    for len in [0, 3, 1000, 2000] {
        push(&mut encoder, &plain::<0>(len));
    }
    push(&mut encoder, &Some(()));
    assert_eq!(encoder.len(), 7);
    assert!(encoder.has_segments());
    let encoded = encoder.finish();
    assert_eq!((encoded.format, encoded.segments.len()), (Format::Compact, 2));

    let mut values = decoder(&encoded);
    assert_eq!(values.next::<u64>().unwrap(), 1);
    assert_eq!(values.next::<String>().unwrap(), "two");
    for len in [0, 3, 1000, 2000] {
        assert_eq!(values.next::<Item<0>>().unwrap(), plain(len));
    }
    assert_eq!(values.next::<Option<()>>().unwrap(), Some(()));
    values.finish().unwrap();
}

#[test]
fn a_value_that_does_not_fit_in_is_for_the_next_message() {
    let mut encoder = Encoder::new();
    push(&mut encoder, &plain::<1>(1000));
    let unsuited = encoder.push(&Item::<1>::Unsuited);
    assert_eq!(unsuited.unwrap(), Pushed::ForTheNext);
    push(&mut encoder, &2_u8);
    let first = encoder.finish();
    let mut values = decoder(&first);
    assert_eq!(values.next::<Item<1>>().unwrap(), plain(1000));
    assert_eq!(values.next::<u8>().unwrap(), 2);
    values.finish().unwrap();

    let mut encoder = Encoder::new();
    push(&mut encoder, &Item::<1>::Unsuited);
    push(&mut encoder, &plain::<1>(1000));
    push(&mut encoder, &3_u8);
    let second = encoder.finish();
    assert_eq!(second.format, Format::Named);

    // From now on that goes for all values of the type.
    let mut encoder = Encoder::new();
    push(&mut encoder, &4_u8);
    assert_eq!(encoder.push(&plain::<1>(1000)).unwrap(), Pushed::ForTheNext);
    let mut encoder = Encoder::new();
    push(&mut encoder, &plain::<1>(1000));
    push(&mut encoder, &4_u8);
    let third = encoder.finish();
    assert_eq!(third.format, Format::Named);
    let mut values = decoder(&third);
    assert_eq!(values.next::<Item<1>>().unwrap(), plain(1000));
    assert_eq!(values.next::<u8>().unwrap(), 4);
    values.finish().unwrap();
}

#[test]
fn the_first_value_decides_the_format() {
    /// Can't go by the compact format, and won't by the other one.
    #[derive(Deserialize)]
    struct Neither;
    impl Serialize for Neither {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if serializer.is_human_readable() {
                return Err(serde::ser::Error::custom("not by name"));
            }
            serde::ser::SerializeSeq::end(serializer.serialize_seq(None)?)
        }
    }
    for _ in 0..2 {
        let mut encoder = Encoder::new();
        let neither = encoder.push(&(7_u8, Neither)).unwrap_err();
        assert_eq!((neither.to_string().as_str(), encoder.len()), ("not by name", 0));
        push(&mut encoder, &8_u8);
        assert_eq!(encoder.push(&(7_u8, Neither)).unwrap(), Pushed::ForTheNext);
        let encoded = encoder.finish();
        assert_eq!(encoded.format, Format::Compact);
        assert_eq!(decoded::<u8>(&encoded).unwrap(), 8);
    }

    // One that shows in the first message that it has to be named.
    let mut encoder = Encoder::new();
    push(&mut encoder, &(7_u8, Item::<2>::Unsuited));
    push(&mut encoder, &8_u8);
    assert_eq!(encoder.finish().format, Format::Named);
}

#[test]
fn a_value_that_fails_leaves_nothing() {
    assert_eq!(encode(&Item::<3>::Failing).unwrap_err().to_string(), "failed");
    for by_name in [false, true] {
        let mut encoder = Encoder::new();
        if by_name {
            push(&mut encoder, &super::types::unsuited());
        }
        for _ in 0..2 {
            push(&mut encoder, &plain::<3>(1500));
            match encoder.push(&Item::<3>::Failing) {
                // It may be the format's fault. Alone it shows that it is not.
                Ok(pushed) => assert_eq!((pushed, by_name), (Pushed::ForTheNext, false)),
                Err(failed) => assert_eq!((failed.to_string(), by_name), ("failed".into(), true)),
            }
            let panicked = catch_unwind(AssertUnwindSafe(|| encoder.push(&Item::<3>::Panicking)));
            assert!(panicked.is_err());
        }
        let encoded = encoder.finish();
        assert_eq!(encoded.segments.len(), 2);
        let mut values = decoder(&encoded);
        if by_name {
            values.next::<super::types::Unsuited>().unwrap();
        }
        assert_eq!(values.next::<Item<3>>().unwrap(), plain(1500));
        assert_eq!(values.next::<Item<3>>().unwrap(), plain(1500));
        values.finish().unwrap();
    }
}

#[test]
fn all_values_are_to_be_read_and_no_more() {
    for first in [Format::Compact, Format::Named] {
        let mut encoder = Encoder::new();
        if first == Format::Named {
            push(&mut encoder, &super::types::unsuited());
        }
        push(&mut encoder, &1_u32);
        push(&mut encoder, &plain::<4>(5000));
        let encoded = encoder.finish();
        let read = |count: usize| {
            let mut values = decoder(&encoded);
            if first == Format::Named {
                values.next::<super::types::Unsuited>()?;
            }
            for n in 0..count {
                if n == 0 {
                    values.next::<u32>()?;
                } else {
                    values.next::<Item<4>>()?;
                }
            }
            values.finish()
        };
        assert!(read(2).is_ok());
        for count in [0, 1, 3] {
            assert!(read(count).is_err(), "{count}");
        }
    }
    // Nothing is not a message.
    let nothing = Encoded::default();
    assert!(decoded::<()>(&nothing).is_err());
    assert!(decoded::<()>(&Encoder::new().finish()).is_err());
    assert!(decoded::<()>(&Encoded { format: Format::Named, ..nothing }).is_err());
}

#[test]
fn a_message_is_read_in_its_own_format_only() {
    let encoded = encode(&(5_u8, Some("text".to_owned()))).unwrap();
    type Pair = (u8, Option<String>);
    assert!(decode::<Pair>(Format::Named, &encoded.body, vec![]).is_err());
    assert!(decode::<(u8, Option<Vec<u8>>)>(Format::Compact, &encoded.body, vec![]).is_err());
    assert_eq!(Format::from_byte(Format::Compact as u8), Some(Format::Compact));
    assert_eq!(Format::from_byte(Format::Named as u8), Some(Format::Named));
    assert_eq!(Format::from_byte(2), None);
}

/// Values whose code comes back to the codec.
#[test]
fn encoding_and_decoding_nest() {
    struct Inside(Buffer<f64>);
    impl Serialize for Inside {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let encoded = encode(&(self.0.clone(), self.0.clone())).unwrap();
            assert_eq!(encoded.segments.len(), 1);
            let others = postcard::to_stdvec(&self.0).unwrap();
            assert_eq!(others, postcard::to_stdvec(&self.0[..]).unwrap());
            (&self.0, encoded.body, Buffer::from(encoded.segments[0].to_vec()))
                .serialize(serializer)
        }
    }
    impl<'de> Deserialize<'de> for Inside {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            type Parts = (Buffer<f64>, Vec<u8>, Buffer<u8>);
            let (numbers, body, segment) = Parts::deserialize(deserializer)?;
            let segment: Segment = segment.into_vec().into();
            let inner = decode(Format::Compact, &body, received(&[segment])).unwrap();
            assert_eq!((numbers.clone(), numbers.clone()), inner);
            Ok(Self(numbers))
        }
    }
    let numbers: Buffer<f64> = (0..1000).map(f64::from).collect();
    let encoded = encode(&(Inside(numbers.clone()), numbers.clone())).unwrap();
    assert_eq!(encoded.segments.len(), 2);
    let (inside, behind): (Inside, Buffer<f64>) = decoded(&encoded).unwrap();
    assert_eq!((inside.0, behind), (numbers.clone(), numbers));
}
