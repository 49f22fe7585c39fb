//! A permit is a value: what was given back can't be given back again.

use concurrent_futures::ipc::Semaphore;

fn main() {
    let slots = Semaphore::new(2).unwrap();
    let permit = slots.acquire_blocking();
    drop(permit);
    drop(permit);
}
