//! All kinds of types.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, LinkedList, VecDeque};
use std::ffi::{CString, OsString};
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU8, Wrapping};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::de::{DeserializeOwned, EnumAccess, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;

// ---- What all formats carry ----

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(Vec<u32>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pair(i16, String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fields<T> {
    a: u64,
    a_name_of_more_than_eight_bytes: Option<T>,
    nested: Box<[Pair]>,
}

fn fields<T>(value: Option<T>) -> Fields<T> {
    let nested = [Pair(-1, "one".into()), Pair(i16::MIN, String::new())].into();
    Fields { a: 300, a_name_of_more_than_eight_bytes: value, nested }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Variants {
    Unit,
    Newtype(f64),
    Tuple(u8, char),
    Struct { x: bool, y: Option<Box<Variants>> },
}

fn variants() -> Vec<Variants> {
    use Variants::*;
    let nested = Struct { x: true, y: Some(Box::new(Struct { x: false, y: None })) };
    vec![Unit, Newtype(0.1), Tuple(7, 'ß'), nested]
}

/// Any bytes, as serde knows them.
#[derive(Clone, Debug, PartialEq)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

#[test]
fn numbers_and_texts() {
    macro_rules! extremes {
        ($($number:ident)*) => {$(
            for number in [$number::MIN, $number::MAX, 0, 1, 63, 64, 127 as $number, 100] {
                assert_arrives(&number);
                assert_arrives(&(number, [number; 3], vec![Some(number)]));
            }
        )*};
    }
    extremes! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize }
    for shift in 0..128 {
        let number = 1_u128 << shift;
        assert_arrives(&(number - 1, number, number as i128, -(number as i128).max(0)));
        let number = 1_u64 << (shift % 64);
        assert_arrives(&(number - 1, number, number as i64));
    }
    for number in [0.0, -0.0, f64::MIN_POSITIVE, f64::MAX, f64::INFINITY, 0.1] {
        assert_arrives(&(number, number as f32));
    }
    let nan = encode(&(f64::NAN, f32::NAN)).unwrap();
    let (long, short): (f64, f32) = decoded(&nan).unwrap();
    assert_eq!((long.to_bits(), short.to_bits()), (f64::NAN.to_bits(), f32::NAN.to_bits()));
    for char in ['\0', 'a', '\u{7f}', 'ß', '\u{ffff}', char::MAX] {
        assert_arrives(&char);
    }
    for text in ["", "text", "zwölf", "\0\n"] {
        assert_arrives(&text.to_owned());
        assert_arrives(&Bytes(text.into()));
    }
    assert_arrives(&(true, false, ()));
    assert_arrives(&vec![0_u8, 200]);
    for length in [15, 16, 31, 32, 255, 256, 65_535, 65_536] {
        assert_arrives(&"x".repeat(length));
        assert_arrives(&Bytes(vec![1; length]));
        assert_arrives(&vec![-1_i8; length]);
    }
}

#[test]
fn structs_and_enums() {
    assert_arrives(&Unit);
    assert_arrives(&Newtype(vec![1, 1 << 31]));
    assert_arrives(&fields(Some(1.5_f32)));
    assert_arrives(&fields(None::<Vec<()>>));
    assert_arrives(&variants());
    for variant in variants() {
        assert_arrives(&variant);
        assert_arrives(&Some(vec![(variant, Unit)]));
    }
}

#[test]
fn what_std_has() {
    assert_arrives(&Duration::new(1 << 40, 999_999_999));
    assert_arrives(&SystemTime::UNIX_EPOCH);
    assert_arrives(&IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert_arrives(&SocketAddr::from((Ipv6Addr::LOCALHOST, 80)));
    assert_arrives(&PathBuf::from("/a/b"));
    assert_arrives(&(0..5, 'a'..='z'));
    assert_arrives(&(NonZeroU8::MAX, Wrapping(1), PhantomData::<String>));
    assert_arrives(&Cow::<str>::Owned("owned".into()));
    assert_arrives(&BTreeMap::from([((1, "a".to_owned()), Some(2)), ((3, String::new()), None)]));
    assert_arrives(&HashMap::from([([1_u8, 2], 'x'), ([3, 4], 'y')]));
    assert_arrives(&(BTreeSet::from([1, 2]), HashSet::from([(), ()])));
    assert_arrives(&(VecDeque::from([1]), LinkedList::from(["a".to_owned()])));
    assert_arrives(&(Bound::Included(1), Bound::<u8>::Unbounded, 5.., ..6, Reverse(7)));
    assert_arrives(&(OsString::from("os"), CString::new("c").unwrap().into_boxed_c_str()));
    assert_arrives(&(Cell::new(1), RefCell::new('x'), Box::<str>::from("boxed"), [1; 32]));
    assert_arrives(&HashMap::<String, Vec<u8>>::new());
    assert_arrives(&(vec![(); 1000], [[0_u8; 0]; 5], Vec::<Unit>::new()));
}

#[test]
fn options_and_results_in_one_another() {
    type Nested = Option<Option<Option<u8>>>;
    for nested in [None, Some(None), Some(Some(None)), Some(Some(Some(1)))] {
        assert_arrives::<Nested>(&nested);
    }
    for unit in [None, Some(())] {
        assert_arrives(&unit);
        assert_arrives(&Some(unit));
        assert_arrives(&(unit, unit.map(|()| Unit), 5));
    }
    for result in [Ok(None), Ok(Some(Err(1))), Ok(Some(Ok(()))), Err("no".to_owned())] {
        assert_arrives::<Result<Option<Result<(), u8>>, String>>(&result);
    }
}

// ---- What only formats that describe themselves carry ----

/// Carries a value along, so that a part can be looked at with something behind it, in a struct that
/// leaves something out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Named<T> {
    value: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<u8>,
    last: u8,
}

fn named<T>(value: T) -> Named<T> {
    Named { value, skipped: None, last: 200 }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Skip {
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<u8>,
    b: u8,
    c: u8,
}

/// With plain postcard this one comes back as another value: `(Skip { a: None, b: 5, c: 3 }, [])`.
#[test]
fn a_left_out_field_does_not_shift_the_others() {
    let value = (Skip { a: None, b: 0, c: 5 }, vec![0_u8, 9, 9]);
    let plain = postcard::to_stdvec(&value).unwrap();
    let wrong: (Skip, Vec<u8>) = postcard::from_bytes(&plain).unwrap();
    assert_ne!(wrong, value);
    assert_arrives(&value);
    let full = (Skip { a: Some(1), b: 2, c: 3 }, Vec::<u8>::new());
    assert_arrives(&full);
}

#[test]
fn a_field_that_is_mostly_there() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Mostly {
        There {
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            items: Vec<u8>,
        },
    }
    assert_arrives(&Mostly::There { items: vec![1] });
    assert_arrives(&Mostly::There { items: vec![] });
}

/// The format tells `Some(None)` from `None`, which rmp-serde does not.
#[test]
fn some_of_nothing_is_not_nothing() {
    type Twice = Option<Option<u8>>;
    for value in [None, Some(None), Some(Some(1))] {
        assert_arrives::<Named<Twice>>(&named(value));
    }
    let lost = rmp_serde::to_vec_named(&Twice::Some(None)).unwrap();
    assert_eq!(rmp_serde::from_slice::<Twice>(&lost).unwrap(), None);

    assert_arrives(&named::<(_, _, Option<()>, Option<Option<Unit>>)>((
        Some(()),
        Some(Unit),
        None,
        Some(None),
    )));
    assert_arrives(&named(vec![Some(Some(None)), Some(Some(Some(()))), Some(None), None]));
    assert_arrives(&named(Some(Newtype(vec![]))));

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapped(Option<Box<Wrapped>>);
    let wrapped = |depth| (0..depth).fold(Wrapped(None), |inner, _| Wrapped(Some(inner.into())));
    for depth in [0, 1, 2, 20] {
        assert_arrives(&named(wrapped(depth)));
    }

    /// A field that may be absent, null, or there.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Patch {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Option<String>>,
    }
    for name in [None, Some(None), Some(Some("x".to_owned()))] {
        assert_arrives(&vec![Patch { name: None }, Patch { name }]);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    a: u8,
    #[serde(flatten)]
    pair: Point,
    #[serde(flatten)]
    others: BTreeMap<String, u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: f32,
    y: Option<IpAddr>,
}

const LOCALHOST: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

#[test]
fn flattened_fields() {
    let others = BTreeMap::from([("b".to_owned(), 1), ("c".to_owned(), 70_000)]);
    assert_arrives(&Flat { a: 1, pair: Point { x: 0.5, y: LOCALHOST }, others });
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
    Point(Point),
    List(Vec<Option<Untagged>>),
    Null,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Internal {
    Unit,
    Point(Point),
    Struct { ip: IpAddr, bytes: Vec<u8>, size: (u64, i8) },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "what")]
enum Adjacent {
    Unit,
    Newtype(String),
    Tuple(u8, Duration),
    Struct { x: Option<Point> },
}

#[test]
fn enums_of_other_representations() {
    use Untagged::*;
    let point = || super::types::Point { x: 1.0, y: LOCALHOST };
    let list = vec![None, Some(Number(-3)), Some(Text("x".into())), Some(List(vec![]))];
    for value in [Number(1 << 40), Text("text".into()), Point(point()), List(list), Null] {
        assert_arrives(&value);
        assert_arrives(&(1, vec![value.clone(), value]));
    }
    let ip = Ipv6Addr::LOCALHOST.into();
    let with_bytes = Internal::Struct { ip, bytes: vec![1, 255], size: (u64::MAX, -1) };
    for value in [Internal::Unit, Internal::Point(point()), with_bytes] {
        assert_arrives(&value);
    }
    let tuple = Adjacent::Tuple(1, Duration::from_nanos(5));
    let some = Adjacent::Struct { x: Some(point()) };
    for value in [Adjacent::Unit, Adjacent::Newtype("a".into()), tuple, some] {
        assert_arrives(&value);
        assert_arrives(&vec![(value.clone(), named(value))]);
    }
}

/// As those of JSON, TOML and others are: asks for what comes, and takes it.
#[derive(Clone, Debug, Default, PartialEq)]
enum Value {
    #[default]
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => value.serialize(serializer),
            Value::Unsigned(number) => number.serialize(serializer),
            Value::Signed(number) => number.serialize(serializer),
            Value::Float(number) => number.serialize(serializer),
            Value::Text(text) => text.serialize(serializer),
            Value::List(items) => items.serialize(serializer),
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;
        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(Value::Unsigned(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Signed(number))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(Value::Float(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Value::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Value::Map(entries))
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}

fn value() -> Value {
    use Value::*;
    let list = List(vec![Null, Bool(true), Unsigned(u64::MAX), Signed(-1), Float(0.5)]);
    Map(vec![(Text("list".into()), list), (Unsigned(3), Map(vec![]))])
}

#[test]
fn values_that_describe_themselves() {
    assert_arrives(&value());
    assert_arrives(&(value(), Some(value()), 3_u8));
    assert_arrives(&Result::<_, String>::Ok(vec![value()]));
}

// ---- Types whose two sides don't agree ----

#[test]
fn fields_that_are_only_written_or_only_read() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct OnlyRead {
        a: u8,
        #[serde(skip_serializing, default)]
        b: u8,
        c: u8,
    }
    assert_arrives(&(OnlyRead { a: 1, b: 0, c: 3 }, vec![0_u8, 9, 9]));

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct OnlyWritten {
        a: u8,
        #[serde(skip_deserializing)]
        b: u8,
        c: u8,
    }
    assert_arrives(&(OnlyWritten { a: 1, b: 0, c: 3 }, vec![9_u8, 9]));

    // As many fields, of the same types; the last one has a default.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct User {
        #[serde(skip_deserializing)]
        id: String,
        name: String,
        #[serde(skip_serializing, default)]
        password: String,
    }
    let user = User { id: String::new(), name: "a name".into(), password: String::new() };
    assert_arrives(&user);

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type")]
    struct Tagged {
        name: String,
        last: Vec<u8>,
    }
    assert_arrives(&(Tagged { name: "x".into(), last: vec![1] }, "behind".to_owned()));

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Tuple(u8, Vec<u8>, #[serde(skip_serializing, default)] u8);
    assert_arrives(&(Tuple(1, vec![1], 0), 5_u8));

    // Left out on both sides: that is its form.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Skipped {
        a: u8,
        #[serde(skip)]
        b: u8,
        c: u8,
    }
    assert_arrives(&(Skipped { a: 1, b: 0, c: 3 }, 4));
}

#[test]
fn variants_after_a_skipped_one() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Gap {
        A,
        #[serde(skip)]
        #[allow(dead_code)]
        Skipped,
        C,
        D,
        E(u8),
        F(u8),
    }
    // Plain postcard takes the third for the fourth.
    let plain = postcard::to_stdvec(&Gap::C).unwrap();
    assert_eq!(postcard::from_bytes::<Gap>(&plain).unwrap(), Gap::D);
    // The ones before it are not touched.
    assert_arrives(&Gap::A);
    for value in [Gap::C, Gap::D, Gap::E(1), Gap::F(2)] {
        assert_arrives(&value);
    }
}

#[test]
fn other_names() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Renamed {
        #[serde(rename = "type")]
        type_name: u8,
        other_name: u8,
    }
    assert_arrives(&Renamed { type_name: 1, other_name: 2 });

    // The decoder is told of more names than there are fields.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Alias {
        #[serde(alias = "was")]
        is: u8,
        next: u8,
    }
    assert_arrives(&(Alias { is: 1, next: 2 }, 3_u8));

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Aliases {
        #[serde(alias = "Was", alias = "Were")]
        A,
        B,
        #[serde(other)]
        C,
    }
    for value in [Aliases::B, Aliases::C, Aliases::A] {
        assert_arrives(&vec![value]);
    }
}

/// Writes an `A` and reads a `B`.
struct Asymmetric<A, B>(A, PhantomData<B>);

impl<A: Serialize, B> Serialize for Asymmetric<A, B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, A: TryFrom<B, Error: fmt::Display>, B: Deserialize<'de>> Deserialize<'de>
    for Asymmetric<A, B>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = A::try_from(B::deserialize(deserializer)?);
        value.map(|a| Self(a, PhantomData)).map_err(serde::de::Error::custom)
    }
}

impl<A: PartialEq, B> PartialEq for Asymmetric<A, B> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<A: fmt::Debug, B> fmt::Debug for Asymmetric<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[test]
fn what_is_written_as_one_type_and_read_as_another() {
    #[track_caller]
    fn written_and_read_as<A, B>(values: impl IntoIterator<Item = A>)
    where
        A: Serialize + TryFrom<B, Error: fmt::Display> + fmt::Debug + PartialEq + Send + 'static,
        B: DeserializeOwned + Send + 'static,
    {
        for value in values {
            assert_arrives(&(Asymmetric::<A, B>(value, PhantomData), 0_u8, "behind".to_owned()));
        }
    }
    written_and_read_as::<u8, u64>([3, 200]);
    written_and_read_as::<u16, u64>([3, 200]); // of the same bytes
    written_and_read_as::<u32, i64>([3, 200]);
    written_and_read_as::<i64, u64>([3, 200]);
    written_and_read_as::<Vec<u8>, [u8; 2]>([vec![2, 3]]);
    written_and_read_as::<String, char>(["x".to_owned()]);
    written_and_read_as::<u8, Value>([3, 200]);
}

impl TryFrom<Value> for u8 {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<u8, &'static str> {
        match value {
            Value::Unsigned(number) => number.try_into().map_err(|_| "too large"),
            _ => Err("no number"),
        }
    }
}

#[test]
fn lengths_that_are_not_known_or_not_true() {
    /// Announces one number of items and writes another one.
    #[derive(Clone, Debug, PartialEq)]
    struct Announced(Option<usize>, Vec<u32>);
    impl Serialize for Announced {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(self.0)?;
            for item in &self.1 {
                seq.serialize_element(item)?;
            }
            seq.end()
        }
    }
    impl<'de> Deserialize<'de> for Announced {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let items = Vec::<u32>::deserialize(deserializer)?;
            Ok(Self(None, items))
        }
    }
    for length in [0, 1, 15, 16, 300, 70_000] {
        let items = vec![7; length];
        for announced in [None, Some(0), Some(length + 1), Some(20), Some(100_000)] {
            let encoded = encode(&(Announced(announced, items.clone()), 5)).unwrap();
            let (arrived, behind): (Announced, i32) = decoded(&encoded).unwrap();
            assert_eq!((arrived.1, behind), (items.clone(), 5));
        }
    }
    // After one that was true.
    let encoded = |announced| encode(&vec![Announced(Some(announced), vec![7; 3])]).unwrap();
    for announced in [3, 2] {
        let arrived: Vec<Announced> = decoded(&encoded(announced)).unwrap();
        assert_eq!(arrived[0].1, [7; 3]);
    }
}

// ---- Values of one type ----

#[test]
fn later_values_may_show_more_of_the_type() {
    type Answer = Result<Value, String>;
    assert_arrives::<Answer>(&Err("not yet".into()));
    assert_arrives::<Answer>(&Ok(value()));
    assert_arrives::<Answer>(&Err("not yet".into()));

    assert_arrives(&(vec![1], None::<Value>));
    assert_arrives(&(vec![1], Some(Value::Null)));

    assert_arrives::<(Vec<Value>, u8)>(&(vec![], 1));
    assert_arrives(&(vec![value()], 1_u8));

    // Two of the same kind, of which one was seen.
    assert_arrives(&(Some(1), None::<Value>, 0_u8));
    assert_arrives(&(None::<i32>, Some(Value::Null), 0_u8));
    type Two = (Result<u8, String>, Result<Value, String>);
    assert_arrives::<Two>(&(Ok(1), Err(String::new())));
    assert_arrives::<Two>(&(Ok(1), Ok(Value::Null)));

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Both {
        a: Option<u8>,
        b: Option<Value>,
    }
    assert_arrives(&Both { a: Some(1), b: None });
    assert_arrives(&Both { a: None, b: Some(Value::Null) });

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Tree {
        children: Vec<Tree>,
        extra: Option<BTreeMap<String, Value>>,
    }
    let tree = |children, extra| Tree { children, extra };
    let bare = tree(vec![tree(vec![], None)], Some(BTreeMap::new()));
    assert_arrives(&bare);
    let full = tree(vec![tree(vec![], Some([("k".to_owned(), value())].into()))], None);
    assert_arrives(&full);
}

/// Whatever reads a struct in order is tried once, and again by name if that was not what it expects.
#[test]
fn a_value_is_decoded_once_or_twice() {
    thread_local!(static DECODED: Cell<u32> = const { Cell::new(0) });

    #[derive(Serialize)]
    struct Counted<T>(T);
    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Counted<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            DECODED.set(DECODED.get() + 1);
            T::deserialize(deserializer).map(Self)
        }
    }
    fn times<T: Portable>(value: T) -> u32 {
        let values = [Counted(value)];
        let encoded = encode(&values).unwrap();
        assert_eq!(DECODED.take(), 0);
        decoded::<[Counted<T>; 1]>(&encoded).unwrap();
        DECODED.take()
    }
    assert_eq!(times((1_u8, value())), 1);
    assert_eq!(times(fields(Some(variants()))), 1);
    #[derive(Serialize, Deserialize)]
    struct Alias {
        #[serde(alias = "was", alias = "is_not")]
        is: u8,
        #[serde(alias = "a")]
        next: u8,
    }
    assert_eq!(times(Alias { is: 1, next: 2 }), 1);
    // The type shows only at its end that it has a field of which nothing came.
    #[derive(Serialize, Deserialize)]
    struct OnlyRead {
        a: u8,
        #[serde(skip_serializing, default)]
        #[allow(dead_code, reason = "that is the case")]
        b: u8,
        #[serde(default)]
        c: u8,
    }
    assert_eq!(times(OnlyRead { a: 1, b: 2, c: 3 }), 2);
}

/// The others of a list are read, with the error in between.
#[test]
fn values_behind_one_that_can_not_be_decoded() {
    #[derive(Debug, PartialEq, Serialize)]
    struct Pair {
        even: u8,
        name: String,
    }
    impl<'de> Deserialize<'de> for Pair {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            #[derive(Deserialize)]
            struct Pair {
                even: Even,
                name: String,
            }
            Pair::deserialize(deserializer).map(|Pair { even, name }| Self { even: even.0, name })
        }
    }
    let mut encoder = Encoder::new();
    let pair = |even| Pair { even, name: format!("number {even}") };
    (0..6).for_each(|even| encoder.push(&pair(even)).unwrap());
    let encoded = encoder.finish();
    let mut values = Decoder::new(&encoded.body, vec![]);
    for even in 0..6 {
        match values.next::<Pair>() {
            Ok(value) => assert_eq!(value, pair(even)),
            Err(error) => assert_eq!((error.to_string().as_str(), even % 2), ("an odd number", 1)),
        }
    }
    values.finish().unwrap();
}

/// The others of a list are read, wherever the type has panicked.
#[test]
fn values_behind_one_whose_type_panics() {
    thread_local!(static PANICS: Cell<bool> = const { Cell::new(false) });
    /// Panics if it is to, before it has read anything.
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
    struct Before(u8);
    impl<'de> Deserialize<'de> for Before {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            assert!(!PANICS.get(), "it panics");
            u8::deserialize(deserializer).map(Self)
        }
    }
    /// Panics if it is to, once it has read its number.
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
    struct Behind(u8);
    impl<'de> Deserialize<'de> for Behind {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let number = u8::deserialize(deserializer).map(Self);
            assert!(!PANICS.get(), "it panics");
            number
        }
    }
    #[track_caller]
    fn check<T: Portable + PartialEq + Debug>(value: impl Fn(u8) -> T) {
        let mut encoder = Encoder::new();
        (0..6).for_each(|n| encoder.push(&value(n)).unwrap());
        let encoded = encoder.finish();
        let mut values = Decoder::new(&encoded.body, vec![]);
        for n in 0..6 {
            PANICS.set(n % 2 == 1);
            let read = catch_unwind(AssertUnwindSafe(|| values.next::<T>()));
            assert_eq!(read.is_err(), n % 2 == 1, "{n}");
            if let Ok(read) = read {
                assert_eq!(read.unwrap(), value(n));
            }
        }
        values.finish().unwrap();
    }
    check(Before);
    check(Behind);
    check(|n| (n, Before(n), n + 1));
    check(|n| BTreeMap::from([(Behind(n), n + 1)]));
    check(|n| [Some(named(Behind(n)))]);
    check(|n| Ok::<_, ()>((Before(n), n)));
}

/// An even number, for its decoder.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Even(u8);

impl<'de> Deserialize<'de> for Even {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Even(u8);
        match Even::deserialize(deserializer)? {
            Even(odd) if odd % 2 == 1 => Err(serde::de::Error::custom("an odd number")),
            Even(even) => Ok(Self(even)),
        }
    }
}

#[test]
fn a_value_that_can_not_be_decoded_is_an_error_with_its_own_text() {
    assert_eq!(decoded::<Even>(&encode(&Even(2)).unwrap()).unwrap(), Even(2));
    let odd = decoded::<Even>(&encode(&Even(3)).unwrap()).unwrap_err();
    assert_eq!(odd.to_string(), "an odd number");

    #[derive(Deserialize)]
    struct Never;
    impl Serialize for Never {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it is never to be sent"))
        }
    }
    let never = encode(&Never).unwrap_err();
    assert_eq!(never.to_string(), "it is never to be sent");
}

/// Some types have only one form, a text.
#[test]
fn a_type_that_is_only_for_people() {
    #[derive(Clone, Debug, PartialEq)]
    struct TextOnly(u8);
    impl Serialize for TextOnly {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if !serializer.is_human_readable() {
                return Err(serde::ser::Error::custom("not for people"));
            }
            serializer.collect_str(&self.0)
        }
    }
    impl<'de> Deserialize<'de> for TextOnly {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            text.parse().map(TextOnly).map_err(serde::de::Error::custom)
        }
    }
    assert_arrives(&TextOnly(5));
}

#[test]
fn an_error_that_the_type_ignores_is_not_lost() {
    /// Reads nothing where it can't read a number.
    #[derive(Clone, Debug, PartialEq, Serialize)]
    struct Lenient<T>(T);
    impl<'de, T: Default + Deserialize<'de>> Deserialize<'de> for Lenient<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Ok(Self(T::deserialize(deserializer).unwrap_or_default()))
        }
    }
    assert_arrives(&(Lenient(5), 6));
    assert_arrives(&(Lenient(value()), 6));
    // A list that is left in its middle: what comes next is not what it seems to be. Here an array
    // of two has an array of one, and in that 5, which would be taken for the second item; or an
    // enum's map, whose value would be.
    for bytes in [&b"\x62\x61\x05"[..], b"\x62\xd3\x01\x41A\x05"] {
        let pair = decode::<(Lenient<LenientEnum>, u8)>(bytes, vec![]);
        assert_eq!(pair.unwrap_err().to_string(), "the value was not read to its end");
    }
    #[derive(Debug, Default, Deserialize)]
    enum LenientEnum {
        #[default]
        B,
    }

    // The last value is missing.
    let pair = decode::<(u8, Lenient<u8>)>(b"\x62\x01", vec![]);
    assert_eq!(pair.unwrap_err().to_string(), "the value was not read to its end");
    let mut pair = encode(&(1_u8, Lenient(2_u8))).unwrap();
    pair.body.pop();
    let pair = decoded::<(u8, Lenient<u8>)>(&pair);
    assert_eq!(pair.unwrap_err().to_string(), "the value was not read to its end");

    // One that takes the first of two items; the next value is missing.
    struct First(u8);
    impl<'de> Deserialize<'de> for First {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct FirstVisitor;
            impl<'de> Visitor<'de> for FirstVisitor {
                type Value = First;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a list")
                }

                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<First, A::Error> {
                    Ok(First(seq.next_element()?.unwrap_or_default()))
                }
            }
            deserializer.deserialize_seq(FirstVisitor)
        }
    }
    let pair = decode::<(First, u8)>(b"\x62\x62\x01\x02", vec![]);
    let pair = pair.map(|(First(first), second)| (first, second));
    assert_eq!(pair.unwrap_err().to_string(), "the value was not read to its end");
}

/// A type that stops between a key and its value, or before a variant's content: what it has left must not
/// be taken for what comes next.
#[test]
fn what_is_left_of_an_entry_is_not_taken_for_what_comes_next() {
    #[derive(Debug)]
    struct Hasty;
    impl<'de> Visitor<'de> for Hasty {
        type Value = Self;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an entry")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
            map.next_key::<u8>().map(|_| self)
        }

        fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Self, A::Error> {
            data.variant::<String>().map(|_| self)
        }
    }
    #[derive(Debug)]
    struct Key;
    impl<'de> Deserialize<'de> for Key {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Hasty).map(|_| Self)
        }
    }
    #[derive(Debug)]
    struct Name;
    impl<'de> Deserialize<'de> for Name {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_enum("", &[], Hasty).map(|_| Self)
        }
    }
    #[track_caller]
    fn check<T: Debug + DeserializeOwned + 'static>(bytes: &[u8]) {
        let pair = decode::<(T, u8)>(bytes, vec![]);
        let error = pair.map_err(|error| error.to_string()).unwrap_err();
        assert_eq!(error, "the value was not read to its end");
    }
    check::<Key>(b"\x62\xd3\x01\x01\x05");
    check::<Name>(b"\x62\xd3\x01\x41A\x05");
    check::<Name>(b"\xff\x01\x01\x01A\x62\xa0\x05");
}

// ---- The bytes ----

#[test]
fn the_bytes_are_those_of_the_table() {
    #[track_caller]
    fn check<T: Portable>(value: T, bytes: &[u8]) {
        let encoded = encode(&value).unwrap();
        assert_eq!(encoded.body, bytes, "{:02x?}", encoded.body);
    }
    check(63_u8, &[0x3f]);
    check("ab".to_owned(), b"\x42ab");
    check("x".repeat(32), &[b"\xd0\x20", &[b'x'; 32][..]].concat());
    check((1, -1, -16), &[0x63, 1, 0xb0, 0xbf]);
    check(vec![(); 15], &[&[0x6f][..], &[0xc0; 15]].concat());
    check(vec![(); 130], &[&[0xd2, 0x82, 0x01][..], &[0xc0; 130]].concat());
    check((false, true, ()), &[0x63, 0xc1, 0xc2, 0xc0]);
    check([None, Some(Some(1))], &[0x62, 0xc0, 0xc3, 0xc3, 1]);
    check(64_u64, &[0xc4, 64]);
    check(-17_i64, &[0xc8, 239]);
    check(256_u16, &[0xc5, 0, 1]);
    check(-129_i128, &[0xc9, 0x7f, 0xff]);
    check(1_u128 << 16, &[0xc6, 0, 0, 1, 0]);
    check(i32::MIN, &[0xca, 0, 0, 0, 0x80]);
    check(u64::MAX, &[0xc7, 255, 255, 255, 255, 255, 255, 255, 255]);
    check(i64::MIN, &[0xcb, 0, 0, 0, 0, 0, 0, 0, 0x80]);
    check(u128::MAX, &[&[0xcc][..], &[255; 16]].concat());
    check(i128::MIN, &[&[0xcd][..], &[0; 15], &[0x80]].concat());
    check(1.5_f32, &[0xce, 0, 0, 0xc0, 0x3f]);
    check(1.5_f64, &[0xcf, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f]);
    check(Bytes(vec![1, 2]), &[0xd1, 2, 1, 2]);
    check('x', b"\x41x");
    check(BTreeMap::from([('a', 1)]), b"\xd3\x01\x41a\x01");
    check(vec![7_u8; 8], &[0xe0, 8, 7, 7, 7, 7, 7, 7, 7, 7]);
    check(([-2_i16; 8],), &[&[0x61, 0xe3, 8][..], &[0xfe, 0xff].repeat(8)].concat());
    check(Newtype(vec![1; 7]), &[0x67, 1, 1, 1, 1, 1, 1, 1]);
    check(Variants::Unit, b"\xff\x01\x01\x04Unit\x90");
    check(vec![Pair(1, "x".into()); 2], b"\x62\x62\x01\x41x\x62\x01\x41x");
    // The shapes are numbered in the order in which they are complete.
    let inner = || Variants::Struct { x: true, y: None };
    let value = fields(Some(vec![inner(), Variants::Newtype(0.5), inner()]));
    check(
        Fields { nested: [].into(), ..value },
        &[
            &b"\xff\x04\x01\x06Struct\x02\x01\x01xy\x01\x07Newtype\x03\x01\x1f\x06a"[..],
            b"a_name_of_more_than_eight_bytesnested\x73\xc5\x2c\x01\xc3\x63",
            b"\xa0\x71\xc2\xc0\xa2\xcf\0\0\0\0\0\0\xe0\x3f\xa0\x71\xc2\xc0\x60",
        ]
        .concat(),
    );
}

/// The bytes depend neither on what the thread has met, nor on where the compiler puts names.
#[test]
fn shapes_are_found_by_their_names() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Holes {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        a: Option<u8>,
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        children: Vec<Holes>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        b: Option<u8>,
    }
    // All combinations, of which some have as many fields as others.
    let leaf = |n: u8| Holes {
        a: (n & 1 > 0).then_some(n),
        children: vec![],
        b: (n & 2 > 0).then_some(n),
    };
    let tree = |n: u8| Holes { children: vec![leaf(n & 3), leaf(n >> 2 & 3)], ..leaf(n >> 4 & 3) };
    for n in 0..64 {
        assert_arrives(&tree(n));
        assert_arrives(&(tree(n), tree(63 - n), tree(n ^ 21)));
    }
    assert_arrives(&(0..64).map(tree).collect::<Vec<_>>());

    /// Names of one struct, at addresses of their own.
    #[derive(Debug, PartialEq, Deserialize)]
    struct Moving {
        a: u8,
    }
    impl Serialize for Moving {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeStruct;
            let leak = |name: &str| -> &'static str { Box::leak(name.to_owned().into()) };
            let mut fields = serializer.serialize_struct(leak("Moving"), 1)?;
            fields.serialize_field(leak("a"), &self.a)?;
            fields.end()
        }
    }
    let values = || (0..20).map(|a| Moving { a }).collect::<Vec<_>>();
    assert_arrives(&values());
    let bytes = encode(&values()).unwrap().body;
    let items = (0..20).flat_map(|a| [0x70, a]);
    assert_eq!(
        bytes,
        b"\xff\x01\x01\x01a\xd2\x14".iter().copied().chain(items).collect::<Vec<_>>()
    );

    // More of them than short numbers.
    macro_rules! many {
        ($($name:ident)*) => {{
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            enum Many { $($name { $name: u8 }, )* }
            vec![$(Many::$name { $name: 1 }),*]
        }};
    }
    #[allow(non_camel_case_types, non_snake_case)]
    let many = many! {
        a b c d e f g h i j k l m n o p q r s t u v w x y z
        aa ab ac ad ae af ag ah ai aj ak al am an ao ap aq ar as_ at au av aw ax ay az
    };
    assert_arrives(&many);
    assert_arrives(&[many.clone(), many].concat());
}
