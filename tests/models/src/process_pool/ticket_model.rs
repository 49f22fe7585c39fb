//! Tickets: a task that was sent to a worker either starts there or is withdrawn.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use loom::thread;

use super::page::Page;
use super::ticket::Ticket;
use crate::check;

#[test]
fn a_task_starts_or_is_withdrawn() {
    check(|| {
        let page = Arc::new(Page::new());
        Ticket::new(&page, 0).issue();
        let of_worker = Arc::clone(&page);
        let worker = thread::spawn(move || Ticket::new(&of_worker, 0).start());
        let ticket = Ticket::new(&page, 0);
        let is_withdrawn = ticket.withdraw();
        assert_eq!(ticket.has_started(), !is_withdrawn);
        assert_eq!(worker.join().unwrap(), !is_withdrawn);
        assert_eq!(ticket.withdraw(), is_withdrawn, "that is final");
        assert_eq!(ticket.started_at().is_some(), !is_withdrawn);
    });
}

/// As `cancel` does it.
#[test]
fn what_can_not_be_withdrawn_sees_that_it_is_asked_to_stop() {
    check(|| {
        let page = Arc::new(Page::new());
        Ticket::new(&page, 0).issue();
        let of_worker = Arc::clone(&page);
        let worker = thread::spawn(move || {
            let ticket = Ticket::new(&of_worker, 0);
            if !ticket.start() {
                return false;
            }
            while !ticket.is_asked_to_stop() {
                thread::yield_now();
            }
            true
        });
        let ticket = Ticket::new(&page, 0);
        let is_withdrawn = ticket.withdraw();
        if !is_withdrawn {
            ticket.ask_to_stop();
        }
        assert_eq!(worker.join().unwrap(), !is_withdrawn);
    });
}

/// The pool looks at when a task began while the worker begins it: it sees nothing yet, or the time,
/// and not that of the task before.
#[test]
fn the_time_of_the_start_is_never_half_there() {
    check(|| {
        let page = Arc::new(Page::new());
        page.started_at[0].store(5, Release); // of the ticket's last task
        Ticket::new(&page, 0).issue();
        let of_worker = Arc::clone(&page);
        let worker = thread::spawn(move || Ticket::new(&of_worker, 0).start());
        let ticket = Ticket::new(&page, 0);
        if let Some(time) = ticket.started_at() {
            assert_eq!(time.as_nanos(), 7);
            assert!(ticket.has_started() && !ticket.withdraw());
        }
        assert!(worker.join().unwrap() || ticket.withdraw());
    });
}

/// An idle worker takes a task over from a busy one, which may come to it at that moment.
#[test]
fn a_task_that_is_taken_over_runs_once() {
    check(|| {
        let busy = Arc::new(Page::new());
        let runs = Arc::new(AtomicUsize::new(0));
        Ticket::new(&busy, 0).issue();
        let (page, ran) = (Arc::clone(&busy), Arc::clone(&runs));
        let first = thread::spawn(move || {
            if Ticket::new(&page, 0).start() {
                ran.fetch_add(1, AcqRel);
            }
        });
        if Ticket::new(&busy, 0).withdraw() {
            let idle = Arc::new(Page::new());
            Ticket::new(&idle, 0).issue();
            let ran = Arc::clone(&runs);
            let second = thread::spawn(move || {
                assert!(Ticket::new(&idle, 0).start());
                ran.fetch_add(1, AcqRel);
            });
            second.join().unwrap();
        }
        first.join().unwrap();
        assert_eq!(runs.load(Acquire), 1);
    });
}

/// A ticket is issued again when the reply to its task is there; what the socket carries is known to
/// whoever reads it.
#[test]
fn a_ticket_that_is_issued_again_knows_nothing_of_its_last_task() {
    check(|| {
        let page = Arc::new(Page::new());
        Ticket::new(&page, 0).issue();
        let (replies, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(1)));
        let worker = {
            let (page, replies, sent) =
                (Arc::clone(&page), Arc::clone(&replies), Arc::clone(&sent));
            thread::spawn(move || {
                let ticket = Ticket::new(&page, 0);
                let first = ticket.start();
                replies.store(1, Release);
                while sent.load(Acquire) < 2 {
                    thread::yield_now();
                }
                (first, !ticket.is_asked_to_stop() && ticket.start())
            })
        };
        let ticket = Ticket::new(&page, 0);
        let is_withdrawn = ticket.withdraw();
        if !is_withdrawn {
            ticket.ask_to_stop();
        }
        while replies.load(Acquire) < 1 {
            thread::yield_now();
        }
        ticket.issue();
        assert_eq!((ticket.has_started(), ticket.started_at()), (false, None));
        sent.store(2, Release);
        assert_eq!(worker.join().unwrap(), (!is_withdrawn, true));
    });
}
