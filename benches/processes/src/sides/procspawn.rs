//! procspawn's `Pool`. Its handles block; in the measured future that is the cheapest way, as
//! nothing else has to run there.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use procspawn::{JoinHandle, Pool};
use serde_bytes::ByteBuf;

use super::{Bytes, Side, Submitted, Value, sum};
use crate::system;

pub(crate) struct Procspawn {
    pool: Pool,
}

impl Side for Procspawn {
    const NAME: &'static str = "procspawn";

    /// A pending call has descriptors of its own; with thousands the process runs out of them.
    const WINDOW: usize = 64;

    type Submitted<R: Value> = Handle<R>;

    fn new(workers: usize) -> Self {
        say_no_word_of_panics_in_submit();
        Self { pool: Pool::new(workers).expect("a pool starts") }
    }

    fn submit<A: Value, R: Value>(&self, function: fn(A) -> R, argument: A) -> Handle<R> {
        // It panics if the worker is found dead before the argument is sent.
        let spawn = || self.pool.spawn(argument, function);
        SUBMITTING.set(true);
        let handle = catch_unwind(AssertUnwindSafe(spawn));
        SUBMITTING.set(false);
        Handle(handle.ok())
    }

    fn worker_pids(&self) -> Vec<u32> {
        system::children()
    }
}

thread_local! {
    static SUBMITTING: Cell<bool> = const { Cell::new(false) };
}

/// To print a backtrace takes much longer than what is measured.
fn say_no_word_of_panics_in_submit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !SUBMITTING.get() {
                others(panic);
            }
        }));
    });
}

/// `None`: it was lost at once.
pub(crate) struct Handle<R>(Option<JoinHandle<R>>);

impl<R: Value> Submitted<R> for Handle<R> {
    fn kill(&mut self) {
        if let Some(handle) = &mut self.0 {
            handle.kill().expect("the signal is sent");
        }
    }

    async fn result(self) -> Result<R, String> {
        let handle = self.0.ok_or("the submission has panicked")?;
        handle.join().map_err(|error| error.to_string())
    }
}

impl Bytes for ByteBuf {
    fn of(bytes: Vec<u8>) -> Self {
        Self::from(bytes)
    }

    fn sum(&self) -> u64 {
        sum(self)
    }
}
