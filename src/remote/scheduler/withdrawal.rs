//! Withdrawals that a transport can't decide at once: it asks the worker, which keeps the task until it
//! answers. In the pool's process.
//!
//! | first comes | what becomes of the task |
//! | --- | --- |
//! | the answer yes | it ends as withdrawn, or goes back to the queue, as the question was meant |
//! | the answer no, or a reply | the reply counts |
//! | the loss of the worker, or its refusal | the transport decides then |
//!
//! A task that is killed while its worker is asked is out at once. Its worker is killed only if the answer
//! is that it has started.

use std::sync::Arc;

use super::state::{State, Task};
use super::transport::{Transport, Withdrawn, WorkerLink};
use super::worker::{IfWithdrawn, Sent};
use super::{Completion, Pool};
use crate::error::Error;

impl<T: Transport> Pool<T> {
    /// Finishes the future of a task that was withdrawn.
    pub(super) fn end_withdrawn(self: &Arc<Self>, state: &mut State<T>, task: Task<T>, why: Error) {
        state.done.push(Completion::withdrawn(self, task, why));
    }

    /// Takes in the answer of a worker that was asked for a task. `true`: it skips it, and says so in a
    /// frame after this.
    #[cfg_attr(not(test), expect(dead_code, reason = "worker processes share their claims"))]
    pub(crate) fn on_withdrawn(
        self: &Arc<Self>,
        state: &mut State<T>,
        number: u32,
        sent: Sent,
        is_withdrawn: bool,
    ) {
        let Some(worker) = state.workers.get_mut(&number) else { return };
        let place = worker.asked.iter().position(|(asked, _)| *asked == sent);
        // An answer without a question: the reply came first.
        let Some(place) = place else { return };
        let (_, then) = worker.asked.remove(place);
        if state.is_with(number, sent) {
            match then {
                // The task has started, and its reply counts.
                _ if !is_withdrawn => {}
                IfWithdrawn::End(why) => self.end_asked(state, sent.number, why),
                IfWithdrawn::Requeue => state.put_back(number, sent.number),
            }
        } else if !is_withdrawn {
            // The task was killed while its worker was asked, and has started.
            Self::kill_for(state, number, sent.slot);
        }
        self.dispatch(state);
    }

    /// Ends what a worker was asked for that will not answer. The transport knows by now what had started;
    /// what goes back to the queue does so with all that the worker has not begun.
    pub(super) fn close_questions(self: &Arc<Self>, state: &mut State<T>, number: u32) {
        let Some(worker) = state.workers.get_mut(&number) else { return };
        for (sent, then) in std::mem::take(&mut worker.asked) {
            let Some(worker) = state.worker(number) else { return };
            let is_withdrawn = worker.link.withdraw(sent.slot) == Withdrawn::Yes;
            if let (IfWithdrawn::End(why), true) = (then, is_withdrawn) {
                // Unless the task was killed meanwhile, and so is out.
                if state.is_with(number, sent) {
                    self.end_asked(state, sent.number, why);
                }
            }
        }
    }

    fn end_asked(self: &Arc<Self>, state: &mut State<T>, number: u64, why: Error) {
        let Some(task) = state.remove(number) else { return };
        state.cancelled += task.count();
        self.end_withdrawn(state, *task, why);
    }
}
