//! Channels with settings, and pools whose tasks wait for channels.

use std::thread;

use concurrent_futures::dump::Awaited;
use concurrent_futures::ipc::{
    ChannelBuilder, Error, Receiver, Sender, TryRecvError, TrySendError, channel,
};
use concurrent_futures::{ParentPool, ProcessPoolExecutor, call};

use crate::program::{Program, part};
use crate::support::within_limit;
use crate::tools::{builder, end, pool};

fn first(queue: Receiver<u32>) -> u32 {
    queue.recv_blocking().unwrap()
}

fn send(queue: Sender<u32>, number: u32) {
    queue.send_blocking(number).unwrap();
}

/// Waits until so many tasks wait for channels; nothing tells of it.
fn until_waiting(pool: &ProcessPoolExecutor, count: usize) {
    let waiting = || {
        let workers = pool.dump().workers;
        let tasks = workers.iter().flat_map(|worker| &worker.tasks);
        tasks.filter(|task| task.waits_for == [Awaited::Channel]).count()
    };
    while waiting() < count {
        thread::yield_now();
    }
}

#[test]
fn so_many_tasks_that_wait_for_channels_have_another_process_stand_in() {
    within_limit(|| {
        let pool = builder(1).max_waiting(2).build().unwrap();
        let channels: Vec<_> = (0..3).map(|_| channel(1).unwrap()).collect();
        let consumers = channels.iter().map(|(_, queue)| pool.submit(call!(first(queue.clone()))));
        let consumers: Vec<_> = consumers.collect();
        until_waiting(&pool, 3);
        // The third one keeps its place.
        let producer = pool.submit(call!(send(channels[1].0.clone(), 1)));
        let dump = pool.dump();
        assert_eq!((dump.workers.len(), dump.queue.count), (3, 1), "{dump}");
        let text = dump.to_string();
        assert!(text.contains("waits for a channel\n"), "{text}");
        assert!(
            text.contains("all that run wait for other processes (see `max_waiting`)\n"),
            "{text}"
        );
        // With the first out of the way the third one's place is lent out.
        channels[0].0.try_send(0).unwrap();
        producer.result().unwrap();
        channels[2].0.try_send(2).unwrap();
        for (n, consumer) in (0..).zip(consumers) {
            assert_eq!(consumer.result().unwrap(), n);
        }
        end(&pool);
    });
}

#[test]
fn without_stand_ins_a_task_that_waits_keeps_its_place() {
    within_limit(|| {
        let pool = builder(1).max_waiting(0).build().unwrap();
        let (sender, receiver) = channel(1).unwrap();
        let consumer = pool.submit(call!(first(receiver)));
        until_waiting(&pool, 1);
        let producer = pool.submit(call!(send(sender.clone(), 1)));
        assert_eq!(pool.metrics().workers, 1);
        assert_eq!(pool.metrics().queued, 1);
        sender.try_send(7).unwrap();
        assert_eq!(consumer.result().unwrap(), 7);
        assert!(producer.result().is_err(), "there is no receiver any more");
        end(&pool);
    });
}

#[test]
fn by_default_there_are_32_stand_ins() {
    within_limit(|| {
        // A worker takes two descriptors of the pool's process, and a channel three.
        let pool = pool(1);
        let (sender, receiver) = channel(1).unwrap();
        let tasks = if crate::handles::may_have_many() { 34 } else { 12 };
        let consumers: Vec<_> =
            (0..tasks).map(|_| pool.submit(call!(first(receiver.clone())))).collect();
        let running = tasks.min(33);
        until_waiting(&pool, running);
        let dump = pool.dump();
        assert_eq!((dump.workers.len(), dump.queue.count), (running, tasks - running), "{dump}");
        (0..tasks).for_each(|_| sender.send_blocking(1).unwrap());
        consumers.into_iter().for_each(|consumer| assert_eq!(consumer.result().unwrap(), 1));
        end(&pool);
    });
}

fn send_by_a_child(queue: Sender<u32>, ready: Sender<()>) {
    let pool = ParentPool::current().unwrap();
    ready.send_blocking(()).unwrap();
    pool.submit(call!(send(queue, 5))).result().unwrap();
}

/// A wait for another task is not counted, and always has a stand-in.
#[test]
fn a_wait_for_a_task_has_a_worker_whatever_waits_for_channels() {
    within_limit(|| {
        let pool = builder(2).max_waiting(0).build().unwrap();
        let (sender, receiver) = channel(1).unwrap();
        let (ready, is_ready) = channel(1).unwrap();
        let consumer = pool.submit(call!(first(receiver)));
        until_waiting(&pool, 1);
        let parent = pool.submit(call!(send_by_a_child(sender, ready)));
        is_ready.recv_blocking().unwrap();
        parent.result().unwrap();
        assert_eq!(consumer.result().unwrap(), 5);
        end(&pool);
    });
}

#[test]
fn bytes_out_of_range_are_refused() {
    for bytes in [0, 4095, (1 << 30) + 1, usize::MAX] {
        let refused = ChannelBuilder::new(1).bytes(bytes).build::<u8>().unwrap_err();
        assert!(matches!(refused, Error::InvalidSetting(_)), "{refused:?}");
        assert!(refused.to_string().contains("4,096 to 1,073,741,824"), "{refused}");
        assert!(ChannelBuilder::new(1).bytes(bytes).build_duplex::<u8, u8>().is_err());
    }
    assert!(ChannelBuilder::new(0).build::<u8>().is_err());
    drop(ChannelBuilder::new(1).bytes(1 << 30).build::<u8>().unwrap());
}

fn echo(items: Receiver<String>, back: Sender<String>) {
    items.blocking().for_each(|item| back.send_blocking(item.unwrap()).unwrap());
}

#[test]
fn a_channel_has_room_for_as_many_bytes_as_it_says() {
    within_limit(|| {
        for (bytes, least, most) in [(4 << 10, 3, 4), (4100, 3, 4), (64 << 10, 60, 65)] {
            let (sender, receiver) = ChannelBuilder::new(1_000).bytes(bytes).build().unwrap();
            let mut sent = 0;
            while sender.try_send("x".repeat(1_000)).is_ok() {
                sent += 1;
            }
            assert!((least..=most).contains(&sent), "{sent} in {bytes} bytes");
            let refused = sender.try_send("x".repeat(1_000));
            assert!(matches!(refused, Err(TrySendError::Full(_))), "{refused:?}");
            (0..sent).for_each(|_| assert_eq!(receiver.try_recv().unwrap().len(), 1_000));
            assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
            // Larger than a quarter, and than all of it.
            for length in [bytes / 4, bytes / 2, bytes, 3 * bytes] {
                sender.try_send("x".repeat(length)).unwrap();
                assert_eq!(receiver.try_recv().unwrap().len(), length);
            }
        }
    });
}

#[test]
fn both_ways_of_a_connection_have_as_many_bytes() {
    within_limit(|| {
        let pool = pool(1);
        let ((to, answers), (back, requests)) =
            ChannelBuilder::new(2).bytes(4 << 10).build_duplex().unwrap();
        let echoes = pool.submit(call!(echo(requests, back)));
        for length in (0..20_000).step_by(501) {
            to.send_blocking("x".repeat(length)).unwrap();
            assert_eq!(answers.recv_blocking().unwrap().len(), length);
        }
        drop(to);
        echoes.result().unwrap();
        end(&pool);
    });
}

#[test]
fn a_blocking_call_in_a_poll_of_a_runtime_is_reported_once_for_each_line() {
    const NAME: &str =
        "channel_settings::a_blocking_call_in_a_poll_of_a_runtime_is_reported_once_for_each_line";
    const LIMIT: std::time::Duration = std::time::Duration::from_millis(1);
    within_limit(|| {
        if part().is_none() {
            let mut program = Program::start(NAME, "program");
            let lines = program.hear();
            assert!(program.ended().success(), "{}", program.output());
            let output = program.output();
            let reports = output.lines().filter_map(|line| {
                let place =
                    line.strip_prefix("concurrent-futures: tests/ipc/channel_settings.rs:")?;
                assert!(line.contains(" blocks a thread while tokio polls a future"), "{line}");
                Some(place.split_once(':').unwrap().0.parse().unwrap())
            });
            let mut reported: Vec<u32> = reports.collect();
            reported.sort_unstable();
            let expected = if cfg!(debug_assertions) { lines } else { Vec::new() };
            assert_eq!(reported, expected, "{output}");
            return;
        }
        fn wait_in_vain() -> Vec<u32> {
            let (sender, receiver) = channel::<u32>(1).unwrap();
            assert!(receiver.recv_timeout(LIMIT).is_err());
            let first = line!() - 1;
            // What does not wait blocks nothing.
            assert!(receiver.try_recv().is_err());
            sender.send_blocking(1).unwrap();
            assert!(sender.try_send(2).is_err());
            assert!(sender.send_timeout(2, LIMIT).is_err());
            let second = line!() - 1;
            assert_eq!(receiver.recv_blocking().unwrap(), 1);
            let other = thread::spawn(move || {
                // It has blocked, or the item is there: which, nothing tells.
                while !sender.is_empty() {
                    thread::yield_now();
                }
                thread::sleep(LIMIT);
                drop(sender);
            });
            assert!(receiver.blocking().next().is_none());
            let third = line!() - 1;
            other.join().unwrap();
            vec![first, second, third]
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        wait_in_vain();
        runtime.block_on(runtime.spawn_blocking(wait_in_vain)).unwrap();
        let lines = runtime.block_on(runtime.spawn(async {
            // A limit may have passed before its wait begins.
            for _ in 0..19 {
                wait_in_vain();
            }
            wait_in_vain()
        }));
        crate::program::say(&lines.unwrap());
    });
}
