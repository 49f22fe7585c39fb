//! The order of starts, and that no task is hidden behind another: a worker takes quick tasks
//! ahead, and they may turn out not to be quick.

use std::sync::{Arc, Mutex};

use crate::support::{Counter, Gate, occupy, pool, scaled, within_limit};

#[test]
fn one_worker_serves_submitters_in_the_order_of_submission() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let started = Arc::new(Mutex::new(Vec::new()));
        let submit = |who: char, count: usize| {
            for n in 0..count {
                let started = Arc::clone(&started);
                pool.submit(move || started.lock().unwrap().push((who, n))).detach();
            }
        };
        let mut expected = Vec::new();
        // Each submitter is a thread of its own; who submits much does not go before the others.
        for (who, count) in
            [('a', scaled(1_000)), ('b', 1), ('a', scaled(500)), ('c', scaled(70)), ('b', 3)]
        {
            std::thread::scope(|scope| scope.spawn(|| submit(who, count)).join().unwrap());
            expected.extend((0..count).map(|n| (who, n)));
        }
        gate.open();
        held.result().unwrap();
        pool.submit(|| ()).result().unwrap(); // the last one
        assert_eq!(*started.lock().unwrap(), expected);
    });
}

/// The task at `at` ends only when all others have, and all but that one are quick.
fn all_pass_the_one_that_waits(workers: usize, at: usize) {
    let (tasks, at) = (scaled(1_000), at.min(scaled(1_000) - 1));
    let pool = pool(workers);
    // Quick ones, so that the workers take many at once.
    for future in (0..scaled(500)).map(|_| pool.submit(|| ())).collect::<Vec<_>>() {
        future.result().unwrap();
    }
    let gates: Vec<_> = (0..workers).map(|_| Gate::new()).collect();
    let held: Vec<_> = gates.iter().map(|gate| occupy(&pool, gate)).collect();
    let done = Counter::new();
    let futures: Vec<_> = (0..tasks)
        .map(|n| {
            let done = done.clone();
            pool.submit(move || {
                if n == at {
                    done.wait_for(tasks - 1);
                } else {
                    done.add();
                }
            })
        })
        .collect();
    gates.iter().for_each(Gate::open);
    futures.into_iter().for_each(|future| future.result().unwrap());
    held.into_iter().for_each(|future| future.result().unwrap());
}

#[test]
fn a_task_that_waits_hides_none_of_those_that_were_taken_with_it() {
    within_limit(|| {
        for workers in [2, 4] {
            for at in [0, 1, 7, 63, 64, 65, 500, 998, 999] {
                all_pass_the_one_that_waits(workers, at);
            }
        }
    });
}
