//! Each side of a connection sends one type and receives the other.

use concurrent_futures::ipc::{Error, duplex};

fn main() -> Result<(), Error> {
    let ((questions, answers), (replies, requests)) = duplex::<String, u32>(1)?;
    questions.send_blocking("how many?".to_owned()).unwrap();
    replies.send_blocking("three".to_owned()).unwrap();
    let request: u32 = requests.recv_blocking().unwrap();
    answers.send_blocking(request).unwrap();
    questions.recv_blocking().unwrap();
    Ok(())
}
