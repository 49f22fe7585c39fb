//! Channels: what their users see. Within one process they go the same way as between two.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::ipc::{
    self, Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, SharedSlice,
    TryRecvError, TrySendError, channel, duplex,
};
use concurrent_futures::{Buffer, Executor, InlineExecutor, Process, ThreadPoolExecutor, call};
use futures::future::{Either, join_all, select};
use futures::{FutureExt, StreamExt, executor::block_on};
use serde::{Deserialize, Serialize};

use crate::support::{Counter, scaled, within_limit};
use crate::tools::{LONG, SHORT, end, pool};

fn numbers(queue: Receiver<u32>) -> Vec<u32> {
    queue.blocking().map(|number| number.unwrap()).collect()
}

fn send_range(queue: Sender<u32>, from: u32, count: u32) {
    for number in from..from + count {
        queue.send_blocking(number).unwrap();
    }
}

///
#[test]
fn a_channel_has_room_for_as_many_items_as_it_says() {
    within_limit(|| {
        let (sender, receiver) = channel(3).unwrap();
        assert!(sender.is_empty() && receiver.is_empty() && !sender.is_full());
        for number in 0..3 {
            assert_eq!((sender.len(), receiver.len()), (number, number));
            sender.try_send(number).unwrap();
        }
        assert!(sender.is_full() && !receiver.is_empty());
        assert_eq!((sender.capacity(), receiver.capacity(), receiver.len()), (3, 3, 3));
        assert!(matches!(sender.try_send(7), Err(TrySendError::Full(7))));
        assert_eq!(sender.try_send(8).unwrap_err().into_inner(), 8);
        let begin = Instant::now();
        let refused = sender.send_timeout(9, SHORT);
        assert!(matches!(refused, Err(SendTimeoutError::Timeout(9))), "{refused:?}");
        assert!(begin.elapsed() >= SHORT);
        assert!(sender.send(10).now_or_never().is_none());
        assert_eq!(receiver.try_recv().unwrap(), 0);
        sender.try_send(3).unwrap();
        drop(sender);
        assert_eq!(receiver.blocking().map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3]);
    });
}

///
#[test]
fn an_empty_channel_has_nothing_to_receive() {
    within_limit(|| {
        let (sender, receiver) = channel::<String>(1).unwrap();
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
        let begin = Instant::now();
        assert!(matches!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout)));
        assert!(begin.elapsed() >= SHORT);
        assert!(receiver.recv().now_or_never().is_none());
        sender.try_send("now".to_owned()).unwrap();
        assert_eq!(receiver.recv_timeout(LONG).unwrap(), "now");
        drop(sender);
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Disconnected)));
        assert!(matches!(receiver.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected)));
        assert!(matches!(receiver.recv_blocking(), Err(RecvError::Disconnected)));
        assert!(matches!(block_on(receiver.recv()), Err(RecvError::Disconnected)));
    });
}

#[test]
fn a_capacity_out_of_range_is_refused() {
    for capacity in [0, (1 << 20) + 1, usize::MAX] {
        let refused = channel::<u8>(capacity).unwrap_err();
        assert!(matches!(refused, ipc::Error::InvalidSetting(_)), "{refused:?}");
        assert!(refused.to_string().contains("1 to 1,048,576"), "{refused}");
    }
    channel::<u8>(1 << 20).unwrap();
}

///
#[test]
fn items_from_before_a_process_and_of_its_own_come_in_order() {
    within_limit(|| {
        let pool = pool(1);
        let (sender, receiver) = channel(100).unwrap();
        send_range(sender.clone(), 0, 10);
        pool.submit(call!(send_range(sender.clone(), 10, 10))).result().unwrap();
        send_range(sender, 20, 10);
        assert_eq!(numbers(receiver), (0..30).collect::<Vec<_>>());
        end(&pool);
    });
}

fn count(queue: Receiver<u32>) -> (u32, u64) {
    let numbers = queue.blocking().map(Result::unwrap);
    numbers.fold((0, 0), |(count, sum), number| (count + 1, sum + u64::from(number)))
}

///
#[test]
fn many_processes_send_and_receive_each_item_once() {
    within_limit(|| {
        let pool = pool(4);
        let (sender, receiver) = channel(10).unwrap();
        let sending: Vec<_> = (0..3)
            .map(|n| pool.submit(call!(send_range(sender.clone(), n * 5_000, 5_000))))
            .collect();
        let receiving: Vec<_> =
            (0..3).map(|_| pool.submit(call!(count(receiver.clone())))).collect();
        drop((sender, receiver));
        let counts: Vec<_> = receiving.into_iter().map(|it| it.result().unwrap()).collect();
        sending.into_iter().for_each(|it| it.result().unwrap());
        assert_eq!(counts.iter().map(|(count, _)| count).sum::<u32>(), 15_000);
        assert_eq!(counts.iter().map(|(_, sum)| sum).sum::<u64>(), 14_999 * 15_000 / 2);
        end(&pool);
    });
}

#[derive(Debug, Serialize, Deserialize)]
struct Odd(#[serde(serialize_with = "odd", deserialize_with = "not_seven")] u32);

fn odd<S: serde::Serializer>(number: &u32, to: S) -> Result<S::Ok, S::Error> {
    match number {
        _ if number % 2 == 1 => to.serialize_u32(*number),
        2 => panic!("two"),
        _ => Err(serde::ser::Error::custom("even")),
    }
}

fn not_seven<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let number = u32::deserialize(from)?;
    if number == 7 { Err(serde::de::Error::custom("seven")) } else { Ok(number) }
}

///
#[test]
fn an_item_that_cannot_be_encoded_comes_back_and_one_that_cannot_be_decoded_is_an_error() {
    within_limit(|| {
        let (sender, receiver) = channel(2).unwrap();
        for (number, why) in [(4, "even"), (2, "it panicked")] {
            let refused = sender.try_send(Odd(number)).unwrap_err();
            let text = refused.to_string();
            assert!(text.contains(why) && text.contains("channel's item"), "{text}");
            let TrySendError::Codec(Odd(back), _) = refused else { panic!("{refused:?}") };
            assert_eq!(back, number);
            assert!(matches!(block_on(sender.send(Odd(4))), Err(SendError::Codec(Odd(4), _))));
        }
        assert_eq!(sender.len(), 0);
        sender.try_send(Odd(7)).unwrap();
        sender.try_send(Odd(9)).unwrap();
        let Err(RecvError::Codec(error)) = receiver.recv_blocking() else { panic!() };
        assert!(error.to_string().contains("seven"), "{error}");
        assert_eq!(receiver.recv_blocking().unwrap().0, 9);
    });
}

///
#[test]
fn sends_fail_once_the_last_receiver_is_gone() {
    within_limit(|| {
        let (sender, receiver) = channel(1).unwrap();
        let other = receiver.clone();
        drop(receiver);
        assert!(!sender.is_closed());
        sender.try_send(1).unwrap();
        // One that waits for room.
        let waits = thread::spawn({
            let sender = sender.clone();
            move || (sender.send_blocking(2), block_on(sender.send(3)))
        });
        drop(other);
        let (blocking, future) = waits.join().unwrap();
        assert!(matches!(blocking, Err(SendError::Disconnected(2))), "{blocking:?}");
        assert!(matches!(future, Err(SendError::Disconnected(3))), "{future:?}");
        assert!(sender.is_closed());
        assert!(matches!(sender.try_send(4), Err(TrySendError::Disconnected(4))));
    });
}

#[test]
fn a_sender_can_wait_for_the_end_of_the_last_receiver() {
    within_limit(|| {
        let (sender, receiver) = channel(1).unwrap();
        assert!(sender.closed().now_or_never().is_none());
        let waits = [sender.clone(), sender.clone()]
            .map(|sender| thread::spawn(move || block_on(sender.closed())));
        for number in 0..100 {
            sender.send_blocking(number).unwrap();
            assert_eq!(receiver.recv_blocking().unwrap(), number);
        }
        assert!(waits.iter().all(|waits| !waits.is_finished()));
        drop(receiver);
        waits.into_iter().for_each(|waits| waits.join().unwrap());
        block_on(sender.closed());
    });
}

fn echo(from: Receiver<Echo>, to: Sender<Echo>) {
    for item in from.blocking() {
        to.send_blocking(item.unwrap()).unwrap();
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Echo {
    Nothing,
    Maybe(Option<Option<u8>>),
    Text(String),
    List(Vec<i64>),
    Map(HashMap<String, (u8, f32)>),
    Numbers(Buffer<f64>),
    Both(String, Buffer<u8>, Buffer<u16>),
}

///
#[test]
fn a_process_echoes_values_of_all_kinds_and_sizes() {
    within_limit(|| {
        let pool = pool(1);
        let ((sender, receiver), (theirs, from_us)) = duplex(4).unwrap();
        let echoes = pool.submit(call!(echo(from_us, theirs)));
        let text = |length: usize| Echo::Text("ab".repeat(length / 2));
        let all = [
            Echo::Nothing,
            Echo::Maybe(Some(None)),
            text(0),
            text(2),
            text(30),
            Echo::List((-40..40).collect()),
            Echo::Map([("a".to_owned(), (1, 0.5)), (String::new(), (2, f32::MAX))].into()),
            text(16 << 20),
            Echo::Numbers(vec![0.25; 1_000].into()),
            Echo::Numbers(vec![0.25; 8 << 20].into()),
            Echo::Both("both".to_owned(), vec![7; 5_001].into(), vec![9; 20_003].into()),
            Echo::Both("x".repeat(100_001), vec![7; 5_000_001].into(), vec![9; 20_003].into()),
            text(32 << 20),
        ];
        for item in all.iter().chain(&all) {
            sender.send_blocking(item.clone()).unwrap();
            assert!(receiver.recv_blocking().unwrap() == *item);
        }
        drop(sender);
        assert!(matches!(receiver.recv_blocking(), Err(RecvError::Disconnected)));
        echoes.result().unwrap();
        end(&pool);
    });
}

/// Lengths around those of words, at each place of a ring that goes around many times.
#[test]
fn strings_of_all_lengths_go_around_the_ring() {
    within_limit(|| {
        let (sender, receiver) = channel(3).unwrap();
        let text = |n: usize| "0123456789abcdef".chars().cycle().take(n * 37 % 300_001).collect();
        let sends = thread::spawn(move || {
            (0..600).try_for_each(|n| sender.send_blocking((n, text(n)))).unwrap();
        });
        for (expected, item) in (0..).zip(receiver.blocking()) {
            let item: (usize, String) = item.unwrap();
            assert_eq!(item.0, expected);
            assert!(item.1 == text(expected));
        }
        sends.join().unwrap();
    });
}

#[derive(Serialize, Deserialize)]
struct Request {
    words: Vec<String>,
    reply: Sender<usize>,
    data: SharedSlice<u32>,
}

fn serve(requests: Receiver<Request>) {
    for request in requests.blocking() {
        let Request { words, reply, data } = request.unwrap();
        for word in words {
            reply.send_blocking(word.len() + data.len()).unwrap();
        }
    }
}

///
#[test]
fn ends_and_other_handles_travel_inside_of_items() {
    within_limit(|| {
        let pool = pool(1);
        let (requests, receiver) = channel(8).unwrap();
        let server = pool.submit(call!(serve(receiver)));
        let data = SharedSlice::new(vec![0_u32; 1_000]).unwrap();
        for n in 0..1_000 {
            let (reply, replies) = channel(1).unwrap();
            let words = vec!["a".repeat(n), "b".repeat(n + 1)];
            requests.send_blocking(Request { words, reply, data: data.clone() }).unwrap();
            let lengths: Vec<_> = replies.blocking().map(Result::unwrap).collect();
            assert_eq!(lengths, [n + 1_000, n + 1_001]);
        }
        drop(requests);
        server.result().unwrap();
        end(&pool);
    });
}

/// a channel keeps itself open by an end within; not by one that nobody can receive.
#[test]
fn an_end_that_is_in_the_channel_counts() {
    #[derive(Serialize, Deserialize)]
    struct Item(Option<Sender<Item>>);
    within_limit(|| {
        let (sender, receiver) = channel(2).unwrap();
        sender.try_send(Item(Some(sender.clone()))).unwrap();
        drop(sender);
        let Item(inner) = receiver.recv_blocking().unwrap();
        let inner = inner.unwrap();
        inner.try_send(Item(None)).unwrap();
        drop(inner);
        assert!(receiver.recv_blocking().unwrap().0.is_none());
        assert!(matches!(receiver.recv_blocking(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn the_same_end_again_is_the_one_that_is_there() {
    within_limit(|| {
        let (sender, receiver) = channel(4).unwrap();
        let (of_numbers, numbers) = channel::<u32>(4).unwrap();
        for _ in 0..100 {
            sender.try_send(of_numbers.clone()).unwrap();
            let again: Sender<u32> = receiver.try_recv().unwrap();
            again.try_send(1).unwrap();
            assert_eq!(numbers.try_recv().unwrap(), 1);
        }
        drop(of_numbers);
        assert!(matches!(numbers.try_recv(), Err(TryRecvError::Disconnected)));
    });
}

/// W-6, W-7.
#[test]
fn an_end_of_another_type_or_with_another_serialiser_is_an_error() {
    /// A type whose two sides do not agree.
    #[derive(Serialize)]
    struct Sent(Sender<u32>);
    impl<'de> Deserialize<'de> for Sent {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Sender::<String>::deserialize(deserializer)?;
            unreachable!("it is of another type")
        }
    }
    within_limit(|| {
        let (sender, receiver) = channel::<u32>(1).unwrap();
        let json = serde_json::to_string(&sender).unwrap_err().to_string();
        assert!(
            json.contains("a Sender<u32> can only be sent to a process of this program"),
            "{json}"
        );
        let (out, back) = channel(1).unwrap();
        out.try_send(Sent(sender)).unwrap();
        let error = back.try_recv().err().unwrap().to_string();
        assert!(
            error.contains("a Sender<u32> instead of a Sender<alloc::string::String>"),
            "{error}"
        );
        // It was the last one.
        assert!(matches!(receiver.recv_blocking(), Err(RecvError::Disconnected)));
    });
}

/// A waker that counts.
struct Wakes(Counter);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.add();
    }
}

///
#[test]
fn a_receive_that_is_dropped_loses_nothing() {
    within_limit(|| {
        let (sender, receiver) = channel(1).unwrap();
        let sends = thread::spawn(move || send_range(sender, 0, 10_000));
        let mut received = Vec::new();
        block_on(async {
            loop {
                let mut polls = 0;
                let gives_up = futures::future::poll_fn(|cx| {
                    polls += 1;
                    cx.waker().wake_by_ref();
                    if polls > received.len() % 3 { Poll::Ready(()) } else { Poll::Pending }
                });
                match select(pin!(receiver.recv()), gives_up).await {
                    Either::Left((Ok(number), _)) => received.push(number),
                    Either::Left((Err(_), _)) => break,
                    Either::Right(_) => {}
                }
            }
        });
        assert!(received.into_iter().eq(0..10_000));
        sends.join().unwrap();
    });
}

///
#[test]
fn a_send_that_is_dropped_has_not_sent() {
    within_limit(|| {
        let (sender, receiver) = channel(1).unwrap();
        sender.try_send(1).unwrap();
        assert!(sender.send(2).now_or_never().is_none());
        assert_eq!(receiver.try_recv().unwrap(), 1);
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
    });
}

///
#[test]
fn a_receiver_that_is_dropped_when_it_was_woken_lets_another_one_have_the_item() {
    within_limit(|| {
        for _ in 0..200 {
            let (sender, receiver) = channel(1).unwrap();
            let woken = Arc::new(Wakes(Counter::new()));
            let waker = Waker::from(Arc::clone(&woken));
            let mut first = Box::pin(receiver.recv());
            assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            let other = thread::spawn({
                let receiver = receiver.clone();
                move || receiver.recv_blocking().unwrap()
            });
            sender.send_blocking(7).unwrap();
            drop(first);
            assert_eq!(other.join().unwrap(), 7);
        }
    });
}

///
#[test]
fn streams_end_and_handles_can_be_shown() {
    within_limit(|| {
        let (sender, mut receiver) = channel(4).unwrap();
        let shown = format!("{sender:?} {receiver:?}");
        assert_eq!(shown, "Sender { len: 0, capacity: 4 } Receiver { len: 0, capacity: 4 }");
        block_on(async {
            for number in 0..3 {
                sender.send(number).await.unwrap();
            }
            drop(sender);
            assert_eq!(receiver.next().await.unwrap().unwrap(), 0);
            let rest: Vec<_> = StreamExt::map(&mut receiver, Result::unwrap).collect().await;
            assert_eq!(rest, [1, 2]);
            assert!(receiver.next().await.is_none());
            assert!(receiver.next().await.is_none());
        });
    });
}

fn send_pairs(queue: Sender<(u32, u32)>, of: u32) {
    (0..3_000).try_for_each(|n| queue.send_blocking((of, n))).unwrap();
}

fn are_in_order(queue: Receiver<(u32, u32)>) -> usize {
    let mut last = HashMap::new();
    let mut count = 0;
    for item in queue.blocking() {
        let (of, n) = item.unwrap();
        assert!(last.insert(of, n).is_none_or(|last| last < n));
        count += 1;
    }
    count
}

///
#[test]
fn what_one_sender_sends_comes_in_order() {
    within_limit(|| {
        let pool = pool(4);
        let (sender, receiver) = channel(16).unwrap();
        let sending: Vec<_> =
            (0..4).map(|n| pool.submit(call!(send_pairs(sender.clone(), n)))).collect();
        let receiving: Vec<_> =
            (0..3).map(|_| pool.submit(call!(are_in_order(receiver.clone())))).collect();
        drop((sender, receiver));
        let count: usize = receiving.into_iter().map(|it| it.result().unwrap()).sum();
        assert_eq!(count, 12_000);
        sending.into_iter().for_each(|it| it.result().unwrap());
        end(&pool);
    });
}

///
#[test]
fn futures_and_threads_play_ping_pong() {
    fn play<A: FnMut(u32), B: FnMut() -> u32>(rounds: u32, mut send: A, mut receive: B) {
        for round in 0..rounds {
            send(round);
            assert_eq!(receive(), round);
        }
    }
    within_limit(|| {
        for is_async in [false, true] {
            let ((to, from), (back, there)) = duplex(1).unwrap();
            let echoes = thread::spawn(move || {
                for round in there.blocking() {
                    back.send_blocking(round.unwrap()).unwrap();
                }
            });
            if is_async {
                let receive = || block_on(from.recv()).unwrap();
                play(10_000, |round| block_on(to.send(round)).unwrap(), receive);
            } else {
                let receive = || from.recv_blocking().unwrap();
                play(30_000, |round| to.send_blocking(round).unwrap(), receive);
            }
            drop(to);
            echoes.join().unwrap();
        }
    });
}

#[test]
fn many_futures_wait_for_one_channel_and_for_many() {
    within_limit(|| {
        let channels: Vec<_> = (0..10).map(|_| channel::<usize>(1).unwrap()).collect();
        let receiving =
            join_all(channels.iter().flat_map(|(_, receiver)| {
                (0..20).map(|_| async { receiver.recv().await.unwrap() })
            }));
        let sending = join_all(channels.iter().map(|(sender, _)| async {
            for number in 0..20 {
                sender.send(number).await.unwrap();
            }
        }));
        let (received, _) = block_on(futures::future::join(receiving, sending));
        assert_eq!(received.len(), 200);
        assert_eq!(received.into_iter().sum::<usize>(), 10 * 190);
    });
}

/// W-18.
#[test]
fn channels_work_on_threads_and_inline_as_well() {
    fn exchange<E: Executor>(pool: &E) {
        let (sender, receiver) = channel(100).unwrap();
        let sent = pool.submit(call!(send_range(sender, 0, 50)));
        let received = pool.submit(call!(numbers(receiver)));
        sent.result().unwrap();
        assert!(received.result().unwrap().into_iter().eq(0..50));
    }
    within_limit(|| {
        exchange(&ThreadPoolExecutor::builder().max_workers(1).build().unwrap());
        exchange(&InlineExecutor::new());
    });
}

///
#[test]
fn a_pool_of_one_worker_runs_a_consumer_and_its_producer() {
    within_limit(|| {
        let pool = pool(1);
        let (sender, receiver) = channel(1).unwrap();
        let received = pool.submit(call!(numbers(receiver)));
        let sent = pool.submit(call!(send_range(sender, 0, 100)));
        sent.result().unwrap();
        assert!(received.result().unwrap().into_iter().eq(0..100));
        end(&pool);
    });
}

///
#[test]
fn channels_leave_nothing_behind() {
    fn open_files() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }
    fn mappings() -> usize {
        std::fs::read_to_string("/proc/self/maps").unwrap().matches("concurrent-futures").count()
    }
    crate::program::alone("channels::channels_leave_nothing_behind", || {
        // The threads that wait and keep stay.
        let (sender, receiver) = channel::<u32>(1).unwrap();
        assert!(receiver.recv_timeout(Duration::from_millis(1)).is_err());
        drop((sender, receiver));
        // The thread that waits lets go of it at its next look.
        let until_unmapped = || {
            while mappings() > 0 {
                thread::yield_now();
            }
        };
        until_unmapped();
        let before = open_files();
        for number in 0..10_000 {
            let (sender, receiver) = channel(1).unwrap();
            sender.try_send(number).unwrap();
            assert_eq!(receiver.try_recv().unwrap(), number);
        }
        until_unmapped();
        assert_eq!(open_files(), before);
    });
}

fn send_numbers(queue: Sender<u32>) {
    send_range(queue, 0, 3);
}

/// A process whose stdin is closed makes a channel, and a process that sends into it.
fn queue_within() -> Vec<u32> {
    // SAFETY: nothing here reads from stdin.
    assert_eq!(unsafe { libc::close(0) }, 0);
    let (sender, receiver) = channel(1).unwrap();
    let sends = Process::spawn(call!(send_numbers(sender)));
    let received = numbers(receiver);
    sends.result().unwrap();
    received
}

///
#[test]
fn a_process_without_stdin_has_channels_and_processes_of_its_own() {
    const NAME: &str = "channels::a_process_without_stdin_has_channels_and_processes_of_its_own";
    if crate::program::part().is_some() {
        assert_eq!(Process::spawn(call!(queue_within())).result().unwrap(), [0, 1, 2]);
        return crate::program::say(&queue_within());
    }
    let mut program = crate::program::Program::start(NAME, "program");
    assert_eq!(program.hear(), [0, 1, 2]);
    assert!(program.ended().success(), "{}", program.output());
}

fn in_lockstep(id: u32, arrived: Sender<(u32, u32)>, go: Receiver<u32>) {
    for round in 0.. {
        arrived.send_blocking((id, round)).unwrap();
        match go.recv_blocking() {
            Ok(next) => assert_eq!(next, round + 1),
            Err(_) => return,
        }
    }
}

///
#[test]
fn five_processes_go_in_lockstep_by_channels() {
    const PROCESSES: u32 = 5;
    within_limit(|| {
        let (arrived, arrivals) = channel(PROCESSES as usize).unwrap();
        let start = |id| {
            let (go, goes) = channel(1).unwrap();
            (go, Process::spawn(call!(in_lockstep(id, arrived.clone(), goes))))
        };
        let (go, processes): (Vec<_>, Vec<_>) = (0..PROCESSES).map(start).unzip();
        for round in 0..scaled(1_000) as u32 {
            let mut there: Vec<(u32, u32)> =
                (0..PROCESSES).map(|_| arrivals.recv_blocking().unwrap()).collect();
            there.sort_unstable();
            assert!(there.into_iter().eq((0..PROCESSES).map(|id| (id, round))));
            assert!(arrivals.is_empty(), "none goes ahead");
            go.iter().for_each(|go| go.send_blocking(round + 1).unwrap());
        }
        drop(go);
        processes.into_iter().for_each(|process| process.result().unwrap());
    });
}

/// Where there is no memory for an item's buffer, the item is not lost.
#[test]
fn an_item_for_which_there_is_no_memory_stays_in_the_channel() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const LENGTH: usize = 64 << 20;
    fn mapped() -> u64 {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        4096 * pages.split(' ').next().unwrap().parse::<u64>().unwrap()
    }
    crate::program::alone(
        "channels::an_item_for_which_there_is_no_memory_stays_in_the_channel",
        || {
            let (sender, receiver) =
                ipc::ChannelBuilder::new(2).bytes(512 << 20).build::<Buffer<u8>>().unwrap();
            sender.try_send(vec![7; LENGTH].into()).unwrap();
            sender.try_send(vec![8; 3].into()).unwrap();
            let before = getrlimit(Resource::As);
            let least = Rlimit { current: Some(mapped() + (16 << 20)), ..before };
            for _ in 0..2 {
                setrlimit(Resource::As, least).unwrap();
                let refused = receiver.try_recv();
                setrlimit(Resource::As, before).unwrap();
                assert!(matches!(refused, Err(TryRecvError::Io(_))), "{:?}", refused.map(drop));
                assert_eq!(receiver.len(), 2);
            }
            let item = receiver.try_recv().unwrap();
            assert!(item.len() == LENGTH && item.iter().all(|byte| *byte == 7));
            assert_eq!(receiver.try_recv().unwrap()[..], [8; 3]);
        },
    );
}
