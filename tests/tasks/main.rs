//! What happens to a task between its submission and its end: dropped, cancelled, panicking,
//! woken, out of time; what is counted of it; and how the executors are made.

#[allow(unreachable_pub, reason = "each test binary includes it as a private module")]
#[path = "../support/mod.rs"]
mod support;
mod tools;

mod async_bodies;
mod builder;
mod cancel;
mod dropping;
mod dump;
mod errors;
mod executors;
mod handles;
mod metrics;
mod panics;
mod shared;
mod sizes;
mod stop_tokens;
mod task_set;
mod time_limits;
mod unobserved;
mod user_code;
mod wakers;
