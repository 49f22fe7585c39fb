//! Systems without worker processes: no pool can be created there, so none of these values exist.

use std::io;

use super::zygote::{Notice, WorkerSettings, ZygoteSettings};
use crate::sys::{BorrowedFd, ExitStatus, None, OwnedFd, Signal, unsupported};

pub(crate) mod helper {
    pub(crate) fn can_start() -> std::io::Result<()> {
        crate::sys::unsupported()
    }
}

pub(crate) mod hook {
    pub(crate) fn is_in_charge() -> bool {
        false
    }
}

pub(crate) struct Launch(None);

impl Launch {
    pub(crate) fn new(_: &ZygoteSettings) -> io::Result<Self> {
        unsupported()
    }
}

pub(crate) struct Zygote(None);

impl Zygote {
    pub(crate) fn start(launch: &Launch) -> io::Result<Self> {
        match launch.0 {}
    }

    pub(crate) fn wait_until_ready(&self) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }

    pub(crate) fn pid(&self) -> u32 {
        match self.0 {}
    }

    pub(crate) fn end(self) -> Option<ExitStatus> {
        match self.0 {}
    }

    pub(crate) fn spawn(
        &self,
        _: &WorkerSettings,
        _: OwnedFd,
        _: BorrowedFd<'_>,
    ) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn signal(&self, _: u32, _: Signal) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn receive(&self) -> io::Result<Option<Notice>> {
        match self.0 {}
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        match self.0 {}
    }
}

pub(crate) mod family {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Family(pub(crate) u64);

    impl Family {
        pub(crate) fn new() -> std::io::Result<Self> {
            crate::sys::unsupported()
        }
    }

    pub(crate) fn kill_families(_: &[Family]) -> std::io::Result<()> {
        Ok(())
    }
}
