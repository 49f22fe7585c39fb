//! Events of `tracing` on their way from a worker to the subscriber of the pool's process.
//!
//! A worker has a subscriber that sends them, unless the initializer has installed another one. It
//! sends what the pool's process listens to, by level; so an event that nobody would hear is not
//! formatted either. An event is one small [frame](crate::remote::frame):
//!
//! ```text
//! level 1 byte, line 4 bytes, lengths of target and file 2 bytes each, target, file, message
//! ```
//!
//! Without the feature `tracing` nothing is sent, and what comes all the same is an error.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is sent"))]

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::remote::frame::{Frame, Header};
use crate::remote::run::Desk;
use crate::trace::{Outbox, TaskTrace};

/// Stores the level to which a subscriber of the pool's process listens, for a worker.
pub(crate) fn note_level(level: &AtomicU32) {
    #[cfg(feature = "tracing")]
    relay::note_level(level);
}

/// Takes in an event from a worker. `false`: the frame is none. In the pool's process.
pub(crate) fn take(
    frame: &Frame,
    pid: Option<u32>,
    task: Option<&TaskTrace>,
    outbox: &mut Outbox,
) -> bool {
    #[cfg(feature = "tracing")]
    return relay::take(frame, pid, task, outbox);
    #[cfg(not(feature = "tracing"))]
    false
}

/// Sends the events of a worker process.
pub(crate) struct Sender {
    #[cfg(feature = "tracing")]
    sender: relay::Sender,
}

impl Sender {
    pub(crate) fn new(desk: &Arc<dyn Desk>) -> Self {
        Self {
            #[cfg(feature = "tracing")]
            sender: relay::Sender::new(desk),
        }
    }

    /// Notes the task, or the initializer, that begins.
    pub(crate) fn begin(&self, task: Header) {
        #[cfg(feature = "tracing")]
        self.sender.begin(task);
    }

    /// Notes that the task has ended.
    pub(crate) fn end(&self) {
        #[cfg(feature = "tracing")]
        self.sender.end();
    }
}

#[cfg(feature = "tracing")]
mod relay {
    use std::cell::Cell;
    use std::fmt::{self, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

    use tracing::field::{Field, Visit};
    use tracing::level_filters::LevelFilter;
    use tracing::span::{Attributes, Id};
    use tracing::subscriber::{Interest, set_global_default};
    use tracing::{Event, Level, Metadata, Subscriber};

    use crate::codec::Encoded;
    use crate::remote::frame::{Content, Frame, Header, Kind};
    use crate::remote::run::Desk;
    use crate::trace::{Outbox, Record, TaskTrace};

    /// The longest text of each kind, in bytes. What is longer is cut.
    const LONGEST_NAME: usize = 512;
    const LONGEST_MESSAGE: usize = 8 * 1024;

    const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

    /// Returns the number of a level: 1 for errors, up to 5.
    fn number_of(level: Level) -> u32 {
        LEVELS.iter().zip(1..).find(|(other, _)| **other == level).map_or(0, |(_, number)| number)
    }

    // ---- The pool's side ----

    pub(super) fn note_level(shared: &AtomicU32) {
        let level = LevelFilter::current().into_level().map_or(0, number_of);
        shared.store(level, Relaxed);
    }

    pub(super) fn take(
        frame: &Frame,
        pid: Option<u32>,
        task: Option<&TaskTrace>,
        outbox: &mut Outbox,
    ) -> bool {
        let record =
            Some(frame).filter(|frame| frame.attached.segments.is_empty()).map(Frame::values);
        let Some(record) = record.and_then(decode) else { return false };
        outbox.record(task, pid, record);
        true
    }

    fn decode(bytes: &[u8]) -> Option<Record> {
        let (&[level], rest) = bytes.split_first_chunk()?;
        let (&line, rest) = rest.split_first_chunk()?;
        let (&target, rest) = rest.split_first_chunk()?;
        let (&file, rest) = rest.split_first_chunk()?;
        let (target, rest) = rest.split_at_checked(u16::from_le_bytes(target).into())?;
        let (file, message) = rest.split_at_checked(u16::from_le_bytes(file).into())?;
        let is_short = target.len().max(file.len()) <= LONGEST_NAME;
        let level = LEVELS.get(usize::from(level).checked_sub(1)?)?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (is_short && message.len() <= LONGEST_MESSAGE).then(|| Record {
            level: *level,
            target: text(target),
            file: text(file),
            line: u32::from_le_bytes(line),
            message: text(message),
        })
    }

    fn encode(record: &Record) -> Vec<u8> {
        let Record { level, target, file, line, message } = record;
        let mut bytes = vec![number_of(*level) as u8];
        bytes.extend(line.to_le_bytes());
        for name in [target, file] {
            bytes.extend((name.len() as u16).to_le_bytes()); // it was cut
        }
        for text in [target, file, message] {
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    // ---- The worker's side ----

    /// Sends the events of this process.
    pub(super) struct Sender {
        shared: Arc<Shared>,
        is_installed: Cell<bool>,
    }

    struct Shared {
        desk: Arc<dyn Desk>,
        /// A child of this process has the socket too, but must not write to it.
        pid: u32,
        // A thread of an earlier task may read these two as a pair that never was. The pool then
        // finds no such task with the worker, and gives the event no span.
        /// The task that runs; 0 between two.
        task: AtomicU64,
        slot: AtomicU64,
    }

    impl Sender {
        pub(super) fn new(desk: &Arc<dyn Desk>) -> Self {
            let (desk, pid) = (Arc::clone(desk), std::process::id());
            let (task, slot) = Default::default();
            let shared = Arc::new(Shared { desk, pid, task, slot });
            Self { shared, is_installed: Cell::new(false) }
        }

        /// Records that a task begins, or the initializer.
        pub(super) fn begin(&self, task: Header) {
            self.shared.task.store(task.number, Relaxed);
            self.shared.slot.store(task.slot.into(), Relaxed);
            // Not where nobody listens: with any subscriber, `tracing` does not go on to `log`.
            let is_due = task.kind != Kind::Initialize && self.shared.level() > 0;
            if is_due && !self.is_installed.replace(true) {
                let _another_is_there = set_global_default(Forward(Arc::clone(&self.shared)));
            }
        }

        pub(super) fn end(&self) {
            self.shared.task.store(0, Relaxed);
        }
    }

    impl Shared {
        fn level(&self) -> u32 {
            self.desk.event_level()
        }

        fn send(&self, record: &Record) {
            if std::process::id() != self.pid {
                return;
            }
            let values = Encoded { body: encode(record), ..Encoded::default() };
            let (number, slot) = (self.task.load(Relaxed), self.slot.load(Relaxed) as u16);
            let header = Header { kind: Kind::Event, slot, number, detail: 0 };
            // If the pool is gone, so is this process soon.
            let _ = self.desk.send(header, &Content { code: None, values });
        }
    }

    /// The subscriber. Spans stay in the worker, where nobody looks at them.
    struct Forward(Arc<Shared>);

    impl Subscriber for Forward {
        /// Has `enabled` asked for each event, since the level may change while a task runs.
        fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
            Interest::sometimes()
        }

        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.is_event() && number_of(*metadata.level()) <= self.0.level()
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            // Some id is due, though spans are not looked at.
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &tracing::span::Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let metadata = event.metadata();
            let mut text = Text::default();
            event.record(&mut text);
            let name = |name: &str| Cut::new(LONGEST_NAME).with(name);
            self.0.send(&Record {
                level: *metadata.level(),
                target: name(metadata.target()),
                file: name(metadata.file().unwrap_or_default()),
                line: metadata.line().unwrap_or_default(),
                message: text.message.with(&text.fields.text),
            });
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    /// A text that is no longer than it may be.
    struct Cut {
        text: String,
        longest: usize,
    }

    impl Cut {
        fn new(longest: usize) -> Self {
            Self { text: String::new(), longest }
        }

        fn with(mut self, text: &str) -> String {
            let _cut = self.write_str(text);
            self.text
        }
    }

    impl Write for Cut {
        /// An error ends the formatting of what would be cut anyway.
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = self.longest - self.text.len();
            if text.len() <= room {
                self.text.push_str(text);
                return Ok(());
            }
            let end = (0..=room).rev().find(|end| text.is_char_boundary(*end));
            self.text.push_str(&text[..end.unwrap_or(0)]);
            Err(fmt::Error)
        }
    }

    /// An event's message, and its other fields behind it.
    struct Text {
        message: Cut,
        fields: Cut,
    }

    impl Default for Text {
        fn default() -> Self {
            Self { message: Cut::new(LONGEST_MESSAGE), fields: Cut::new(LONGEST_MESSAGE) }
        }
    }

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            let _cut = match field.name() {
                "message" => write!(self.message, "{value:?}"),
                name => write!(self.fields, " {name}={value:?}"),
            };
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn record(target: &str, message: &str) -> Record {
            let (target, message) = (target.to_owned(), message.to_owned());
            Record { level: Level::INFO, target, file: "f.rs".to_owned(), line: 7, message }
        }

        fn shown(record: Record) -> String {
            let Record { level, target, file, line, message } = record;
            format!("{level} {target} {file}:{line} {message}")
        }

        #[test]
        fn a_record_arrives_as_it_was() {
            let bytes = encode(&record("a::b", "hello n=1"));
            assert_eq!(decode(&bytes).map(shown).as_deref(), Some("INFO a::b f.rs:7 hello n=1"));
            let empty = encode(&Record { file: String::new(), ..record("", "") });
            assert_eq!(decode(&empty).map(shown).as_deref(), Some("INFO  :7 "));
        }

        #[test]
        fn what_is_no_record_is_found_out() {
            let bytes = encode(&record("target", ""));
            for length in 0..bytes.len() {
                assert!(decode(&bytes[..length]).is_none(), "{length}");
            }
            for level in [0, 6, 255] {
                let wrong = [&[level], &bytes[1..]].concat();
                assert!(decode(&wrong).is_none(), "{level}");
            }
            let long = "x".repeat(LONGEST_NAME + 1);
            assert!(decode(&encode(&record(&long, ""))).is_none());
            let long = "x".repeat(LONGEST_MESSAGE + 1);
            assert!(decode(&encode(&record("", &long))).is_none());
            assert!(decode(&encode(&record("", &long[1..]))).is_some());
        }

        #[test]
        fn any_bytes_are_a_text() {
            let mut bytes = encode(&record("target", "message"));
            let at = bytes.len() - 7;
            bytes[at] = 0xff;
            let message = decode(&bytes).map(|record| record.message);
            assert_eq!(message.as_deref(), Some("\u{fffd}essage"));
        }

        #[test]
        fn a_long_text_is_cut_between_two_characters() {
            assert_eq!(Cut::new(5).with("aéiéu"), "aéi");
            assert_eq!(Cut::new(6).with("aéiéu"), "aéié");
            let mut cut = Cut::new(3);
            assert!(write!(cut, "{}{}{}", 1, 23, 4).is_err());
            assert_eq!(cut.text, "123");
        }
    }
}
