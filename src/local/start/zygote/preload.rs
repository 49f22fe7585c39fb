//! The call that a zygote makes before it forks: from the pool's process, in a file without a name, whose
//! descriptor comes with the first message. Arguments may be longer than a message.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use crate::function::NamedCall;
use crate::panic::Panicked;
use crate::portable_error::PortableError;
use crate::remote::frame::{Content, Frame, Header, Kind};
use crate::remote::run::run_outside;
use crate::sys::memory::ReceivedSegment;
use crate::sys::{self, OwnedFd};

/// Writes a call to a new file: its code, the number of segments, the lengths of values and segments, and
/// these.
pub(super) fn write(call: &Content) -> io::Result<OwnedFd> {
    let Content { code, values } = call;
    let code = code.ok_or(io::ErrorKind::InvalidInput)?;
    if !values.descriptors.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a handle can't be among them, as the process that starts workers has one thread; pass it to an initializer",
        ));
    }
    let mut head = code.to_bytes().to_vec();
    head.extend((values.segments.len() as u64).to_le_bytes());
    head.extend((values.body.len() as u64).to_le_bytes());
    for segment in &values.segments {
        head.extend((segment.len() as u64).to_le_bytes());
    }
    let values_length = values.segments.iter().map(|segment| segment.len()).sum::<usize>();
    let length = head.len() + values.body.len() + values_length;
    let mut file = File::from(sys::memory_file(length)?);
    file.write_all(&head)?;
    file.write_all(&values.body)?;
    values.segments.iter().try_for_each(|segment| file.write_all(segment))?;
    Ok(file.into())
}

fn read(file: OwnedFd) -> io::Result<Frame> {
    fn number(file: &mut File) -> io::Result<usize> {
        let mut number = [0; 8];
        file.read_exact(&mut number)?;
        usize::try_from(u64::from_le_bytes(number)).map_err(io::Error::other)
    }

    let mut file = File::from(file);
    file.rewind()?; // the offset is that of the writer, or of an earlier zygote
    let mut code = [0; NamedCall::BYTES];
    file.read_exact(&mut code)?;
    let (segments, length) = (number(&mut file)?, number(&mut file)?);
    let lengths: Vec<_> = (0..segments).map(|_| number(&mut file)).collect::<Result<_, _>>()?;
    let mut body = vec![0; length];
    file.read_exact(&mut body)?;
    let header = Header { kind: Kind::Initialize, slot: 0, number: 0, detail: 0 };
    let mut frame = Frame::of(header, body);
    frame.code = Some(NamedCall::from_bytes(code));
    for length in lengths {
        let mut segment = ReceivedSegment::new(length)?;
        file.read_exact(segment.as_mut())?;
        frame.attached.segments.push(segment);
    }
    Ok(frame)
}

/// Makes the call. `Err` is why there can be no workers. `None` is a file that has not arrived.
pub(super) fn run(file: Option<OwnedFd>) -> Result<(), String> {
    let failed = |error| format!("the call of the preloaded function could not be read: {error}");
    let file = file.ok_or_else(|| failed(io::Error::other("there may be no more open files")))?;
    let frame = read(file).map_err(failed)?;
    run_outside(frame).map_err(|error| match error.downcast::<Panicked>() {
        Ok(panicked) => {
            let at = panicked.location().map(|at| format!(" at {at}")).unwrap_or_default();
            format!("the preloaded function panicked{at}: {}", panicked.message())
        }
        Err(error) => format!("the preloaded function failed: {:#}", PortableError::from(error)),
    })
}
