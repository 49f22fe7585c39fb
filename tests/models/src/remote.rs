//! The word of a pool of other processes that its end depends on, and what claims and outgoing lines need
//! of the remote layer.

#[path = "../../../src/remote/slots.rs"]
pub(crate) mod slots;

#[path = "../../../src/remote/scheduler/finishing.rs"]
pub(crate) mod finishing;

/// Frames of any bytes.
pub(crate) mod frame {
    #[derive(Clone, Copy)]
    pub(crate) struct Header;

    pub(crate) struct Content(pub(crate) Vec<u8>);
}

/// Messages of these.
pub(crate) mod message {
    use super::frame::{Content, Header};
    use std::io::IoSlice;
    use std::marker::PhantomData;

    use crate::codec::handle::Descriptor;

    pub(crate) type Payload = Content;

    pub(crate) struct Message<C> {
        bytes: Vec<u8>,
        sent: usize,
        content: PhantomData<C>,
    }

    impl Message<Payload> {
        pub(crate) fn new(_: Vec<u8>, _: Header, content: &Payload) -> Self {
            Self { bytes: content.0.clone(), sent: 0, content: PhantomData }
        }

        /// Takes in one more frame, so that a model has one message of two frames, and others behind it.
        pub(crate) fn append(&mut self, _: Header, content: &Payload) -> bool {
            let has_room = self.bytes.len() == content.0.len();
            if has_room {
                self.bytes.extend(&content.0);
            }
            has_room
        }

        pub(crate) fn descriptors(&self) -> &[Descriptor] {
            &[]
        }

        pub(crate) fn piece(&self) -> Option<&[u8]> {
            self.bytes.get(self.sent..)
        }

        pub(crate) fn into_room(self) -> Vec<u8> {
            Vec::new()
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
