//! Bytes that no encoder has written: errors or other values, but no panic, no endless loop, and
//! no more memory or stack than the bytes are worth.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;
use crate::codec::DEPTH;
use crate::codec::buffer::Buffer;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    id: u64,
    name: String,
    signed: (i8, i16, i32, i64, i128),
    floats: [f32; 2],
    flags: Vec<Option<bool>>,
    kinds: BTreeMap<String, Kind>,
    pixels: Buffer<u16>,
    samples: Buffer<f64>,
    nothing: Vec<()>,
    result: Result<char, Box<Record>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    New(Vec<Kind>),
    Tuple(u128, Option<Box<Kind>>),
    Struct { a: Option<Option<u8>>, b: Duration },
}

fn record(samples: usize) -> Record {
    let kinds = vec![Kind::Unit, Kind::Tuple(1 << 100, Some(Box::new(Kind::Unit)))];
    let duration = Duration::from_micros(1);
    let kinds = [
        ("a", Kind::New(kinds)),
        ("b", Kind::Struct { a: Some(None), b: duration }),
        ("longer than sixteen", Kind::Unit),
    ];
    let record = |result| Record {
        id: 1 << 40,
        name: "a name".into(),
        signed: (-1, -300, 70_000, i64::MIN, i128::MAX),
        floats: [0.5, -1.0],
        flags: vec![None, Some(true), Some(false)],
        kinds: kinds.clone().map(|(name, kind)| (name.to_owned(), kind)).into(),
        pixels: vec![1; 5].into(),
        samples: vec![0.5; samples].into(),
        nothing: vec![(); 3],
        result,
    };
    record(Err(Box::new(record(Ok('x')))))
}

/// Reads whatever comes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Anything {
    Record(Box<Record>),
    Map(HashMap<String, Anything>),
    List(Vec<Anything>),
    Number(i64),
    Text(String),
    Nothing(Option<()>),
}

/// As the project's own: the same numbers on each run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

fn try_decode(body: &[u8], segments: &[Segment]) {
    let _ = decode::<Record>(body, received(segments));
    let _ = decode::<Anything>(body, Vec::new());
    let _ = decode::<Vec<(u8, String)>>(body, Vec::new());
}

#[test]
fn a_message_that_is_cut_off_is_an_error() {
    let encoded = encode(&record(600)).unwrap();
    assert_eq!(decoded::<Record>(&encoded).unwrap(), record(600));
    for len in 0..encoded.body.len() {
        let cut = decode::<Record>(&encoded.body[..len], received(&encoded.segments));
        assert!(cut.is_err(), "{len}");
    }
    let mut longer = encoded.body.clone();
    longer.push(0);
    assert!(decode::<Record>(&longer, received(&encoded.segments)).is_err());
}

/// No value is taken for another one of another form; of the same form, a flipped bit can be.
#[test]
fn mutated_messages() {
    const CASES: usize = 10_000;
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let encoded = encode(&record(600)).unwrap();
    for _ in 0..CASES {
        let mut body = encoded.body.clone();
        for _ in 0..1 + random.next(3) {
            let at = random.next(body.len());
            match random.next(6) {
                0 => body[at] ^= 1 << random.next(8),
                1 => body[at] = random.next(256) as u8,
                2 => body[at] = 0xff,
                3 => drop(body.remove(at)),
                4 => body.insert(at, random.next(256) as u8),
                _ => {
                    let (from, len) = (random.next(body.len()), body.len());
                    body.copy_within(from..(from + 9).min(len), at.min(from));
                }
            }
        }
        try_decode(&body, &encoded.segments);
    }
}

#[test]
fn random_bytes() {
    const CASES: usize = 5_000;
    let mut random = Random(88_172_645_463_325_252);
    for _ in 0..CASES {
        let body: Vec<u8> = (0..random.next(60)).map(|_| random.next(256) as u8).collect();
        try_decode(&body, &[]);
    }
}

/// A message: a tag, a length, and `rest` behind it.
fn with_length(tag: u8, mut length: u64, rest: &[u8]) -> Vec<u8> {
    let mut body = vec![tag];
    while length >= 0x80 {
        body.push(length as u8 | 0x80);
        length >>= 7;
    }
    body.push(length as u8);
    body.extend(rest);
    body
}

/// Those with a length.
const LONG: [u8; 8] = [
    tag::STRING,
    tag::BYTES,
    tag::SEQUENCE,
    tag::MAP,
    tag::BUFFER,
    tag::RUN.start,
    tag::RUN.end - 1,
    tag::SHAPES,
];

#[test]
fn lengths_that_are_lies_cost_no_memory_and_no_time() {
    fn check<T: DeserializeOwned + 'static>() {
        for (tag, length) in LONG
            .into_iter()
            .flat_map(|tag| [1 << 20, 1 << 32, 1 << 60, u64::MAX].map(|length| (tag, length)))
        {
            for rest in [&[][..], &[0; 16], &[1; 16], &[0xff; 16]] {
                assert!(decode::<T>(&with_length(tag, length, rest), vec![]).is_err());
                let nested =
                    [&[tag::SHORT_SEQUENCE.start + 1][..], &with_length(tag, length, rest)];
                assert!(decode::<T>(&nested.concat(), vec![]).is_err());
            }
        }
    }
    let start = Instant::now();
    check::<Vec<u8>>();
    check::<String>();
    check::<Vec<[u128; 32]>>();
    check::<Vec<()>>();
    check::<Vec<[(); 3]>>();
    check::<HashMap<(), ()>>();
    check::<BTreeMap<(), u8>>();
    check::<HashSet<Vec<()>>>();
    check::<Vec<Vec<()>>>();
    check::<Buffer<u64>>();
    // Each item takes memory, but no bytes.
    thread_local!(static ITEMS: Cell<usize> = const { Cell::new(0) });
    struct Large(#[expect(dead_code, reason = "its size counts")] [u64; 1024]);
    impl Default for Large {
        fn default() -> Self {
            ITEMS.set(ITEMS.get() + 1);
            Self([0; 1024])
        }
    }
    #[derive(Deserialize)]
    struct Nothing {
        #[serde(skip)]
        _large: Large,
    }
    let body = with_length(tag::SEQUENCE, 1 << 60, &[]);
    assert!(decode::<Vec<Nothing>>(&body, vec![]).is_err());
    assert_eq!(ITEMS.take(), 0);
    // Many small lies: 9999, over and over.
    let lie = with_length(tag::SEQUENCE, 9999, &[]);
    let lies = with_length(tag::SEQUENCE, 10_000, &lie.repeat(10_000));
    assert!(decode::<Vec<Vec<Nothing>>>(&lies, vec![]).is_err());
    assert!(decode::<Vec<Vec<()>>>(&lies, vec![]).is_err());
    assert!(ITEMS.take() * size_of::<Large>() <= 2 << 20);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn a_list_of_many_nothings_arrives() {
    assert_arrives(&vec![(); 1000]);
    assert_arrives(&(vec![(); 2_000_000], 1));
}

/// Memory may be reserved by what a sequence says of its length.
#[test]
fn no_more_items_are_promised_than_there_can_be() {
    struct Hint(Option<usize>);
    impl<'de> Deserialize<'de> for Hint {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct HintVisitor;
            impl<'de> Visitor<'de> for HintVisitor {
                type Value = Hint;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a list")
                }

                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Hint, A::Error> {
                    let hint = Hint(seq.size_hint());
                    assert!(hint.0.unwrap() <= 16);
                    while seq.next_element::<u8>()?.is_some() {}
                    Ok(hint)
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Hint, A::Error> {
                    let hint = Hint(map.size_hint());
                    assert!(hint.0.unwrap() <= 16);
                    while map.next_entry::<u8, u8>()?.is_some() {}
                    Ok(hint)
                }
            }
            deserializer.deserialize_seq(HintVisitor)
        }
    }
    impl Serialize for Hint {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            vec![1_u8; 5].serialize(serializer)
        }
    }
    let hint: Hint = decoded(&encode(&Hint(None)).unwrap()).unwrap();
    assert_eq!(hint.0, Some(5));
    for tag in [tag::SEQUENCE, tag::MAP] {
        assert!(decode::<Hint>(&with_length(tag, 1 << 60, &[1; 16]), vec![]).is_err());
    }
}

// ---- Depth ----

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct List {
    next: Option<Box<List>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(Option<Box<Wrapped>>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    New(Box<Tree>),
    Tuple(Box<Tree>, ()),
    Struct { inner: Box<Tree> },
    List(Vec<Tree>),
}

fn list(depth: usize) -> List {
    (0..depth).fold(List { next: None }, |list, _| List { next: Some(Box::new(list)) })
}

fn tree(depth: usize) -> Tree {
    (0..depth).fold(Tree::Leaf, |tree, n| match n % 4 {
        0 => Tree::New(Box::new(tree)),
        1 => Tree::Tuple(Box::new(tree), ()),
        2 => Tree::Struct { inner: Box::new(tree) },
        _ => Tree::List(vec![tree]),
    })
}

/// On a stack as small as those of threads are.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(test).unwrap();
    thread.join().unwrap();
}

#[test]
fn values_may_be_nested_up_to_a_limit() {
    on_a_small_stack(|| {
        #[track_caller]
        fn check<T: Portable + PartialEq + Debug>(value: impl Fn(usize) -> T, levels: usize) {
            let deepest = DEPTH / levels - 1;
            let encoded = encode(&value(deepest)).unwrap();
            assert_eq!(decoded::<T>(&encoded).unwrap(), value(deepest));
            let deeper = encode(&value(DEPTH + 1)).map(|_| ()).unwrap_err();
            assert!(deeper.to_string().contains("levels deep"), "{deeper}");
            assert!(encode(&value(DEPTH + 1)).is_err());
        }
        check(list, 2);
        check(tree, 2);
        check(|depth| (0..depth).fold(Wrapped(None), |w, _| Wrapped(Some(w.into()))), 2);
    });
}

/// Whatever can be sent can be received.
#[test]
fn the_deepest_value_that_is_encoded_is_decoded() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Deep {
        End,
        New(Box<Deep>),
        Tuple(Box<Deep>, ()),
        Struct { inner: Box<Deep> },
        List(Vec<Deep>),
        Map(BTreeMap<u8, Deep>),
        Some(Option<Box<Deep>>),
    }
    #[track_caller]
    fn check<T: Portable + PartialEq + Debug>(end: fn() -> T, around: fn(T) -> T) {
        let of = |depth| (0..depth).fold(end(), |inner, _| around(inner));
        let deepest = (0..=2 * DEPTH).rev().find_map(|depth| {
            let encoded = encode(&of(depth)).ok()?;
            Some((depth, decoded::<T>(&encoded)))
        });
        let (depth, value) = deepest.unwrap();
        assert!((DEPTH / 3..=DEPTH).contains(&depth), "{depth}");
        assert_eq!(value.unwrap(), of(depth));
    }
    on_a_small_stack(|| {
        check(|| Deep::End, |inner| Deep::New(inner.into()));
        check(|| Deep::End, |inner| Deep::Tuple(inner.into(), ()));
        check(|| Deep::End, |inner| Deep::Struct { inner: inner.into() });
        check(|| Deep::End, |inner| Deep::List(vec![inner]));
        check(|| Deep::End, |inner| Deep::Map([(1, inner)].into()));
        check(|| Deep::End, |inner| Deep::Some(Some(inner.into())));
        check(|| List { next: None }, |inner| List { next: Some(inner.into()) });
        check(|| Wrapped(None), |inner| Wrapped(Some(inner.into())));
    });
}

#[test]
fn what_lies_side_by_side_is_not_deep() {
    #[track_caller]
    fn check<T: Portable + PartialEq + Debug + Clone>(value: T) {
        let many = vec![value.clone(); 2 * DEPTH];
        let encoded = encode(&many).unwrap();
        assert_eq!(decoded::<Vec<T>>(&encoded).unwrap(), many);
    }
    check(record(0));
    check(((1, [Some(Some(2))]), Err::<(), _>(Some("x".to_owned()))));
    check(vec![Kind::Unit, Kind::New(vec![]), Kind::Tuple(1, None)]);
    check(Kind::Struct { a: Some(None), b: Duration::ZERO });
    check(BTreeMap::from([((1, 'x'), vec![(); 3])]));
    assert_arrives(&vec![Lenient; 2 * DEPTH]);
}

/// Takes no notice of an error inside of an option.
#[derive(Clone, Debug, PartialEq)]
struct Lenient;

impl Serialize for Lenient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Some(0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        assert!(Option::<NonZeroU8>::deserialize(deserializer).is_err());
        Ok(Self)
    }
}

#[test]
fn bytes_that_nest_without_end_are_an_error() {
    #[track_caller]
    fn check<T: DeserializeOwned + 'static>(shapes: &[&str], repeated: &[u8]) {
        let mut body = vec![tag::SHAPES, shapes.len() as u8];
        for name in shapes {
            body.extend([1, name.len() as u8]);
            body.extend(name.as_bytes());
        }
        for levels in [300, 1_000_000] {
            let body = [&body[..], &repeated.repeat(levels)].concat();
            let Err(error) = decode::<T>(&body, vec![]) else { panic!("it was decoded") };
            assert!(error.to_string().contains("levels deep"), "{error}");
        }
    }
    on_a_small_stack(|| {
        const FIRST_STRUCT: u8 = tag::NEAR_STRUCT.start;
        const FIRST_VARIANT: u8 = tag::NEAR_VARIANT.start;
        const ONE_ITEM: u8 = tag::SHORT_SEQUENCE.start + 1;

        check::<List>(&["next"], &[FIRST_STRUCT, tag::SOME]);
        check::<Wrapped>(&[], &[tag::SOME]);
        check::<Tree>(&["New"], &[FIRST_VARIANT]);
        check::<Tree>(&["Tuple"], &[FIRST_VARIANT, ONE_ITEM + 1]);
        check::<Tree>(&["Struct", "inner"], &[FIRST_VARIANT, FIRST_STRUCT + 1]);
        check::<Tree>(&["List"], &[FIRST_VARIANT, ONE_ITEM]);
        // As maps of one entry.
        check::<Tree>(&[], &[tag::MAP, 1, 0x43, b'N', b'e', b'w']);
        check::<Anything>(&[], &[ONE_ITEM]);
        check::<Anything>(&[], &[tag::MAP, 1, 0x41, b'k']);
        check::<Anything>(&["k"], &[FIRST_STRUCT]);
        check::<Anything>(&["k"], &[FIRST_VARIANT]);
        check::<Anything>(&[], &[tag::SOME]);
        check::<IgnoredAny>(&["k"], &[FIRST_VARIANT]);
    });
    // An option that is there without being something.
    on_a_small_stack(|| assert!(decode::<Wrapped>(&[1], vec![]).is_err()));
}

#[test]
fn shapes_that_are_wrong() {
    let decode = |bytes: &[u8]| decode::<Kind>(bytes, vec![]);
    assert_eq!(decode(b"\xff\x01\x01\x04Unit\x90").unwrap(), Kind::Unit);
    for bytes in [
        &b"\x90"[..],                                // it is not there
        b"\xff\x01\x01\x04Unit\x91",                 // another one
        b"\xff\x01\x01\x04Unit\xd5\x01",             // the same
        b"\xff\x01\x01\x04Unit\xd5\xff\xff\xff\x7f", // far out
        b"\xff\x01\x02\x04\x00Unit\x90",             // a variant with two names
        b"\xff\x01\x00\x90",                         // with none
        b"\xff\x02\x01\x04Unit\x90",                 // one is missing
        b"\xff\x01\x01\x05Unit\x90",                 // not the end of a character
        b"\xff\x01\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x05Unit\x90",
        b"\x61\xff\x01\x01\x04Unit\x90", // not before a value
        b"\xff\x00",
        b"\xff",
    ] {
        assert!(decode(bytes).is_err(), "{bytes:02x?}");
    }
}
