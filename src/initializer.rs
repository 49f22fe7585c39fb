//! The results of functions that prepare a worker.

use std::error::Error;

use crate::portable_error::PortableError;

pub(crate) type BoxedError = Box<dyn Error + Send + Sync>;

/// The values that an initializer may return: `()`, or a `Result<(), E>` with an `E` that becomes a
/// boxed error, or with a [`PortableError`].
///
/// Sealed.
#[diagnostic::on_unimplemented(
    message = "an initializer can't return `{Self}`",
    label = "this function returns neither `()` nor a `Result<(), E>`",
    note = "`E` may be any error, a string, a boxed error or a `PortableError`"
)]
pub trait InitializerOutcome: sealed::Outcome {}

pub(crate) mod sealed {
    use super::BoxedError;

    #[allow(unnameable_types, reason = "that is what seals the trait above")]
    pub trait Outcome {
        fn into_result(self) -> Result<(), BoxedError>;
    }
}

impl sealed::Outcome for () {
    fn into_result(self) -> Result<(), BoxedError> {
        Ok(())
    }
}

impl<E: Into<BoxedError>> sealed::Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), BoxedError> {
        self.map_err(Into::into)
    }
}

// It does not convert by `Into`: see there.
impl sealed::Outcome for Result<(), PortableError> {
    fn into_result(self) -> Result<(), BoxedError> {
        self.map_err(PortableError::into_boxed)
    }
}

// The error is that of `InitializerOutcome`, not of the trait that seals it.
#[diagnostic::do_not_recommend]
impl<T: sealed::Outcome> InitializerOutcome for T {}
