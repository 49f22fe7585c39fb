//! Channels whose processes are killed, stopped, or at their end.

use std::collections::{HashMap, HashSet};
use std::process;
use std::thread;
use std::time::Duration;

use concurrent_futures::ipc::{
    Receiver, RecvError, RecvTimeoutError, Sender, SharedSlice, TryRecvError, channel,
};
use concurrent_futures::{ProcessPoolExecutor, TaskFuture, call};
use rustix::process::Signal;

use crate::program::{Program, alone, part, say, wait_for_go};
use crate::support::{scaled, within_limit};
use crate::tools::{LONG, Reports, SHORT, builder, end, lost, own_pid, pool};
use crate::watch::{Watched, assert_ended_soon, kill, signal};

fn send_and_exit(queue: Sender<u32>, count: u32) {
    for number in 0..count {
        queue.send_blocking(number).unwrap();
    }
    process::exit(3);
}

///
#[test]
fn what_was_sent_is_there_also_if_its_process_exits_at_once() {
    within_limit(|| {
        let pool = pool(1);
        for count in [1, 5] {
            let (sender, receiver) = channel(5).unwrap();
            let exits = pool.submit(call!(send_and_exit(sender, count)));
            assert_eq!(lost(exits.result()).exit_code, Some(3));
            assert!(receiver.blocking().map(Result::unwrap).eq(0..count));
        }
        end(&pool);
    });
}

fn hold(queue: Sender<u32>, started: Reports) {
    queue.send_blocking(1).unwrap();
    started.add(own_pid());
    loop {
        // Until the channel has no receiver, which it has.
        let _ = queue.send_timeout(2, LONG);
    }
}

///
#[test]
fn the_stream_ends_when_its_last_sender_is_killed() {
    within_limit(|| {
        let pool = pool(1);
        for is_async in [false, true] {
            let (sender, receiver) = channel(1).unwrap();
            let started = Reports::new();
            let held = pool.submit(call!(hold(sender, started.clone())));
            let pid = started.wait_for(1)[0];
            let waits = thread::spawn(move || {
                let mut received = Vec::new();
                loop {
                    let next = if is_async {
                        futures::executor::block_on(receiver.recv())
                    } else {
                        receiver.recv_blocking()
                    };
                    match next {
                        Ok(number) => received.push(number),
                        Err(RecvError::Disconnected) => return received,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            kill(pid);
            lost(held.result());
            let received = waits.join().unwrap();
            assert_eq!(received[0], 1);
        }
        end(&pool);
    });
}

///
#[test]
fn a_sender_that_is_killed_while_it_waits_for_room_leaves_what_it_had_sent() {
    within_limit(|| {
        let pool = pool(1);
        let (sender, receiver) = channel(1).unwrap();
        let started = Reports::new();
        let held = pool.submit(call!(hold(sender, started.clone())));
        kill(started.wait_for(1)[0]);
        lost(held.result());
        assert_eq!(receiver.recv_blocking().unwrap(), 1);
        end(&pool);
    });
}

type Item = (u64, u32);

/// Says what it has sent, after it has.
fn send_until_killed(hello: Sender<(u64, u32)>, items: Sender<Item>, sent: Sender<Item>, id: u64) {
    hello.send_blocking((id, own_pid())).unwrap();
    for number in 0.. {
        items.send_blocking((id, number)).unwrap();
        sent.send_blocking((id, number)).unwrap();
    }
}

/// Says what it has received.
fn receive_until_killed(
    hello: Sender<(u64, u32)>,
    items: Receiver<Item>,
    received: Sender<Item>,
    id: u64,
) {
    hello.send_blocking((id, own_pid())).unwrap();
    for item in items.blocking() {
        received.send_blocking(item.unwrap()).unwrap();
    }
}

/// C-4: of four channels that all of them use, none is ever wedged.
#[test]
fn processes_that_are_killed_at_any_moment_lose_at_most_an_item_each() {
    within_limit(|| {
        let pool = builder(5).build().unwrap();
        let (hello, greetings) = channel(10).unwrap();
        let (items, to_receive) = channel(10).unwrap();
        let (sent, all_sent) = channel(10).unwrap();
        let (received, all_received) = channel(10).unwrap();
        let mut tasks: HashMap<u64, TaskFuture<()>> = HashMap::new();
        let start = |id: u64| -> TaskFuture<()> {
            let (hello, items) = (hello.clone(), items.clone());
            if id % 5 < 2 {
                pool.submit(call!(send_until_killed(hello, items, sent.clone(), id)))
            } else {
                let (items, received) = (to_receive.clone(), received.clone());
                pool.submit(call!(receive_until_killed(hello, items, received, id)))
            }
        };
        let collect = |from: Receiver<Item>| {
            thread::spawn(move || from.blocking().map(Result::unwrap).collect::<Vec<_>>())
        };
        let (all_sent, all_received) = (collect(all_sent), collect(all_received));

        let mut next = 5_u64;
        for id in 0..5 {
            tasks.insert(id, start(id));
        }
        let kills = scaled(200);
        for round in 0..kills {
            let (id, pid) = greetings.recv_timeout(Duration::from_secs(20)).expect("it is wedged");
            // At any moment of what it does.
            thread::sleep(Duration::from_micros(round as u64 % 97 * 20));
            kill(pid);
            lost(tasks.remove(&id).unwrap().result());
            // In the same part.
            next += 5;
            let id = next - next % 5 + id % 5;
            tasks.insert(id, start(id));
        }
        while !tasks.is_empty() {
            let (id, pid) = greetings.recv_timeout(Duration::from_secs(20)).expect("it is wedged");
            kill(pid);
            lost(tasks.remove(&id).unwrap().result());
        }
        drop((hello, items, to_receive, sent, received));
        end(&pool);
        let (sent, received) = (all_sent.join().unwrap(), all_received.join().unwrap());
        let received_once: HashSet<_> = received.iter().copied().collect();
        assert_eq!(received_once.len(), received.len(), "some items came twice");
        let unreceived = sent.iter().filter(|item| !received_once.contains(*item)).count();
        assert!(!sent.is_empty() && !received.is_empty());
        println!(
            "{} sent, {} received, {unreceived} of those sent were not",
            sent.len(),
            received.len()
        );
        // Those that were taken, or told of, by a process that was killed then, and those that nobody took in the end.
        assert!(unreceived <= kills + 5 + 10, "{unreceived} of {} were lost", sent.len());
    });
}

fn take_forever(hello: Sender<u32>, items: Receiver<u32>) {
    hello.send_blocking(own_pid()).unwrap();
    loop {
        let _ = items.recv_timeout(LONG);
    }
}

/// one that is stopped waits for items, and others get them.
#[test]
fn a_receiver_that_is_stopped_or_killed_while_it_waits_holds_up_no_other() {
    within_limit(|| {
        let pool = pool(2);
        let (hello, greetings) = channel(10).unwrap();
        let (sender, receiver) = channel(3).unwrap();
        for how in [Signal::STOP, Signal::KILL] {
            for _ in 0..scaled(20) {
                let waits = pool.submit(call!(take_forever(hello.clone(), receiver.clone())));
                let pid = greetings.recv_timeout(LONG).unwrap();
                signal(pid, how);
                // It may have been stopped when it had the lock, and then has it until it goes on.
                while sender.send_timeout(0, SHORT).is_err() {
                    if how == Signal::STOP {
                        signal(pid, Signal::CONT);
                        until_asleep(pid);
                        signal(pid, how);
                    }
                }
                // What went to the one that was woken by it is its loss.
                for number in 1..3 {
                    sender.send_blocking(number).unwrap();
                }
                let mut last = None;
                while last != Some(2) {
                    match receiver.recv_timeout(LONG) {
                        Ok(number) => last = Some(number),
                        Err(error) => panic!("{error}"),
                    }
                }
                if how == Signal::STOP {
                    kill(pid);
                }
                lost(waits.result());
            }
        }
        end(&pool);
    });
}

///
#[test]
fn signals_interrupt_no_wait() {
    extern "C" fn nothing(_: i32) {}
    alone("channel_kills::signals_interrupt_no_wait", || {
        let handler: extern "C" fn(i32) = nothing;
        // SAFETY: the handler does nothing.
        unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
        let (sender, receiver) = channel::<u32>(1).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let waits = thread::spawn(move || {
            tell.send(rustix::thread::gettid()).unwrap();
            receiver.recv_blocking()
        });
        let thread = told.recv().unwrap().as_raw_nonzero().get();
        for _ in 0..1_000 {
            // SAFETY: a call without memory. The thread does not end before the item is sent.
            unsafe { libc::syscall(libc::SYS_tgkill, process::id(), thread, libc::SIGUSR1) };
            thread::yield_now();
        }
        sender.send_blocking(7).unwrap();
        assert_eq!(waits.join().unwrap().unwrap(), 7);
    });
}

fn wait_for(hello: Sender<u32>, items: Receiver<u32>) {
    hello.send_blocking(own_pid()).unwrap();
    let _ = items.recv_blocking();
}

/// C-10.
#[test]
fn workers_that_wait_end_with_the_program() {
    const NAME: &str = "channel_kills::workers_that_wait_end_with_the_program";
    within_limit(|| {
        if part().is_some() {
            let pool = ProcessPoolExecutor::builder().max_workers(3).build().unwrap();
            let (hello, greetings) = channel(3).unwrap();
            let (_sender, receiver) = channel(1).unwrap();
            let waits: Vec<_> = (0..3)
                .map(|_| pool.submit(call!(wait_for(hello.clone(), receiver.clone()))))
                .collect();
            let pids: Vec<_> = (0..3).map(|_| greetings.recv_blocking().unwrap()).collect();
            say(&pids);
            wait_for_go();
            drop(waits);
            return;
        }
        let mut program = Program::start(NAME, "program");
        let workers = Watched::all(&program.hear());
        program.kill();
        assert_ended_soon(&workers);
    });
}

/// C-9.
#[test]
fn memory_is_free_when_all_processes_were_killed() {
    const NAME: &str = "channel_kills::memory_is_free_when_all_processes_were_killed";
    fn shared_memory() -> u64 {
        let all = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = all.lines().find(|line| line.starts_with("Shmem:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
    fn attached(hello: Sender<u32>, items: Receiver<String>, slice: SharedSlice<u8>) {
        hello.send_blocking(own_pid() + u32::from(slice[0])).unwrap();
        while !items.is_empty() {
            thread::park();
        }
    }
    within_limit(|| {
        if part().is_some() {
            let pool = ProcessPoolExecutor::builder().max_workers(1).build().unwrap();
            let (hello, greetings) = channel(3).unwrap();
            let (sender, receiver) = channel(10).unwrap();
            for _ in 0..8 {
                sender.try_send("x".repeat(1 << 20)).unwrap();
            }
            let slice = SharedSlice::new(vec![0_u8; 120 << 20]).unwrap();
            let held = pool.submit(call!(attached(hello, receiver, slice)));
            say(&[greetings.recv_blocking().unwrap()]);
            wait_for_go();
            drop(held);
            return;
        }
        let mut program = Program::start(NAME, "program");
        let worker = program.hear()[0];
        let with = shared_memory();
        kill(worker);
        program.kill();
        // Other programs have shared memory as well, but hardly that much.
        while shared_memory() + (90 << 10) > with {
            thread::yield_now();
        }
    });
}

#[test]
fn a_wait_with_a_limit_ends_while_nothing_happens() {
    within_limit(|| {
        let pool = pool(1);
        let (hello, greetings) = channel(1).unwrap();
        let (sender, receiver) = channel(1).unwrap();
        let waits = pool.submit(call!(take_forever(hello, receiver.clone())));
        let pid = greetings.recv_blocking().unwrap();
        signal(pid, Signal::STOP);
        let refused = receiver.recv_timeout(Duration::from_millis(50));
        assert!(matches!(refused, Err(RecvTimeoutError::Timeout)), "{refused:?}");
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
        kill(pid);
        lost(waits.result());
        drop(sender);
        end(&pool);
    });
}

fn report_first(hello: Sender<u32>, items: Receiver<u32>, received: Sender<u32>) {
    hello.send_blocking(own_pid()).unwrap();
    if let Ok(item) = items.recv_blocking() {
        received.send_blocking(item).unwrap();
    }
}

/// C-5: as the first that waits it is woken, and never takes the item.
#[test]
fn a_receiver_that_is_killed_between_its_wake_up_and_its_item_leaves_the_item_to_the_next() {
    within_limit(|| {
        let pool = pool(2);
        let (hello, greetings) = channel(2).unwrap();
        for number in 0..scaled(20) as u32 {
            let (sender, receiver) = channel(1).unwrap();
            let (received, all_received) = channel(1).unwrap();
            let wait = || {
                let (hello, received) = (hello.clone(), received.clone());
                let task = pool.submit(call!(report_first(hello, receiver.clone(), received)));
                let pid = greetings.recv_timeout(LONG).unwrap();
                until_asleep(pid);
                (task, pid)
            };
            let (woken, pid) = wait();
            let (next, _) = wait();
            signal(pid, Signal::STOP);
            // It may have been asleep for another reason, and been stopped when it had the lock, until it is killed.
            let sent = sender.send_timeout(number, SHORT);
            kill(pid);
            if sent.is_err() {
                sender.send_blocking(number).unwrap();
            }
            lost(woken.result());
            assert_eq!(all_received.recv_timeout(LONG).unwrap(), number);
            next.result().unwrap();
        }
        end(&pool);
    });
}

/// Waits until the main thread of a process sleeps; nothing tells of it.
fn until_asleep(pid: u32) {
    let is_asleep = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        status.rsplit_once(") ").unwrap().1.starts_with('S')
    };
    while !is_asleep() {
        thread::yield_now();
    }
}
