//! What every measurement stands on: a fresh runtime, a fresh pool, the measured future spawned
//! on the runtime.

use std::cell::OnceCell;
use std::future::Future;
use std::sync::Arc;

use tokio::runtime::Builder;
use tokio::sync::mpsc;

use crate::peers::Peer;
use crate::spin::Spin;

/// Threads of each pool, and of the runtime.
pub(crate) const WORKERS: usize = 2;

/// What a workload may use.
#[derive(Default)]
pub(crate) struct Bench {
    spin: OnceCell<Spin>,
}

impl Bench {
    /// Calibrated at the first call, which should come while nothing else runs.
    pub(crate) fn spin(&self) -> Spin {
        *self.spin.get_or_init(Spin::calibrate)
    }
}

/// Makes a runtime and a pool, and spawns the future of `work` on the runtime. Neither making
/// nor ending them is in the time that `work` measures.
pub(crate) fn on_runtime<P, F, R>(work: F) -> R::Output
where
    P: Peer,
    F: FnOnce(Arc<P>) -> R + Send + 'static,
    R: Future + Send + 'static,
    R::Output: Send + 'static,
{
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(WORKERS).enable_all();
    P::configure(&mut builder, WORKERS);
    let runtime = builder.build().expect("a runtime starts");
    let context = runtime.enter();
    let peer = Arc::new(P::new(WORKERS));
    drop(context);

    let measured = runtime.spawn(work(Arc::clone(&peer)));
    let output = runtime.block_on(measured).expect("the measured future does not panic");

    // Here and not in the future, since some peers block until their threads have ended.
    drop(Arc::into_inner(peer).expect("nothing else holds the pool any more"));
    output
}

/// Has the threads started and the allocator's lists filled, so that no peer pays for that.
pub(crate) async fn warm_up<P: Peer>(peer: &P) {
    peer.burst((0..1_000).map(|_| || ())).await;
}

/// Occupies every worker until it is dropped.
pub(crate) struct Gate {
    _open: crossbeam_channel::Sender<()>,
}

impl Gate {
    /// Returns when all workers are in a job that waits for the gate.
    pub(crate) async fn close<P: Peer>(peer: &P) -> Self {
        let (open, opened) = crossbeam_channel::bounded(0);
        let (started, mut starts) = mpsc::channel(WORKERS);
        for _ in 0..WORKERS {
            let (opened, started) = (opened.clone(), started.clone());
            let job = move || {
                let _ = started.try_send(());
                let _ = opened.recv(); // An error: the gate was dropped.
            };
            // Awaited elsewhere, since the drop of a handle may cancel its job.
            tokio::spawn(peer.submit(job));
        }
        for _ in 0..WORKERS {
            starts.recv().await;
        }
        Self { _open: open }
    }
}
