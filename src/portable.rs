//! The bounds of values that may cross to another process.

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

/// A value that any executor can take: it can move to another thread, and to another process.
pub trait Portable: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Portable for T {}
