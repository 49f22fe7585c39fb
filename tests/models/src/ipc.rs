//! What processes share.

use crate::doubles::{futex, journal, robust_list};

#[path = "../../../src/ipc/event_word.rs"]
pub(crate) mod event_word;
#[path = "../../../src/ipc/halves.rs"]
pub(crate) mod halves;
#[path = "../../../src/sys/linux/robust_lock.rs"]
pub(crate) mod robust_lock;
