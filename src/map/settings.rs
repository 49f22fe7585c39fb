//! The settings of a map, whatever form its results have. In the consumer's process.

/// Gives a form of a map's results, with a `consumer`, the methods that all of them have.
macro_rules! impl_settings {
    ([$($parameter:ident),+] $map:ty) => {
        impl<$($parameter),+> $map {
            /// At most `n` items are taken from the input and not yet delivered, so memory stays flat. An item
            /// counts as delivered when the next one is asked for. Python's word is `buffersize`.
            ///
            /// Default: 1,024 where the input does not say that it ends (its `size_hint` has no upper bound),
            /// as an endless one; otherwise no limit. Where all results are awaited there is no limit by default,
            /// and one that is set bounds only what waits for its turn.
            ///
            /// # Panics
            ///
            /// If `n` is 0: no item could ever be taken. If the map has started. A builder returns such an error;
            /// a map has no place for one before its first item, so the line that has the mistake panics.
            #[doc(alias = "buffersize")]
            #[track_caller]
            pub fn buffer_size(mut self, n: usize) -> Self {
                self.consumer.buffer_size(n);
                self
            }

            /// Hands the items to the workers in chunks of `n`. Python's word is `chunksize`. Default: chosen, and
            /// changed on the way, such that a chunk takes about a quarter of a millisecond by what items have
            /// taken so far; items that take longer go one by one.
            ///
            /// # Panics
            ///
            /// If `n` is 0. If the map has started. A builder returns such an error; a map has no place for one
            /// before its first item, so the line that has the mistake panics.
            #[doc(alias = "chunksize")]
            #[track_caller]
            pub fn chunk_size(mut self, n: usize) -> Self {
                self.consumer.chunk_size(n);
                self
            }

            /// A name for people: of the tasks that compute the items, in dumps.
            ///
            /// # Panics
            ///
            /// If the map has started.
            #[track_caller]
            pub fn label(mut self, label: impl Into<$crate::label::Label>) -> Self {
                self.consumer.label(label.into());
                self
            }

            /// Starts the work now, not at the first poll. A second call changes nothing. An example is at
            /// [`Map`](crate::Map#when-the-work-starts).
            pub fn start(mut self) -> Self {
                self.consumer.start();
                self
            }
        }
    };
}
pub(super) use impl_settings;
