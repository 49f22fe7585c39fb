//! What the claims need of the remote layer.

#[path = "../../../src/remote/slots.rs"]
pub(crate) mod slots;
