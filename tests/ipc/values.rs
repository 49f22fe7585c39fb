//! Values that processes share, and change.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Instant;

use concurrent_futures::ipc::{self, Lock, Receiver, Sender, Value, channel};
use concurrent_futures::{Buffer, TaskFuture, call};
use futures::FutureExt;
use futures::executor::block_on;
use serde::{Deserialize, Serialize};

use crate::support::{scaled, within_limit};
use crate::tools::{LONG, SHORT, end, lost, own_pid, pool};
use crate::watch::kill;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Totals {
    rows: u64,
    names: Vec<String>,
    by_name: HashMap<String, (u32, Option<f64>)>,
}

fn add(totals: Value<Totals>, name: String) -> u64 {
    let changed = totals.with_blocking(|totals| {
        totals.rows += 1;
        totals.names.push(name.clone());
        totals.by_name.insert(name, (1, None));
        totals.rows
    });
    changed.unwrap()
}

/// V-1, V-2.
#[test]
fn a_value_of_any_type_is_changed_by_processes() {
    fn write(
        (int, float, byte): (Value<i32>, Value<f64>, Value<u8>),
        (text, nothing): (Value<String>, Value<()>),
    ) {
        int.set_blocking(-7).unwrap();
        float.with_blocking(|it| *it *= 2.0).unwrap();
        block_on(byte.set(255)).unwrap();
        block_on(text.with(|it| it.push_str(" world"))).unwrap();
        nothing.set_blocking(()).unwrap();
    }
    within_limit(|| {
        let pool = pool(2);
        let numbers =
            (Value::new(1).unwrap(), Value::new(1.25).unwrap(), Value::new(0_u8).unwrap());
        let others = (Value::new("hello".to_owned()).unwrap(), Value::new(()).unwrap());
        pool.submit(call!(write(numbers.clone(), others.clone()))).result().unwrap();
        assert_eq!((numbers.0.get().unwrap(), numbers.1.get().unwrap()), (-7, 2.5));
        assert_eq!(numbers.2.get().unwrap(), 255);
        assert_eq!(others.0.get().unwrap(), "hello world");
        others.1.get().unwrap();

        let totals = Value::new(Totals::default()).unwrap();
        let names = ["one", "two", "three"];
        let tasks = names.map(|name| pool.submit(call!(add(totals.clone(), name.to_owned()))));
        let mut rows: Vec<u64> = tasks.map(|task| task.result().unwrap()).into();
        rows.sort_unstable();
        assert_eq!(rows, [1, 2, 3]);
        let now = totals.get().unwrap();
        assert_eq!((now.rows, now.by_name.len()), (3, 3));
        assert!(names.iter().all(|name| now.names.contains(&(*name).to_owned())));
        assert!(format!("{totals:?}").starts_with("Value(Totals { rows: 3"));
        end(&pool);
    });
}

#[test]
fn a_buffer_in_a_value_is_copied_with_it() {
    within_limit(|| {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        let value = Value::with_capacity(1 << 20, ("a".to_owned(), Buffer::from(bytes.clone())));
        let value = value.unwrap();
        value.with_blocking(|(text, _)| text.push('b')).unwrap();
        let (text, buffer) = value.get().unwrap();
        assert_eq!((&text[..], &buffer[..]), ("ab", &bytes[..]));
        value.with_blocking(|(_, buffer)| *buffer = Buffer::from(vec![7_u8])).unwrap();
        assert_eq!(value.get().unwrap().1[..], [7]);
    });
}

#[derive(Debug, PartialEq)]
struct Picky(u32);

impl Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 13 {
            return Err(serde::ser::Error::custom("thirteen"));
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(Self)
    }
}

/// V-4, V-5.
#[test]
fn a_change_that_fails_has_not_happened() {
    within_limit(|| {
        let value = Value::new(Picky(1)).unwrap();
        let refused = value.with_blocking(|it| it.0 = 13).unwrap_err();
        assert!(matches!(&refused, ipc::Error::Codec(error) if error.message.contains("thirteen")));
        assert_eq!(value.get().unwrap(), Picky(1));
        let panics = catch_unwind(AssertUnwindSafe(|| {
            value.with_blocking(|it| {
                it.0 = 2;
                panic!("within");
            })
        }));
        assert_eq!(panics.unwrap_err().downcast_ref(), Some(&"within"));
        assert_eq!(value.get().unwrap(), Picky(1));
        value.with_blocking(|it| it.0 = 3).unwrap();
        assert_eq!(value.get().unwrap(), Picky(3));

        let text = Value::with_capacity(16, "short".to_owned()).unwrap();
        let refused = text.with_blocking(|it| it.push_str(" and very long")).unwrap_err();
        assert!(matches!(refused, ipc::Error::TooLarge { size, capacity: 16, .. } if size > 16));
        assert!(refused.to_string().contains("with_capacity"), "{refused}");
        assert_eq!((text.get().unwrap(), text.capacity()), ("short".to_owned(), 16));
        block_on(text.set("another".to_owned())).unwrap();
        assert_eq!(text.get().unwrap(), "another");

        assert!(matches!(Value::with_capacity(0, 1), Err(ipc::Error::InvalidSetting(_))));
        assert!(matches!(Value::with_capacity(usize::MAX, 1), Err(ipc::Error::InvalidSetting(_))));
        let large = Value::new(vec![0_u8; 70_000]);
        assert!(matches!(large, Err(ipc::Error::TooLarge { capacity: 65_536, .. })));
        let handle = Value::new(Lock::new().unwrap()).unwrap_err();
        assert!(matches!(&handle, ipc::Error::Codec(error) if error.message.contains("beside it")));
    });
}

#[test]
fn one_changes_at_a_time_and_readers_wait_for_nobody() {
    within_limit(|| {
        let value = Value::new(1).unwrap();
        let nested = value.with_blocking(|it| {
            *it = 2;
            assert_eq!(value.get().unwrap(), 1);
            assert!(value.try_with(|_| ()).unwrap().is_none());
            let begin = Instant::now();
            assert!(value.with_timeout(SHORT, |_| ()).unwrap().is_none());
            assert!(begin.elapsed() >= SHORT);
            assert!(value.with(|_| ()).now_or_never().is_none());
            assert!(value.set(7).now_or_never().is_none());
            "done"
        });
        assert_eq!((nested.unwrap(), value.get().unwrap()), ("done", 2));
        assert_eq!(value.try_with(|it| *it).unwrap(), Some(2));
        assert_eq!(value.with_timeout(LONG, |it| *it).unwrap(), Some(2));
    });
}

/// V-6, V-7.
#[test]
fn a_state_can_be_waited_for() {
    fn count_to(value: Value<u32>, end: u32) {
        while value.with_blocking(|it| std::mem::replace(it, *it + 1)).unwrap() + 1 < end {}
    }
    within_limit(|| {
        let pool = pool(2);
        let value = Value::new(0).unwrap();
        let begin = Instant::now();
        assert!(value.wait_until_timeout(SHORT, |it| *it > 0).unwrap().is_none());
        assert!(begin.elapsed() >= SHORT);
        assert!(value.wait_until(|it| *it > 0).now_or_never().is_none());
        let waits: Vec<_> = (1..=6)
            .map(|n| {
                let value = value.clone();
                thread::spawn(move || match n % 3 {
                    0 => value.wait_until_blocking(|it| *it >= n * 50).unwrap(),
                    1 => block_on(value.wait_until(|it| *it >= n * 50)).unwrap(),
                    _ => value.wait_until_timeout(LONG, |it| *it >= n * 50).unwrap().unwrap(),
                })
            })
            .collect();
        let counts: Vec<TaskFuture<()>> =
            (0..2).map(|_| pool.submit(call!(count_to(value.clone(), 300)))).collect();
        for (wait, n) in waits.into_iter().zip(1..) {
            assert!(wait.join().unwrap() >= n * 50);
        }
        counts.into_iter().for_each(|count| count.result().unwrap());
        assert!(value.wait_until(|it| *it >= 300).now_or_never().unwrap().unwrap() >= 300);
        end(&pool);
    });
}

fn increment(value: Value<u64>, times: u64, is_async: bool) {
    for _ in 0..times {
        if is_async {
            block_on(value.with(|it| *it += 1)).unwrap();
        } else {
            value.with_blocking(|it| *it += 1).unwrap();
        }
    }
}

/// V-8.
#[test]
fn no_change_of_many_processes_is_lost() {
    within_limit(|| {
        let pool = pool(4);
        let value = Value::new(0).unwrap();
        let times = scaled(25_000) as u64;
        let tasks: Vec<TaskFuture<()>> = (0..4)
            .map(|n| pool.submit(call!(increment(value.clone(), times, n % 2 == 0))))
            .collect();
        tasks.into_iter().for_each(|task| task.result().unwrap());
        assert_eq!(value.get().unwrap(), 4 * times);
        end(&pool);
    });
}

fn stop_within(value: Value<u32>, inside: Sender<u32>, go_on: Receiver<()>) {
    let changed = value.with_blocking(|it| {
        *it += 1;
        inside.send_blocking(own_pid()).unwrap();
        go_on.recv_blocking().unwrap();
    });
    changed.unwrap();
}

/// V-3.
#[test]
fn a_change_whose_process_is_killed_has_not_happened() {
    within_limit(|| {
        let pool = pool(1);
        let value = Value::new(5).unwrap();
        for round in 0..scaled(50) {
            let ((inside, is_inside), (_go_on, goes_on)) =
                (channel(1).unwrap(), channel(1).unwrap());
            let stops = pool.submit(call!(stop_within(value.clone(), inside, goes_on)));
            let pid = is_inside.recv_blocking().unwrap();
            let waits = thread::spawn({
                let value = value.clone();
                move || match round % 2 {
                    0 => value.with_blocking(|it| *it).unwrap(),
                    _ => block_on(value.with(|it| *it)).unwrap(),
                }
            });
            kill(pid);
            assert_eq!(waits.join().unwrap(), 5);
            lost(stops.result());
        }
        end(&pool);
    });
}

/// Both are always the same.
type Pair = (u64, Vec<u64>);

fn count_until_killed(value: Value<Pair>, hello: Sender<u32>) {
    hello.send_blocking(own_pid()).unwrap();
    loop {
        let counted = value.with_blocking(|(count, all)| {
            *count += 1;
            all.iter_mut().for_each(|each| *each += 1);
        });
        counted.unwrap();
    }
}

/// V-9. What is read is always whole, and never from before.
#[test]
fn kills_at_any_moment_tear_no_value() {
    within_limit(|| {
        let pool = pool(2);
        let value = Value::new((0, vec![0; 100])).unwrap();
        let (hello, greeted) = channel(10).unwrap();
        let start = || pool.submit(call!(count_until_killed(value.clone(), hello.clone())));
        let mut tasks = vec![start(), start()];
        let mut pids = VecDeque::new();
        let mut last = 0;
        for _ in 0..scaled(200) {
            while pids.len() < 2 {
                pids.push_back(greeted.recv_blocking().unwrap());
            }
            // Somebody goes on.
            let (count, all) = value.wait_until_blocking(|(count, _)| *count > last + 20).unwrap();
            assert!(all.iter().all(|each| *each == count), "{count} {all:?}");
            last = count;
            kill(pids.pop_front().unwrap());
            tasks.push(start());
        }
        pids.extend((pids.len()..2).map(|_| greeted.recv_blocking().unwrap()));
        pids.into_iter().for_each(kill);
        tasks.into_iter().for_each(|task| drop(lost(task.result())));
        end(&pool);
    });
}

#[test]
fn a_value_of_another_type_is_refused() {
    fn take(value: Value<String>) -> usize {
        value.get().unwrap().len()
    }
    fn give(value: Value<u32>) -> Value<u32> {
        value
    }
    within_limit(|| {
        let pool = pool(1);
        let value = Value::new("four".to_owned()).unwrap();
        assert_eq!(pool.submit(call!(take(value))).result().unwrap(), 4);
        let value = Value::new(4_u32).unwrap();
        let same = pool.submit(call!(give(value.clone()))).result().unwrap();
        same.set_blocking(5).unwrap();
        assert_eq!(value.get().unwrap(), 5);
        let text = serde_json::to_string(&value).unwrap_err().to_string();
        assert!(text.contains("can only be sent to a process of this program"), "{text}");
        end(&pool);
    });
}
