//! Messages with several values.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;
use crate::codec::buffer::Buffer;

/// Some can't be encoded.
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
    to.push(value).unwrap();
}

fn decoder(encoded: &Encoded) -> Decoder<'_> {
    Decoder::new(&encoded.body, received(&encoded.segments))
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
    assert!(!encoder.is_body());
    let encoded = encoder.finish();
    assert_eq!(encoded.segments.len(), 2);

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
fn what_was_written_stays_as_it_is() {
    let mut encoder = Encoder::new();
    let mut before = Vec::new();
    for n in 0..40_u8 {
        let leave_out = |is: bool| if is { Item::<0>::Unsuited } else { plain(n.into()) };
        match n % 4 {
            0 => push(&mut encoder, &vec![n; n.into()]),
            1 => push(&mut encoder, &vec![leave_out(n % 3 == 0), leave_out(n % 5 == 0)]),
            2 => push(&mut encoder, &(n, format!("text {n}"))),
            _ => assert!(encoder.push(&vec![plain(2), Item::<0>::Failing]).is_err()),
        }
        assert_eq!(encoder.body()[..before.len()], before);
        before = encoder.body().to_vec();
    }
    assert_eq!(encoder.finish().body, before);
    assert_eq!((encoder.len(), encoder.body()), (0, &[][..]));
}

#[test]
fn a_value_that_fails_leaves_nothing() {
    assert_eq!(encode(&Item::<3>::Failing).unwrap_err().to_string(), "failed");
    let mut encoder = Encoder::new();
    for _ in 0..2 {
        push(&mut encoder, &plain::<3>(1500));
        assert_eq!(encoder.push(&Item::<3>::Failing).unwrap_err().to_string(), "failed");
        let panicked = catch_unwind(AssertUnwindSafe(|| encoder.push(&Item::<3>::Panicking)));
        assert!(panicked.is_err());
    }
    let encoded = encoder.finish();
    assert_eq!(encoded.segments.len(), 2);
    let mut values = decoder(&encoded);
    assert_eq!(values.next::<Item<3>>().unwrap(), plain(1500));
    assert_eq!(values.next::<Item<3>>().unwrap(), plain(1500));
    values.finish().unwrap();
}

#[test]
fn an_error_of_the_encoder_that_the_type_ignores_is_not_lost() {
    struct Lenient<T>(T);
    impl<T: Serialize> Serialize for Lenient<T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut seq = serializer.serialize_seq(Some(1))?;
            let _ = seq.serialize_element(&self.0);
            seq.end()
        }
    }
    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            <[T; 1]>::deserialize(deserializer).map(|[value]| Self(value))
        }
    }
    assert!(encode(&Lenient(5)).is_ok());
    assert!(encode(&Lenient(Item::<3>::Failing)).is_err());
}

#[test]
fn all_values_are_to_be_read_and_no_more() {
    let mut encoder = Encoder::new();
    push(&mut encoder, &1_u32);
    push(&mut encoder, &plain::<4>(5000));
    let encoded = encoder.finish();
    let read = |count: usize| {
        let mut values = decoder(&encoded);
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
    // Nothing is not a message.
    assert!(decoded::<()>(&Encoded::default()).is_err());
    assert!(decoded::<()>(&Encoder::new().finish()).is_err());
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
            let inner = decode(&body, received(&[segment])).unwrap();
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
