//! User code that encodes or decodes. For both ends.

use std::any::type_name;

use crate::error::{CodecError, CodecSide};
use crate::panic::catch;

pub(crate) fn codec_error<T>(side: CodecSide, message: impl ToString) -> CodecError {
    CodecError { side, type_name: type_name::<T>().to_owned(), message: message.to_string() }
}

/// Runs user code that encodes or decodes a `T`; its panics are failures like any other.
pub(crate) fn guarded<T, R, E: ToString>(
    side: CodecSide,
    f: impl FnOnce() -> Result<R, E>,
) -> Result<R, CodecError> {
    match catch(f) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(codec_error::<T>(side, error)),
        Err(panicked) => {
            let at = panicked.location().map(|at| format!(" at {at}")).unwrap_or_default();
            Err(codec_error::<T>(side, format!("it panicked{at}: {}", panicked.message())))
        }
    }
}
