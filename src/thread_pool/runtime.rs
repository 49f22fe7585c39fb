//! The tokio runtime that a job sees as the current one. Without the feature `tokio` there is none.

#[cfg(not(feature = "tokio"))]
pub(crate) use self::no_runtime::{Here, Id, Runtime};
#[cfg(feature = "tokio")]
pub(crate) use self::tokio_runtime::{Here, Id, Runtime};

#[cfg(feature = "tokio")]
mod tokio_runtime {
    use tokio::runtime::{EnterGuard, Handle};

    use crate::panic::Quiet;

    /// Names a runtime, or none. tokio counts its runtimes, so the number of one that has ended does not come again.
    pub(crate) type Id = Option<tokio::runtime::Id>;

    /// A runtime, or none. It is not kept alive, but the memory of its handle is.
    #[derive(Clone)]
    pub(crate) struct Runtime {
        /// Beside the handle, since it is compared for each task.
        id: Id,
        handle: Option<Quiet<Handle>>,
    }

    /// The runtime that a thread is in. Its drop is plain, since the thread has a reference of its own.
    pub(crate) struct Here(Handle);

    impl Here {
        #[inline]
        pub(crate) fn id(&self) -> Id {
            Some(self.0.id())
        }

        pub(crate) fn into_runtime(self) -> Runtime {
            Runtime::new(Some(self.0))
        }
    }

    impl Runtime {
        pub(crate) fn new(handle: Option<Handle>) -> Self {
            Self { id: handle.as_ref().map(Handle::id), handle: handle.map(Quiet::new) }
        }

        pub(crate) fn none() -> Self {
            Self::new(None)
        }

        /// Returns the runtime that this thread is in.
        pub(crate) fn here() -> Self {
            Self::new(Handle::try_current().ok())
        }

        /// Returns the runtime that this thread is in, unless it is this one or there is none.
        #[inline]
        pub(crate) fn other_here(&self) -> Option<Here> {
            let handle = Handle::try_current().ok()?;
            (Some(handle.id()) != self.id).then_some(Here(handle))
        }

        #[inline]
        pub(crate) fn id(&self) -> Id {
            self.id
        }

        /// Returns whether a job can see it on this thread: no runtime can be left to have none.
        pub(crate) fn can_be_entered(&self) -> bool {
            self.handle.is_some() || Handle::try_current().is_err()
        }

        /// Makes it the current one of this thread, until the guard is dropped.
        // The drop of a guard panics if a job has leaked one of its own, which is no reason to lose a worker.
        pub(crate) fn enter(&self) -> Option<Quiet<EnterGuard<'_>>> {
            self.handle.as_ref().map(|handle| Quiet::new(handle.enter()))
        }
    }
}

#[cfg(not(feature = "tokio"))]
mod no_runtime {
    #[derive(Clone, Copy, PartialEq)]
    pub(crate) struct Id;

    pub(crate) enum Here {}

    impl Here {
        pub(crate) fn id(&self) -> Id {
            Id
        }

        pub(crate) fn into_runtime(self) -> Runtime {
            match self {}
        }
    }

    #[derive(Clone)]
    pub(crate) struct Runtime;

    impl Runtime {
        pub(crate) fn none() -> Self {
            Self
        }

        pub(crate) fn here() -> Self {
            Self
        }

        pub(crate) fn other_here(&self) -> Option<Here> {
            None
        }

        pub(crate) fn id(&self) -> Id {
            Id
        }

        pub(crate) fn can_be_entered(&self) -> bool {
            true
        }

        pub(crate) fn enter(&self) -> Option<()> {
            None
        }
    }
}
