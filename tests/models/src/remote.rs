//! The word of a pool of other processes that its end depends on, and what claims and outgoing lines need
//! of the remote layer.

#[path = "../../../src/remote/slots.rs"]
pub(crate) mod slots;

#[path = "../../../src/remote/scheduler/finishing.rs"]
pub(crate) mod finishing;

/// Frames of any bytes.
pub(crate) mod frame {
    use std::io::IoSlice;
    use std::marker::PhantomData;

    pub(crate) struct Content;

    pub(crate) struct Message<C> {
        bytes: Vec<u8>,
        sent: usize,
        content: PhantomData<C>,
    }

    impl<C> Message<C> {
        pub(crate) fn of(bytes: Vec<u8>) -> Self {
            Self { bytes, sent: 0, content: PhantomData }
        }

        pub(crate) fn missing(&self) -> usize {
            self.bytes.len() - self.sent
        }

        pub(crate) fn add_to<'a>(&'a self, parts: &mut Vec<IoSlice<'a>>) {
            parts.push(IoSlice::new(&self.bytes[self.sent..]));
        }

        pub(crate) fn passed(&mut self, count: usize) {
            self.sent += count;
        }
    }
}
