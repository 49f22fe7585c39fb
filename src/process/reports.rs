//! The order in which is told what happens to a process. In the process that has spawned it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::panic::{catch, drop_quietly};
use crate::reactor::UserCode;
use crate::sync::Mutex;

/// Reports of one process to those who wait for it, in line. User code that takes long is left behind by the
/// thread that reads: what comes next waits for it here.
#[derive(Default)]
pub(super) struct Reports(Mutex<Line>);

#[derive(Default)]
struct Line {
    is_told: bool,
    reports: VecDeque<Box<dyn FnOnce() + Send>>,
}

impl Reports {
    pub(super) fn push(&self, report: impl FnOnce() + Send + 'static) {
        self.0.lock().reports.push_back(Box::new(report));
    }
}

/// Tells what is in line.
pub(super) struct Tell(pub(super) Arc<Reports>);

impl UserCode for Tell {
    fn run(self: Box<Self>) {
        let Reports(line) = &*self.0;
        loop {
            let mut locked = line.lock();
            // Another thread is in the midst of it, and goes on with the rest.
            if locked.is_told {
                return;
            }
            let Some(report) = locked.reports.pop_front() else { return };
            locked.is_told = true;
            drop(locked);
            let told = catch(report);
            line.lock().is_told = false;
            if let Err(panicked) = told {
                drop_quietly(panicked); // the hook has reported it
            }
        }
    }
}
