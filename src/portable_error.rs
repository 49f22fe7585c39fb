//! An error on its way to another process.

use std::error::Error;
use std::fmt;

use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

/// Any error, in a form that travels between processes: its text, its causes, and its `Debug`.
///
/// A function for worker processes can't return an [`io::Error`](std::io::Error), which can't be
/// serialized. It returns this one, and `?` converts what becomes a boxed error: errors, strings, boxed
/// errors, and those of the `anyhow` crate.
///
/// ```
/// use concurrent_futures::{Executor, InlineExecutor, PortableError, call};
///
/// fn first_line(path: String) -> Result<String, PortableError> {
///     let text = std::fs::read_to_string(&path)?;
///     let line = text.lines().next().ok_or_else(|| format!("{path} is empty"))?;
///     Ok(line.to_owned())
/// }
///
/// let pool = InlineExecutor::new(); // or a pool of processes
/// let missing = Executor::submit(&pool, call!(first_line("no/such/file".to_owned())));
/// let error = missing.result()?.unwrap_err();
/// assert!(error.to_string().contains("No such file"));
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
///
/// It is no [`Error`] itself, since then there could be no conversion from all errors, but it
/// becomes a boxed one by `?` or [`into_boxed`](Self::into_boxed). The types of the error and of its
/// causes do not travel: return an enum of your own with serde's traits where the caller has to match.
pub struct PortableError {
    text: String,
    /// The texts of its causes, the next one first.
    causes: Vec<String>,
    debug: String,
}

impl PortableError {
    /// Returns the texts of the error and of its causes, from the error to its root.
    pub fn chain(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.text).chain(&self.causes).map(String::as_str)
    }

    /// Returns an error with the same text, causes and `Debug`.
    pub fn into_boxed(self) -> Box<dyn Error + Send + Sync> {
        let Self { text, causes, debug } = self;
        let source = causes.into_iter().rev().fold(None, |source, text| {
            let debug = text.clone();
            Some(Box::new(Link { text, debug, source }))
        });
        Box::new(Link { text, debug, source })
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for PortableError {
    fn from(error: E) -> Self {
        let error = error.into();
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        Self { text: error.to_string(), causes, debug: format!("{error:?}") }
    }
}

impl From<PortableError> for Box<dyn Error> {
    fn from(error: PortableError) -> Self {
        error.into_boxed()
    }
}

#[cfg(feature = "anyhow")]
impl From<PortableError> for anyhow::Error {
    fn from(error: PortableError) -> Self {
        Self::from_boxed(error.into_boxed())
    }
}

impl fmt::Display for PortableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if f.alternate() {
            self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for PortableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.debug)
    }
}

impl Serialize for PortableError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.text, &self.causes, &self.debug).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PortableError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (text, causes, debug) = Deserialize::deserialize(deserializer)?;
        Ok(Self { text, causes, debug })
    }
}

/// An error of a chain that has travelled.
struct Link {
    text: String,
    debug: String,
    source: Option<Box<Link>>,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.debug)
    }
}

impl Error for Link {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug)]
    struct Refused(io::Error);

    impl fmt::Display for Refused {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("seat 7 is refused")
        }
    }

    impl Error for Refused {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    fn refused() -> Refused {
        Refused(io::Error::other("no licence"))
    }

    #[test]
    fn an_error_has_its_text_its_causes_and_its_debug() {
        let error = PortableError::from(refused());
        assert_eq!(error.to_string(), "seat 7 is refused");
        assert_eq!(format!("{error:#}"), "seat 7 is refused: no licence");
        assert_eq!(format!("{error:?}"), format!("{:?}", refused()));
        assert_eq!(error.chain().collect::<Vec<_>>(), ["seat 7 is refused", "no licence"]);

        let boxed = error.into_boxed();
        assert_eq!(boxed.to_string(), "seat 7 is refused");
        assert_eq!(format!("{boxed:?}"), format!("{:?}", refused()));
        let cause = boxed.source().unwrap();
        assert_eq!(cause.to_string(), "no licence");
        assert!(cause.source().is_none());
        let again = PortableError::from(boxed);
        assert_eq!(again.chain().count(), 2);
    }

    #[test]
    fn what_becomes_a_boxed_error_becomes_one_by_the_question_mark() {
        fn fails(how: u32) -> Result<(), PortableError> {
            match how {
                0 => Err(refused())?,
                1 => Err("a text")?,
                2 => Err(String::from("a string"))?,
                3 => Err(Box::<dyn Error + Send + Sync>::from("boxed"))?,
                _ => Err(crate::error::Error::ShutDown)?,
            }
            Ok(())
        }
        fn boxed(how: u32) -> Result<(), Box<dyn Error>> {
            fails(how)?;
            Ok(())
        }
        let texts = (0..4).map(|how| fails(how).unwrap_err().to_string());
        assert!(texts.eq(["seat 7 is refused", "a text", "a string", "boxed"]));
        assert_eq!(boxed(4).unwrap_err().to_string(), crate::error::Error::ShutDown.to_string());
    }
}
