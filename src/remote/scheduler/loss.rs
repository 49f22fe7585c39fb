//! Workers that are lost, and what becomes of what they had. In the pool's process, under the pool's lock.

use std::sync::Arc;

use super::state::{Place, State};
use super::worker::{Life, Worker};
use super::{Completion, Pool};
use crate::error::{Error, LossCause};
use crate::remote::scheduler::transport::{EndBy, Hub, Loss, Transport, WorkerLink};
use crate::remote::submission::Suspect;

impl<T: Transport> Pool<T> {
    /// Kills a worker that sends what is no frame, and believes it nothing any more.
    pub(super) fn distrust(self: &Arc<Self>, state: &mut State<T>, number: u32, text: &str) {
        let Some(worker) = state.workers.get_mut(&number) else { return };
        worker.is_distrusted = true;
        let reason = LossCause::Hostile { sent: text.to_owned() };
        state.end_worker(number, EndBy::Kill, Some(reason));
        // As if its socket was closed: what it has not begun goes to others now.
        self.on_closed(state, number);
    }

    /// Records that nothing more comes from a worker. What it has not begun goes back to the queue.
    pub(crate) fn on_closed(self: &Arc<Self>, state: &mut State<T>, number: u32) {
        let Some(worker) = state.workers.get_mut(&number) else { return };
        // The end of its frames was told before, by the socket or by `distrust`.
        if worker.life == Life::Gone {
            return;
        }
        worker.life = Life::Gone;
        // Before the rest is queued again: what was to end must not be.
        self.close_questions(state, number);
        state.requeue_unstarted(number);
        T::on_gone(self, state, number);
    }

    /// Records how a worker has ended. The tasks that it had begun fail, or are tried again.
    pub(crate) fn on_exited(self: &Arc<Self>, state: &mut State<T>, number: u32, loss: &Loss) {
        self.on_closed(state, number);
        let Some(worker) = state.workers.remove(&number) else { return };
        // A pool that was closed with `CancelQueued`, or is broken, tries nothing again.
        let may_run_again = state.life.goes_on();
        // A worker that was killed, or died with its starter, is no failed start.
        let mut had_begun = worker.replies > 0 || worker.is_killed || loss.is_orphaned;
        had_begun |= worker.has_lived(self.hub.now());
        if let (Some(next), true) = (worker.next, loss.has_failed) {
            had_begun = true; // with receiving it
            if let Some(task) = state.tasks.get_mut(&next) {
                task.suspect_deaths += 1;
            }
        }
        if !worker.was_dismissed {
            state.outbox.worker_lost(|| loss.lost.how(), worker.is_killed);
        }
        let (mut suspect, mut tried_again) = (None, 0);
        for sent in &worker.sent {
            let task = state.tasks.get_mut(&sent.number).filter(|task| task.is_with(number));
            let Some(task) = task else { continue };
            // It was not taken back: it had started, or can't be sent again.
            had_begun |= task.content.is_some() || worker.has_started(sent.slot);
            suspect = suspect.or(task.sink.suspect());
            state.workers_lost += 1;
            let mut lost = loss.lost.clone();
            if task.options.retries > 0 && may_run_again {
                task.options.retries -= 1;
                task.lost.push(lost);
                task.place = Place::Queued;
                // The limit counts anew, from the next start.
                task.run_timer = None;
                // In front of the others, in the order in which the worker had them.
                state.queue.insert(tried_again, sent.number);
                tried_again += 1;
                state.queued += 1;
            } else if let Some(mut task) = state.remove(sent.number) {
                // The checkpoint goes with the worker, at the end of this call.
                task.sink.salvage(worker.link.checkpoint());
                lost.earlier = std::mem::take(&mut task.lost);
                state.done.push(Completion::failed(self, *task, Error::WorkerLost(Box::new(lost))));
            }
        }
        if let (Some(suspect), true) = (suspect, loss.has_failed) {
            self.blame(state, suspect, loss.lost.pid);
        }
        if !had_begun && !worker.was_dismissed {
            self.record_failed_start(state, || loss.lost.how());
        }
        // Chunks that its tasks have submitted still need theirs.
        worker.offered.into_iter().filter_map(|(_, context)| context.ok()).for_each(|context| {
            state.release_context(context);
        });
    }

    /// Ends the worker that has submitted a call of which another one has died, as the call may be
    /// made up. Only if the task that has submitted it still runs there, which is lost as well.
    fn blame(self: &Arc<Self>, state: &mut State<T>, suspect: Suspect, victim: u32) {
        let submitter = state.worker(suspect.worker);
        let task = submitter.and_then(|worker| worker.sent.front());
        if task.is_some_and(|task| task.number == suspect.task) {
            let text = format!(
                "a call of what may be no function, of which worker process {victim} has died"
            );
            self.distrust(state, suspect.worker, &text);
        }
    }

    /// Records that what starts workers has ended, and takes its workers with it, which counts as one
    /// failure.
    pub(crate) fn on_starter_lost(self: &Arc<Self>, state: &mut State<T>, how: &str) {
        // One failed start for all of them: `on_exited` does not count orphans.
        if !state.workers.is_empty() && !state.workers.values().any(Worker::<T>::has_begun) {
            self.record_failed_start(state, || how.to_owned());
        }
    }

    /// Records that a worker is stopped, or goes on. While it is stopped, others do what it has not
    /// begun, as they do beside a worker whose task waits.
    pub(crate) fn on_stopped(
        self: &Arc<Self>,
        state: &mut State<T>,
        number: u32,
        is_stopped: bool,
    ) {
        let Some(worker) = state.workers.get_mut(&number) else { return };
        worker.is_stopped = is_stopped;
        if is_stopped {
            state.take_back(number, 0);
        } else {
            // What it was sent may be with others by now.
            self.fill_up(state, number);
        }
        self.dispatch(state);
    }

    /// Kills a worker for the task in this slot, which it has begun; what it has not begun goes
    /// elsewhere. If it has begun with another one since then, the task has ended by itself, and its
    /// reply is on the way. If it is asked whether it has begun, the answer decides.
    pub(super) fn kill_for(state: &mut State<T>, number: u32, slot: u16) {
        if state.worker(number).is_some_and(|worker| worker.is_asked_for(slot)) {
            return;
        }
        // Now, and not when the worker's end is told: other workers may have room.
        state.take_back(number, 0);
        let Some(worker) = state.worker(number) else { return };
        let behind = worker.sent.iter().skip_while(|sent| sent.slot != slot).skip(1);
        if !behind.clone().any(|sent| worker.has_started(sent.slot)) {
            state.end_worker(number, EndBy::Kill, None);
        }
    }
}
