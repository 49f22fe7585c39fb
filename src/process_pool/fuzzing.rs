//! Entry points for the fuzz targets of `tests/fuzz`. Compiled for them alone, with `--cfg fuzzing`.

use std::collections::BTreeMap;
use std::io::IoSlice;

use serde_core::de::DeserializeOwned;

use crate::codec;
use crate::codec::buffer::Buffer;
use crate::function::{self, Checked, NamedCall};
use crate::ipc::SharedSlice;
use crate::remote::frame::{Frame, FrameReader, Kind};
use crate::remote::reply::unpack_error;
use crate::remote::run::RunCall;
use crate::sys::{self, AsFd, socket};

/// Reads what a worker could have sent, in pieces as a socket has them, and unpacks the frames as
/// the pool does. Some pieces have descriptors.
pub fn frames(bytes: &[u8]) {
    let Ok((ours, theirs)) = socket::pair() else { return };
    let mut reader = FrameReader::new(u64::MAX);
    // The first bytes say how long the pieces are, and how many descriptors come with a piece that begins with
    // a kind of frame.
    let Some(([length, count], bytes)) = bytes.split_first_chunk() else { return };
    let Ok(file) = sys::memory_file(0) else { return };
    for piece in bytes.chunks(usize::from(*length) * 16 + 1) {
        let begins = Kind::from_byte(piece[0]).is_some();
        let descriptors = vec![file.as_fd(); if begins { usize::from(count % 4) } else { 0 }];
        let piece = [IoSlice::new(piece)];
        let sent = match &descriptors[..] {
            [] => socket::send(theirs.as_fd(), &piece),
            descriptors => socket::send_with(theirs.as_fd(), &piece, descriptors),
        };
        let Ok(mut left) = sent else { return };
        while left > 0 {
            let Ok(read) = reader.fill(ours.as_fd()) else { return };
            left -= read;
            loop {
                match reader.next() {
                    Ok(Some(frame)) => unpack(frame),
                    Ok(None) => break,
                    Err(_garbage) => return,
                }
            }
        }
    }
}

/// Checks a call as a worker could have named it: a true one, but for the numbers that are added to
/// its bytes. What begins no function is not known as one.
pub fn call(bytes: &[u8]) {
    fn longer_than_255_bytes(text: String) -> Vec<u64> {
        text.split(' ').filter_map(|number| number.parse().ok()).map(|n: u64| n.pow(2)).collect()
    }
    let function: fn(String) -> Vec<u64> = longer_than_255_bytes;
    let Ok(call) = function::name::<RunCall, _>(function) else { return };
    let mut forged = call.to_bytes();
    for (byte, added) in forged.iter_mut().zip(bytes) {
        *byte = byte.wrapping_add(*added);
    }
    let is_true = forged == call.to_bytes();
    let checked = NamedCall::from_bytes(forged).check();
    assert!(!is_true || checked == Ok(Checked::Known));
    // The lowest byte of the function's offset alone: it is still in that function, or is in another
    // one, which can only begin where the compiler aligns functions.
    let is_shifted = forged[..24] == call.to_bytes()[..24] && forged[25..] == call.to_bytes()[25..];
    if !is_true && is_shifted && forged[24] % 4 != 0 {
        assert_ne!(checked, Ok(Checked::Known));
    }
}

fn unpack(frame: Frame) {
    if let Some(code) = frame.code {
        let _ = code.check();
    }
    drop(unpack_error(&frame));
    // Segments are not cloned: their turn comes with the one type that has them.
    values(frame.values());
    let values = frame.values().to_vec();
    let mut values = codec::Decoder::new(&values, frame.attached);
    let _ = (values.next::<Buffer<u64>>(), values.next::<SharedSlice<u32>>());
}

/// Decodes a message as values of several types.
pub fn message(bytes: &[u8]) {
    values(bytes);
}

fn values(bytes: &[u8]) {
    type Nested = Vec<Option<(u8, BTreeMap<String, Vec<i64>>)>>;

    fn value<T: DeserializeOwned + 'static>(bytes: &[u8]) {
        drop(codec::decode::<T>(bytes, Vec::new()));
    }
    value::<()>(bytes);
    value::<u64>(bytes);
    value::<f64>(bytes);
    value::<char>(bytes);
    value::<String>(bytes);
    value::<Vec<u8>>(bytes);
    value::<Vec<()>>(bytes);
    value::<Result<u32, String>>(bytes);
    value::<(i8, bool, [u16; 3])>(bytes);
    value::<Nested>(bytes);
    value::<Buffer<f32>>(bytes);
}
