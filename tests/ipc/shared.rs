//! `Shared`: a value that is encoded once, and decoded once in each process.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use concurrent_futures::ipc::{self, Shared, SharedSlice};
use concurrent_futures::{
    Buffer, CodecSide, Error, InlineExecutor, ParentPool, ThreadPoolExecutor, call,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::support::within_limit;
use crate::tools::{end, pool};

type Table = Shared<HashMap<String, u32>>;

fn table() -> Table {
    Shared::new((0..1000).map(|n| (n.to_string(), n)).collect()).unwrap()
}

fn look_up((table, key): (Table, String)) -> Option<u32> {
    table.get(&key).copied()
}

#[test]
fn workers_read_what_was_put_in_also_when_its_maker_has_dropped_it() {
    within_limit(|| {
        for workers in [1, 2] {
            let pool = pool(workers);
            let table = table();
            let look_ups: Vec<_> = ["7", "999", "1000"]
                .map(|key| pool.submit(call!(look_up((table.clone(), key.to_owned())))))
                .into();
            drop(table);
            let found: Vec<_> = look_ups.into_iter().map(|it| it.result().unwrap()).collect();
            assert_eq!(found, [Some(7), Some(999), None]);
            let table = self::table();
            let items = (0..100).map(move |n| (table.clone(), n.to_string()));
            let found = pool.map(look_up, items).result().unwrap();
            assert!(found.into_iter().zip(0..).all(|(found, n)| found == Some(n)));
            end(&pool);
        }
    });
}

#[derive(Debug, Serialize, Deserialize)]
struct Everything {
    buffer: Buffer<f64>,
    small: Buffer<u8>,
    slice: SharedSlice<u32>,
    list: Vec<Option<Table>>,
    tree: BTreeMap<(u8, char), Result<String, i64>>,
    unit: (),
}

fn everything() -> Shared<Everything> {
    let table = table();
    Shared::new(Everything {
        buffer: (0..10_000).map(f64::from).collect(),
        small: Buffer::from(vec![1, 2, 3]),
        slice: SharedSlice::new([5; 3000]).unwrap(),
        list: vec![Some(table.clone()), None, Some(table)],
        tree: [((1, 'a'), Ok("b".to_owned())), ((2, 'c'), Err(-1))].into(),
        unit: (),
    })
    .unwrap()
}

fn returned(all: Shared<Everything>) -> Shared<Everything> {
    all
}

/// Says what differs.
fn check(all: Shared<Everything>) -> Vec<String> {
    let mut differs = Vec::new();
    let mut expect = |what: &str, is_right: bool| {
        if !is_right {
            differs.push(what.to_owned());
        }
    };
    expect("buffer", all.buffer.iter().zip(0..10_000).all(|(a, b)| *a == f64::from(b)));
    expect("length", all.buffer.len() == 10_000 && all.small[..] == [1, 2, 3]);
    expect("slice", all.slice[..] == [5; 3000]);
    expect("tree", all.tree[&(1, 'a')] == Ok("b".to_owned()) && all.tree[&(2, 'c')] == Err(-1));
    let [Some(one), None, Some(two)] = &all.list[..] else { return vec!["list".to_owned()] };
    expect("same", std::ptr::eq(&**one, &**two) && one["77"] == 77);
    differs
}

/// A `Shared` within a `Shared`, slices and buffers.
#[test]
fn what_is_in_it_may_have_buffers_and_handles() {
    within_limit(|| {
        let pool = pool(1);
        for _ in 0..20 {
            let all = everything();
            let nothing: Vec<String> = Vec::new();
            assert_eq!(pool.submit(call!(check(all.clone()))).result().unwrap(), nothing);
            let back = pool.submit(call!(returned(all.clone()))).result().unwrap();
            assert!(std::ptr::eq(&*back, &*all), "it is known here");
            drop(all);
            assert_eq!(pool.submit(call!(check(back))).result().unwrap(), nothing);
        }
        end(&pool);
    });
}

#[test]
fn what_a_worker_makes_comes_back_and_goes_on() {
    fn made() -> Shared<Everything> {
        everything()
    }
    fn by_another_worker() -> Result<Vec<String>, String> {
        let pool = ParentPool::current().ok_or("no pool")?;
        let checked = pool.submit(call!(check(everything()))).result();
        checked.map_err(|error| error.to_string())
    }
    within_limit(|| {
        let pool = pool(2);
        let made = pool.submit(call!(made())).result().unwrap();
        assert_eq!(check(made.clone()), [] as [String; 0]);
        assert_eq!(pool.submit(call!(check(made))).result().unwrap(), [] as [String; 0]);
        assert_eq!(pool.submit(call!(by_another_worker())).result().unwrap(), Ok(vec![]));
        end(&pool);
    });
}

/// A value that counts how often this process has decoded it.
#[derive(Debug)]
struct Counted(Vec<u8>);

static DECODED: AtomicUsize = AtomicUsize::new(0);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DECODED.fetch_add(1, Relaxed);
        Vec::deserialize(deserializer).map(Self)
    }
}

fn address(value: Shared<Counted>) -> (usize, usize, usize) {
    (value.0.as_ptr().addr(), value.0.len(), DECODED.load(Relaxed))
}

/// W-18: nothing is decoded, and nothing is copied.
#[test]
fn in_one_process_it_is_the_value_itself() {
    within_limit(|| {
        let value = Shared::new(Counted(vec![1; 100])).unwrap();
        let expected = address(value.clone());
        let threads = ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
        assert_eq!(threads.submit(call!(address(value.clone()))).result().unwrap(), expected);
        let inline = InlineExecutor::new();
        assert_eq!(inline.submit(call!(address(value))).result().unwrap(), expected);
        assert_eq!(expected.2, 0);
    });
}

#[test]
fn what_can_not_be_encoded_is_an_error_of_new() {
    #[derive(Debug, Deserialize)]
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not this one"))
        }
    }
    let error = Shared::new(vec![Refuses]).unwrap_err();
    let ipc::Error::Codec(codec) = &error else { panic!("{error:?}") };
    assert_eq!(codec.side, CodecSide::EncodeShared);
    assert!(codec.message.contains("not this one") && codec.type_name.contains("Refuses"));
    assert_eq!(error.to_string(), "the value can't go to another process");
}

/// The one task has an error, and the worker goes on.
#[test]
fn what_can_not_be_decoded_is_an_error_of_the_task() {
    #[derive(Debug, Serialize)]
    struct Refuses(bool);
    impl<'de> Deserialize<'de> for Refuses {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            assert!(bool::deserialize(deserializer)?, "not this one");
            Err(serde::de::Error::custom("nor that one"))
        }
    }
    fn receive(_: Shared<Refuses>) {}
    within_limit(|| {
        let pool = pool(1);
        let worker = pool.submit(call!(std::process::id())).result().unwrap();
        for (value, text) in [(false, "not this one"), (true, "nor that one")] {
            let refuses = Shared::new(Refuses(value)).unwrap();
            let error = pool.submit(call!(receive(refuses))).result().unwrap_err();
            let Error::Codec(codec) = &error else { panic!("{error}") };
            assert_eq!(codec.side, CodecSide::DecodeArguments);
            assert!(codec.message.contains(text), "{error}");
        }
        assert_eq!(pool.submit(call!(std::process::id())).result().unwrap(), worker);
        end(&pool);
    });
}

/// W-7.
#[test]
fn a_value_of_another_type_is_an_error_that_names_both() {
    #[derive(Serialize)]
    struct Sent(Shared<u64>);
    // A type whose two sides do not agree.
    impl<'de> Deserialize<'de> for Sent {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Shared::<String>::deserialize(deserializer)?;
            unreachable!("it is of another type")
        }
    }
    fn receive(_: Sent) {}
    within_limit(|| {
        let pool = pool(1);
        let sent = Sent(Shared::new(7).unwrap());
        let error = pool.submit(call!(receive(sent))).result().unwrap_err().to_string();
        assert!(
            error.contains("a Shared<u64> instead of a Shared<alloc::string::String>"),
            "{error}"
        );
        let json = serde_json::to_string(&Shared::new(7_u64).unwrap()).unwrap_err().to_string();
        assert!(json.starts_with("a Shared<u64> can only be sent to a process"), "{json}");
        end(&pool);
    });
}

/// While a worker has a handle, further ones are to the same value.
#[test]
fn a_value_that_a_process_has_is_not_decoded_again() {
    fn keep(value: Shared<Counted>) -> (usize, usize, usize) {
        KEPT.set(value.clone()).unwrap();
        address(value)
    }
    static KEPT: OnceLock<Shared<Counted>> = OnceLock::new();
    within_limit(|| {
        let pool = pool(1);
        let value = Shared::new(Counted(vec![3; 100_000])).unwrap();
        let first = pool.submit(call!(keep(value.clone()))).result().unwrap();
        assert_eq!((first.1, first.2), (100_000, 1));
        for _ in 0..10 {
            assert_eq!(pool.submit(call!(address(value.clone()))).result().unwrap(), first);
        }
        end(&pool);
    });
}
