//! The error of a value that could not be encoded or decoded. Both ends.

use std::borrow::Cow;
use std::fmt::{self, Display};

use serde_core::{de, ser};

/// The error of the codec, or of the type's own serde code.
///
/// It is a pointer, so that the many `Result<(), Error>` between serde's calls fit a register.
pub(crate) struct Error(Box<Cow<'static, str>>);

impl Error {
    #[cold]
    pub(super) fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(what.into()))
    }

    #[cold]
    pub(super) fn no_memory() -> Self {
        Self::new("there is no memory for so many bytes")
    }

    #[cold]
    pub(super) fn too_deep() -> Self {
        Self::new(format!("it is nested more than {} levels deep", super::DEPTH))
    }

    #[cold]
    pub(super) fn too_short() -> Self {
        Self::new("the bytes end before the value does")
    }

    #[cold]
    pub(super) fn left_over() -> Self {
        Self::new("there is more than belongs to the value")
    }

    #[cold]
    pub(super) fn malformed() -> Self {
        Self::new("the bytes are malformed")
    }

    /// An error for a type that stopped early, or took no notice of an error: it is uncertain which
    /// bytes come next.
    #[cold]
    pub(super) fn broken_off() -> Self {
        Self::new("the value was not read to its end")
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Error").field(&self.0).finish()
    }
}

impl std::error::Error for Error {}

impl ser::Error for Error {
    #[cold]
    fn custom<T: Display>(what: T) -> Self {
        Self::new(what.to_string())
    }
}

impl de::Error for Error {
    #[cold]
    fn custom<T: Display>(what: T) -> Self {
        Self::new(what.to_string())
    }
}
