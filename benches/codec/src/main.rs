//! How long the codec takes for values of several types, and how many bytes they are, beside postcard.
//!
//! ```sh
//! cargo run --release -p codec-benches            # all rows, half a minute
//! cargo run --release -p codec-benches -- struct  # only names that contain this
//! ```
//!
//! Each row is the best of many short turns, which the two take one after the other. A build of
//! another revision prints the same rows: run the two in turn, several times, and compare those of
//! the same name.
#![allow(dead_code, unused_imports, reason = "the codec is compiled without what uses it")]

#[path = "../../../src/codec/mod.rs"]
mod codec;
mod doubles;
#[path = "../../../src/portable.rs"]
mod portable;
mod sys;
use doubles::{error, panic, sync};

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::portable::Portable;

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    println!("                             encode ns            decode ns            bytes");
    println!(
        "                             ours     postcard    ours     postcard    ours   postcard"
    );
    let numbers: Vec<f64> = (0..8192).map(|n| f64::from(n) / 3.0).collect();
    let bytes: Vec<u8> = (0..65536).map(|n: u32| (n * 7) as u8).collect();
    let rows = Rows { filter };

    rows.row("(u64,)", &(123_456_u64,));
    rows.row("(u32, String)", &(7_u32, "a name".to_owned()));
    rows.row("(Vec<u8>,), 64 KiB", &(bytes.clone(),));
    rows.row("(Vec<f64>,), 64 KiB", &(numbers.clone(),));
    rows.row("(String,), 64 KiB", &("x".repeat(65536),));
    rows.row("Vec<u8> in a struct", &Holder { id: 1, values: bytes });
    rows.row("Vec<f64> in a struct", &Holder { id: 1, values: numbers });
    rows.row("Vec<u32> in a struct", &Holder { id: 1, values: (0..10_000).collect::<Vec<u32>>() });
    rows.row("struct, alone", &record(5));
    rows.row("struct, with alias", &Aliased::from(record(5)));
    rows.row("structs, 1000", &(0..1000).map(record).collect::<Vec<_>>());
    let aliased: Vec<Aliased> = (0..1000).map(|n| record(n).into()).collect();
    rows.row("structs with alias, 1000", &aliased);
    rows.row("enums, 100", &(0..100).map(shape).collect::<Vec<_>>());
    let map: BTreeMap<String, u64> = (0..100).map(|n| (format!("key {n}"), n * 1000)).collect();
    rows.row("map of 100", &map);
    let options: Vec<Option<u32>> = (0..100).map(|n| (n % 3 > 0).then_some(n * 1000)).collect();
    rows.row("options, 100", &options);
    let strings: Vec<String> = (0..100).map(|n| format!("string number {n}")).collect();
    rows.row("strings, 100", &strings);
    let tuples: Vec<(u32, f64, bool)> = (0..100).map(|n| (n, 0.5, n % 2 == 0)).collect();
    rows.row("tuples, 100", &tuples);
    rows.row("tree of 127 structs", &tree(6));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Holder<T> {
    id: u64,
    values: T,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    id: u64,
    name: String,
    x: f64,
    y: f64,
    active: bool,
    count: u32,
}

fn record(n: u32) -> Record {
    let (x, y) = (f64::from(n) / 7.0, f64::from(n) * 1.5);
    Record { id: n.into(), name: format!("name {n}"), x, y, active: n % 2 == 0, count: n * 10 }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Aliased {
    #[serde(alias = "number")]
    id: u64,
    name: String,
    x: f64,
    y: f64,
    #[serde(alias = "is_active")]
    active: bool,
    count: u32,
}

impl From<Record> for Aliased {
    fn from(Record { id, name, x, y, active, count }: Record) -> Self {
        Self { id, name, x, y, active, count }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Circle(f64),
    Line(u32, u32),
    Named { name: String, id: u64 },
}

fn shape(n: u32) -> Shape {
    match n % 4 {
        0 => Shape::Nothing,
        1 => Shape::Circle(0.5),
        2 => Shape::Line(n, n + 1),
        _ => Shape::Named { name: "name".into(), id: n.into() },
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tree {
    value: u32,
    children: Vec<Tree>,
}

fn tree(levels: u32) -> Tree {
    let children = if levels == 0 { vec![] } else { vec![tree(levels - 1), tree(levels - 1)] };
    Tree { value: levels, children }
}

struct Rows {
    filter: String,
}

impl Rows {
    fn row<T: Portable + PartialEq + Debug>(&self, name: &str, value: &T) {
        if !name.contains(&self.filter) {
            return;
        }
        let encoded = codec::encode(value).expect("it can be encoded");
        assert!(encoded.segments.is_empty(), "buffers are not measured here");
        assert_eq!(&decode::<T>(&encoded), value);
        let others = postcard::to_stdvec(value).expect("it can be encoded");
        let [encode, encode_other, decode, decode_other] = best([
            &|| drop(black_box(codec::encode(black_box(value)))),
            &|| drop(black_box(postcard::to_stdvec(black_box(value)))),
            &|| drop(black_box(decode::<T>(black_box(&encoded)))),
            &|| drop(black_box(postcard::from_bytes::<T>(black_box(&others)))),
        ]);
        let (ours, others) = (encoded.body.len(), others.len());
        println!(
            "{name:26} {encode:9.1} {encode_other:9.1}   {decode:9.1} {decode_other:9.1}   \
             {ours:7} {others:7}"
        );
    }
}

fn decode<T: Portable>(encoded: &codec::Encoded) -> T {
    codec::decode(&encoded.body, Vec::new()).expect("it can be decoded")
}

const TURNS: usize = 41;
const TURN: Duration = Duration::from_millis(3);

/// The time of each, in nanoseconds.
fn best<const N: usize>(all: [&dyn Fn(); N]) -> [f64; N] {
    let time = |operation: &dyn Fn(), times: u32| {
        let start = Instant::now();
        (0..times).for_each(|_| operation());
        start.elapsed()
    };
    let times = all.map(|operation| {
        let mut times = 1;
        while time(operation, times) < TURN {
            times *= 2;
        }
        times
    });
    let mut measured = [const { Vec::new() }; N];
    for _ in 0..TURNS {
        for n in 0..N {
            let each = time(all[n], times[n]).as_nanos() as f64 / f64::from(times[n]);
            measured[n].push(each);
        }
    }
    measured.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[0]
    })
}
