//! Handles on their way: descriptors beside frames.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::{env, process};

use concurrent_futures::ipc::SharedSlice;
use concurrent_futures::{
    CodecSide, Error, InlineExecutor, ParentPool, ProcessPoolExecutor, ThreadPoolExecutor, call,
};
use serde::{Deserialize, Serialize};

use crate::program::alone;
use crate::support::within_limit;
use crate::tools::{Gate, end, occupy, pool};

type Slice = SharedSlice<u32>;

fn slice(first: u32) -> Slice {
    SharedSlice::new((first..first + 100).collect::<Vec<_>>()).unwrap()
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Named { slice: Slice, factor: u32 },
    Tuple(u8, Slice),
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    list: Vec<Option<Slice>>,
    map: HashMap<String, Slice>,
    pair: (Slice, u8),
    kinds: Vec<Kind>,
    text: String,
}

/// Returns whether this process may have some hundred descriptors more. If not, says that a test is left out.
pub(crate) fn may_have_many() -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let may = limit.is_none_or(|limit| limit >= 1000);
    if !may {
        println!("left out: this process may have {limit:?} open files");
    }
    may
}

fn everything() -> Everything {
    let same = slice(7);
    Everything {
        list: vec![Some(slice(1)), None, Some(same.clone())],
        map: [("one".to_owned(), slice(2)), ("two".to_owned(), same.clone())].into(),
        pair: (same, 9),
        kinds: vec![
            Kind::Named { slice: slice(3), factor: 3 },
            Kind::Nothing,
            Kind::Tuple(1, slice(4)),
        ],
        text: "behind them".to_owned(),
    }
}

fn returned(all: Everything) -> Everything {
    all
}

/// W-1, W-18.
#[test]
fn handles_travel_inside_of_values_of_all_kinds() {
    within_limit(|| {
        for workers in [1, 2] {
            let pool = pool(workers);
            for _ in 0..20 {
                let all = everything();
                assert_eq!(pool.submit(call!(returned(all.clone()))).result().unwrap(), all);
            }
            end(&pool);
        }
        let all = everything();
        let threads = ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
        assert_eq!(threads.submit(call!(returned(all.clone()))).result().unwrap(), all);
        let inline = InlineExecutor::new();
        let same = inline.submit(call!(returned(all.clone()))).result().unwrap();
        assert_eq!(same.pair.0.as_ptr(), all.pair.0.as_ptr());
    });
}

/// W-2.
#[test]
fn the_same_handle_twice_is_one_mapping() {
    fn addresses((one, two, many): (Slice, Slice, Vec<Slice>)) -> (bool, bool) {
        let is_same = |other: &Slice| other.as_ptr() == one.as_ptr();
        (is_same(&two), many.iter().all(is_same))
    }
    within_limit(|| {
        let pool = pool(1);
        let one = slice(1);
        let many = vec![one.clone(); 1000];
        let same =
            pool.submit(call!(addresses((one.clone(), one.clone(), many)))).result().unwrap();
        assert_eq!(same, (true, true));
        let other = slice(1);
        let same = pool.submit(call!(addresses((one, other, vec![])))).result().unwrap();
        assert_eq!(same, (false, true));
        end(&pool);
    });
}

fn first_of((slice, at): (Slice, usize)) -> u32 {
    slice[at]
}

fn made(first: u32) -> Slice {
    slice(first)
}

/// W-3.
#[test]
fn handles_are_items_and_results_of_maps() {
    within_limit(|| {
        for workers in [1, 2] {
            let pool = pool(workers);
            let one = slice(0);
            let items: Vec<_> = (0..1000).map(|n| (one.clone(), n % 100)).collect();
            let firsts = pool.map(first_of, items).result().unwrap();
            assert!(firsts.iter().zip(0..).all(|(first, n)| *first == n % 100));
            // One of its own in each item; a message has 253 at most.
            let count = if may_have_many() { 600 } else { 10 };
            let items: Vec<_> = (0..count).map(|n| (slice(n), 3)).collect();
            let firsts = pool.map(first_of, items).chunk_size(600).result().unwrap();
            assert!(firsts.iter().zip(3..).all(|(first, n)| *first == n));
            let slices = pool.map(made, 0..count / 2).result().unwrap();
            assert!(slices.iter().zip(0..).all(|(made, n)| *made == slice(n)));
            let context = pool.map_with(one, |one: &Slice, at| one[at], 0..100_usize);
            assert_eq!(context.result().unwrap(), (0..100).collect::<Vec<_>>());
            end(&pool);
        }
    });
}

fn to_another_worker(slice: Slice) -> Result<(Slice, u32), String> {
    let pool = ParentPool::current().ok_or("no pool")?;
    let other = pool.submit(call!(first_of((slice.clone(), 5)))).result();
    let made = pool.submit(call!(made(70))).result().map_err(|error| error.to_string())?;
    Ok((made, other.map_err(|error| error.to_string())?))
}

/// W-4.
#[test]
fn handles_go_on_to_another_worker_and_come_back() {
    within_limit(|| {
        for workers in [1, 2] {
            let pool = pool(workers);
            let outcome = pool.submit(call!(to_another_worker(slice(10)))).result().unwrap();
            assert_eq!(outcome, Ok((slice(70), 15)));
            end(&pool);
        }
    });
}

/// W-6.
#[test]
fn what_can_not_carry_a_handle_says_so() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Slice(Slice),
    }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Slice { slice: Slice },
    }
    fn untagged(_: Untagged) {}
    fn tagged(_: Tagged) {}
    let text = "a SharedSlice<u32> can only be sent to a process of this program, by an executor or a channel of this crate";
    let json = serde_json::to_string(&slice(1)).unwrap_err().to_string();
    assert!(json.starts_with(text), "{json}");
    let postcard = postcard::to_stdvec(&slice(1)).unwrap_err().to_string();
    assert!(!postcard.is_empty()); // it has no texts
    let read = serde_json::from_str::<Slice>("[1, 2]").unwrap_err().to_string();
    assert!(read.contains("can only be sent to a process of this program"), "{read}");
    within_limit(|| {
        let pool = pool(1);
        let outcome = pool.submit(call!(untagged(Untagged::Slice(slice(1))))).result();
        let error = outcome.unwrap_err();
        let Error::Codec(codec) = &error else { panic!("{error}") };
        assert_eq!(codec.side, CodecSide::DecodeArguments);
        assert!(codec.message.contains("not within an untagged"), "{error}");
        let outcome = pool.submit(call!(tagged(Tagged::Slice { slice: slice(1) }))).result();
        assert!(matches!(outcome, Err(Error::Codec(_))), "{outcome:?}");
        assert_eq!(pool.submit(call!(first_of((slice(3), 0)))).result().unwrap(), 3);
        end(&pool);
    });
}

/// W-8.
#[test]
fn many_queued_tasks_with_one_handle_have_one_descriptor() {
    alone("handles::many_queued_tasks_with_one_handle_have_one_descriptor", || {
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let pool = pool(1);
        let one = slice(0);
        assert_eq!(pool.submit(call!(first_of((one.clone(), 1)))).result().unwrap(), 1);
        let before = descriptors();
        let submit = |n| pool.submit(call!(first_of((one.clone(), n % 100))));
        let tasks: Vec<_> = (0..10_000_usize).map(submit).collect();
        assert_eq!(descriptors(), before);
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.result().unwrap(), n as u32 % 100);
        }
        end(&pool);
    });
}

/// W-9.
#[test]
fn results_beyond_the_limit_on_open_files_are_errors_and_the_others_arrive() {
    if !may_have_many() {
        return;
    }
    alone(
        "handles::results_beyond_the_limit_on_open_files_are_errors_and_the_others_arrive",
        || {
            let pool = pool(2);
            assert_eq!(pool.submit(call!(made(1))).result().unwrap(), slice(1));
            let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
            let limit = rustix::process::Rlimit { current: Some(200), ..before };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
            let tasks: Vec<_> = (0..400).map(|n| (n, pool.submit(call!(made(n))))).collect();
            let (mut kept, mut errors) = (Vec::new(), 0);
            for (n, task) in tasks {
                match task.result() {
                    Ok(slice) => kept.push((n, slice)),
                    Err(Error::Codec(error)) => {
                        assert!(error.message.contains("ulimit -n"), "{error}");
                        errors += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(kept.len() > 100 && errors > 100, "{} {errors}", kept.len());
            assert!(kept.iter().all(|(n, slice)| slice[..] == (*n..n + 100).collect::<Vec<_>>()));
            kept.clear();
            assert_eq!(pool.submit(call!(made(1))).result().unwrap()[0], 1);
            rustix::process::setrlimit(rustix::process::Resource::Nofile, before).unwrap();
            end(&pool);
        },
    );
}

fn count(slices: Vec<Slice>) -> usize {
    slices.len()
}

/// W-10.
#[test]
fn a_value_has_at_most_253_descriptors() {
    if !may_have_many() {
        return;
    }
    within_limit(|| {
        let pool = pool(1);
        let slices: Vec<_> = (0..254).map(slice).collect();
        assert_eq!(pool.submit(call!(count(slices[..253].to_vec()))).result().unwrap(), 253);
        let error = pool.submit(call!(count(slices.clone()))).result().unwrap_err();
        let Error::Codec(codec) = &error else { panic!("{error}") };
        assert_eq!(codec.side, CodecSide::EncodeArguments);
        assert!(codec.message.contains("253"), "{error}");
        let again: Vec<_> = (0..300).map(|n| slices[n % 9].clone()).collect();
        assert_eq!(pool.submit(call!(count(again))).result().unwrap(), 300);
        // In a map it is the item that fails.
        let items = vec![slices[..200].to_vec(), slices.clone(), slices[..100].to_vec()];
        let counts = pool.map(count, items).chunk_size(3);
        let counts: Vec<_> = counts.blocking().map(|count| count.ok()).collect();
        assert_eq!(counts, [Some(200), None, Some(100)]);
        end(&pool);
    });
}

/// W-15.
#[test]
fn a_task_that_runs_again_finds_its_handle() {
    fn die_once((slice, died): (Slice, PathBuf)) -> u32 {
        if File::create_new(died).is_ok() {
            std::process::abort();
        }
        slice[50]
    }
    within_limit(|| {
        let pool = pool(1);
        let died = env::temp_dir().join(format!("concurrent-futures-ipc-{}", process::id()));
        let task = pool.task().retries(1).submit(call!(die_once((slice(0), died.clone()))));
        assert_eq!(task.result().unwrap(), 50);
        fs::remove_file(died).unwrap();
        end(&pool);
    });
}

/// W-5.
#[test]
fn an_initializer_may_have_a_handle() {
    fn keep(slice: Slice) {
        TABLE.set(slice).unwrap();
    }
    fn look_up(at: usize) -> u32 {
        TABLE.get().unwrap()[at]
    }
    static TABLE: std::sync::OnceLock<Slice> = std::sync::OnceLock::new();
    within_limit(|| {
        let builder = ProcessPoolExecutor::builder().max_workers(2).max_tasks_per_worker(3);
        let pool = builder.initializer(call!(keep(slice(100)))).build().unwrap();
        for at in 0..20 {
            assert_eq!(pool.submit(call!(look_up(at))).result().unwrap(), 100 + at as u32);
        }
        end(&pool);
        let builder = ProcessPoolExecutor::builder().preload(call!(keep(slice(100))));
        let error = format!("{:?}", builder.build().unwrap_err());
        assert!(error.contains("initializer"), "{error}");
    });
}

/// W-17.
#[test]
fn a_pool_of_a_worker_s_own_takes_handles() {
    fn by_its_own_pool(slice: Slice) -> Result<u32, String> {
        let own = ProcessPoolExecutor::builder().max_workers(1).build();
        let own = own.map_err(|error| error.to_string())?;
        let made = own.submit(call!(made(5))).result().map_err(|error| error.to_string())?;
        let first = own.submit(call!(first_of((slice, 20)))).result();
        Ok(made[0] + first.map_err(|error| error.to_string())?)
    }
    within_limit(|| {
        let pool = pool(1);
        assert_eq!(pool.submit(call!(by_its_own_pool(slice(0)))).result().unwrap(), Ok(25));
        end(&pool);
    });
}

/// W-7.
#[test]
fn a_handle_of_another_type_is_an_error_that_names_both() {
    #[derive(Serialize)]
    struct Sent(SharedSlice<u64>);
    // A type whose two sides do not agree.
    impl<'de> Deserialize<'de> for Sent {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            SharedSlice::<f64>::deserialize(deserializer)?;
            unreachable!("it is of another type")
        }
    }
    fn receive(_: Sent) {}
    within_limit(|| {
        let pool = pool(1);
        let numbers = SharedSlice::new([1_u64]).unwrap();
        let error = pool.submit(call!(receive(Sent(numbers)))).result().unwrap_err().to_string();
        assert!(error.contains("a SharedSlice<u64> instead of a SharedSlice<f64>"), "{error}");
        end(&pool);
    });
}

/// W-9, of a worker.
#[test]
fn arguments_beyond_a_worker_s_limit_on_open_files_are_errors_and_it_goes_on() {
    fn allow_few() {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let limit = rustix::process::Rlimit { current: Some(20), ..limit };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    }
    fn counted((slices, more): &(Vec<Slice>, usize), n: usize) -> usize {
        slices.len() + more + n
    }
    #[track_caller]
    fn assert_says_why<T: std::fmt::Debug>(outcome: Result<T, Error>) {
        let error = outcome.unwrap_err();
        let Error::Codec(codec) = &error else { panic!("{error}") };
        assert_eq!(codec.side, CodecSide::DecodeArguments);
        assert!(codec.message.contains("ulimit -n"), "{error}");
    }
    within_limit(|| {
        let builder = ProcessPoolExecutor::builder().max_workers(1);
        let pool = builder.initializer(call!(allow_few())).build().unwrap();
        let worker = pool.submit(call!(process::id())).result().unwrap();
        let many: Vec<_> = (0..30).map(slice).collect();
        assert_says_why(pool.submit(call!(count(many.clone()))).result());
        assert_eq!(pool.submit(call!(count(many[..5].to_vec()))).result().unwrap(), 5);
        assert_says_why(pool.map(count, [many.clone()]).result());
        assert_says_why(pool.map_with((many.clone(), 1), counted, 0..3).result());
        let few = pool.map_with((many[..5].to_vec(), 1), counted, 0..3);
        assert_eq!(few.result().unwrap(), [6, 7, 8]);
        assert_eq!(pool.submit(call!(process::id())).result().unwrap(), worker);
        end(&pool);
    });
}

/// Whatever becomes of a task, its descriptors are closed with it.
#[test]
fn a_task_that_does_not_run_leaves_no_descriptor() {
    fn fail(slice: Slice) {
        panic!("with {} numbers", slice.len())
    }
    alone("handles::a_task_that_does_not_run_leaves_no_descriptor", || {
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let pool = ProcessPoolExecutor::builder().max_workers(1).queue_capacity(3).build().unwrap();
        assert_eq!(pool.submit(call!(first_of((slice(0), 1)))).result().unwrap(), 1);
        let before = descriptors();
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let queued: Vec<_> = (0..3).map(|n| pool.submit(call!(first_of((slice(n), 1))))).collect();
        let refused = pool.submit(call!(first_of((slice(9), 1)))).result();
        assert!(matches!(refused, Err(Error::QueueFull { .. })), "{refused:?}");
        let map = pool.map(first_of, (0..).map(|n| (slice(n), 1))).buffer_size(4).start();
        drop((queued, map));
        gate.open();
        held.result().unwrap();
        let failed = pool.submit(call!(fail(slice(0)))).result();
        assert!(matches!(failed, Err(Error::Panicked(_))), "{failed:?}");
        end(&pool);
        let closed = pool.submit(call!(first_of((slice(0), 1)))).result();
        assert!(matches!(closed, Err(Error::ShutDown)), "{closed:?}");
        drop(pool);
        assert!(descriptors() <= before);
    });
}
