//! The handles of which workers keep something: shared memory stays mapped, and decoded, for as long as the process of the pool has
//! a handle to it. In that process.
//!
//! A worker is told to keep what it makes of a file before the first frame with such a handle. Who drops the last
//! handle may be anywhere, under this pool's lock too; so the workers are told by the thread that reads. All of that
//! is in the order of frames, so no answer is needed, as with the contexts of maps.

use std::sync::{Arc, Weak};

use super::Pool;
use super::worker::Worker;
use crate::codec::handle::{Identity, OnGone};
use crate::reactor::UserCode;
use crate::remote::frame::{Content, Header, Kind};
use crate::remote::message::Payload;
use crate::remote::scheduler::transport::{Hub, Transport, WorkerLink};

impl<T: Transport> Pool<T> {
    /// Has a worker keep what it makes of the handles in a content that it is about to be sent, as far as it does
    /// not yet.
    pub(super) fn announce(self: &Arc<Self>, worker: &mut Worker<T>, content: &Payload) {
        for descriptor in content.descriptors() {
            let Some(identity) = descriptor.kept_as() else { continue };
            let is_it = |known: &Weak<_>| Weak::as_ptr(known) == Arc::as_ptr(descriptor);
            if worker.kept.iter().any(|(_, known)| is_it(known)) {
                continue;
            }
            let pool: Weak<Self> = Arc::downgrade(self);
            descriptor.watch(pool);
            worker.tell_of(Kind::Keep, identity);
            worker.kept.push((identity, Arc::downgrade(descriptor)));
        }
    }

    /// Tells workers of the handles that this process has no more.
    fn forget(self: &Arc<Self>) {
        let mut state = self.state();
        let mut told = Vec::new();
        for (number, worker) in &mut state.workers {
            if worker.forget() {
                told.push(*number);
            }
        }
        told.into_iter().for_each(|number| state.flush_later(number));
        self.release_to_reader(state);
    }
}

impl<T: Transport> Worker<T> {
    /// Queues the ends of what it needs to keep no more. `false`: there are none.
    fn forget(&mut self) -> bool {
        let is_there = |(_, handle): &(_, Weak<_>)| handle.strong_count() > 0;
        let (kept, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.kept).into_iter().partition(is_there);
        self.kept = kept;
        for (identity, _) in &gone {
            // The same memory may have come back, with another descriptor.
            if !self.kept.iter().any(|(other, _)| other == identity) {
                self.tell_of(Kind::Forget, *identity);
            }
        }
        !gone.is_empty()
    }

    fn tell_of(&mut self, kind: Kind, (device, number): Identity) {
        let header = Header { kind, slot: 0, number, detail: device };
        self.link.tell(header, &Content::default().into());
    }
}

impl<T: Transport> OnGone for Pool<T> {
    fn on_gone(self: Arc<Self>) {
        // The workers are not those of a forked child.
        if self.state.is_home() {
            let forget: Box<dyn UserCode> = Box::new(Forget(Arc::downgrade(&self)));
            self.hub.deliver([forget].into_iter());
            self.hub.wake();
        }
    }
}

/// To be run by the thread that reads; by none, once the pool has ended.
struct Forget<T: Transport>(Weak<Pool<T>>);

impl<T: Transport> UserCode for Forget<T> {
    fn run(self: Box<Self>) {
        if let Some(pool) = self.0.upgrade() {
            pool.forget();
        }
    }
}
