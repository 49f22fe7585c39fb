//! What stands here in place of parts of the crate that the codec names, and that no row needs.

pub(crate) mod sync {
    #[derive(Default)]
    pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
            self.0.lock().expect("nothing panics under it")
        }

        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner().expect("nothing panics under it")
        }
    }
}

pub(crate) mod error {
    #[derive(Clone, Copy)]
    pub(crate) struct CodecSide;

    pub(crate) struct CodecError {
        pub(crate) side: CodecSide,
        pub(crate) type_name: String,
        pub(crate) message: String,
    }
}

pub(crate) mod panic {
    pub(crate) struct Panicked;

    impl Panicked {
        pub(crate) fn location(&self) -> Option<&str> {
            None
        }

        pub(crate) fn message(&self) -> &str {
            ""
        }
    }

    pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Panicked> {
        Ok(f())
    }
}
