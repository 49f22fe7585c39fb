//! The bounds of values that may cross to another process.

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

/// A value that any executor can take: it can move to another thread, and to another process.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be sent to another process",
    label = "not all of it is `Serialize + DeserializeOwned + Send + 'static`",
    note = "types of your own need `#[derive(serde::Serialize, serde::Deserialize)]`; types of other crates may \
            have a feature `serde`",
    note = "in place of an error such as `std::io::Error`, return a `concurrent_futures::PortableError`",
    note = "in place of a reference, an `Rc` or an `Arc`, pass the value: processes share no memory"
)]
pub trait Portable: Serialize + DeserializeOwned + Send + 'static {}

// One error names the whole value, in place of one for each trait that a part of it lacks.
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Portable for T {}
