//! Workers that went wrong, and send other descriptors than they announce.

use std::fs::{self, File};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use concurrent_futures::ipc::SharedSlice;
use concurrent_futures::{LossCause, call};
use rustix::cmsg_space;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::program::alone;
use crate::tools::{end, lost, pool};

/// Bytes that are written to the pool, and the number of descriptors that come with the first.
type Sends = Vec<(Vec<u8>, usize)>;

/// Writes to the worker's socket, which is descriptor 3, as a stray pointer might.
fn send_wrongly(sends: Sends) {
    // SAFETY: the descriptor is the worker's, which owns it for as long as the process lives.
    let socket = unsafe { BorrowedFd::borrow_raw(3) };
    let null = File::open("/dev/null").unwrap();
    for (bytes, count) in sends {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(253))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = vec![null.as_fd(); count];
        if count > 0 {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        }
        // The pool may have ended this process by then.
        let _ = sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL);
    }
    loop {
        std::thread::park();
    }
}

/// The header of a value of no bytes that says how many descriptors it has, by the description of frames.
fn header(announced: u8) -> Vec<u8> {
    let mut header = vec![0; 32];
    (header[0], header[7], header[8]) = (16, announced, 1);
    header
}

fn first_of(slice: SharedSlice<u32>) -> u32 {
    slice[0]
}

/// W-13.
#[test]
fn a_worker_that_sends_other_descriptors_than_it_says_is_ended() {
    alone("hostile::a_worker_that_sends_other_descriptors_than_it_says_is_ended", || {
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let pool = pool(1);
        let slice = SharedSlice::new([7, 8]).unwrap();
        assert_eq!(pool.submit(call!(first_of(slice.clone()))).result().unwrap(), 7);
        let before = descriptors();
        let wrong: [Sends; 6] = [
            vec![(header(1), 0)],
            vec![(header(0), 1)],
            vec![(header(2), 1)],
            vec![(header(1), 253)],
            vec![(header(255), 253)],
            vec![(vec![16], 1), (vec![0], 1), (vec![0], 1)],
        ];
        for sends in wrong {
            let lost = lost(pool.submit(call!(send_wrongly(sends))).result());
            assert!(matches!(lost.cause, Some(LossCause::Hostile { .. })), "{lost}");
            assert_eq!(pool.submit(call!(first_of(slice.clone()))).result().unwrap(), 7);
        }
        assert_eq!(descriptors(), before);
        end(&pool);
    });
}
