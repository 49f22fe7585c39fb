//! A subscriber that keeps all that it hears.
//!
//! It is that of the whole process, so each test has a root span of its own, and looks at what is
//! below that. What the subscriber does depends on the root as well.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

use concurrent_futures::ThreadPoolExecutor;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_core::span::Current;

pub(crate) type Fields = BTreeMap<&'static str, String>;

/// What happens to what is below a root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    #[default]
    Records,
    /// Spans of the crate's are not wanted.
    FiltersSpans,
    /// Every call panics.
    Panics,
    /// Every call submits a task to [`reentered`].
    Submits,
}

#[derive(Clone, Debug)]
pub(crate) struct SpanRecord {
    pub(crate) id: u64,
    pub(crate) metadata: &'static Metadata<'static>,
    pub(crate) fields: Fields,
    pub(crate) parent: Option<u64>,
    pub(crate) entered: usize,
    pub(crate) exited: usize,
    pub(crate) closed: bool,
    references: usize,
    manner: Manner,
}

#[derive(Clone, Debug)]
pub(crate) struct EventRecord {
    pub(crate) target: String,
    pub(crate) level: Level,
    pub(crate) parent: Option<u64>,
    pub(crate) message: String,
    pub(crate) fields: Fields,
    /// At that time.
    pub(crate) is_parent_closed: bool,
}

#[derive(Default)]
struct Recorder {
    next: AtomicU64,
    heard: Mutex<Heard>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    spans: HashMap<u64, SpanRecord>,
    pub(crate) events: Vec<EventRecord>,
}

thread_local! {
    static STACK: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

static RECORDER: OnceLock<&'static Recorder> = OnceLock::new();

/// The pool that a subscriber of the manner [`Manner::Submits`] uses.
pub(crate) fn reentered() -> &'static ThreadPoolExecutor {
    static POOL: OnceLock<ThreadPoolExecutor> = OnceLock::new();
    POOL.get_or_init(|| ThreadPoolExecutor::builder().max_workers(1).build().unwrap())
}

/// Runs `test` in a root span, and gives the number of that.
pub(crate) fn below_root<R>(manner: Manner, test: impl FnOnce(u64) -> R) -> R {
    let recorder = *RECORDER.get_or_init(|| {
        let recorder: &'static Recorder = Box::leak(Box::default());
        tracing::subscriber::set_global_default(Handle(recorder)).unwrap();
        recorder
    });
    let root = tracing::error_span!("root");
    let id = root.id().unwrap().into_u64();
    recorder.heard.lock().unwrap().spans.get_mut(&id).unwrap().manner = manner;
    root.in_scope(|| test(id))
}

/// What was heard below a root, by now.
pub(crate) fn heard(root: u64) -> Heard {
    let all = RECORDER.get().unwrap().heard.lock().unwrap().clone();
    let is_below = |mut id: u64| loop {
        if id == root {
            return true;
        }
        match all.spans.get(&id).and_then(|span| span.parent) {
            Some(parent) => id = parent,
            None => return false,
        }
    };
    Heard {
        spans: all.spans.iter().filter(|(id, _)| is_below(**id)).map(clone_pair).collect(),
        events: all.events.iter().filter(|e| e.parent.is_some_and(is_below)).cloned().collect(),
    }
}

/// The events without a parent, of all tests.
#[cfg(all(feature = "process", target_os = "linux"))]
pub(crate) fn of_no_span() -> Vec<EventRecord> {
    let heard = RECORDER.get().unwrap().heard.lock().unwrap();
    heard.events.iter().filter(|event| event.parent.is_none()).cloned().collect()
}

fn clone_pair((id, span): (&u64, &SpanRecord)) -> (u64, SpanRecord) {
    (*id, span.clone())
}

impl Heard {
    /// All spans of this name, oldest first.
    pub(crate) fn named(&self, name: &str) -> Vec<&SpanRecord> {
        let mut spans: Vec<_> =
            self.spans.values().filter(|span| span.metadata.name() == name).collect();
        spans.sort_by_key(|span| span.id);
        spans
    }

    pub(crate) fn spans(&self) -> impl Iterator<Item = &SpanRecord> {
        self.spans.values()
    }

    /// The one span right below another.
    pub(crate) fn child(&self, parent: u64) -> &SpanRecord {
        let mut children = self.spans.values().filter(|span| span.parent == Some(parent));
        let child = children.next().unwrap();
        assert!(children.next().is_none(), "{:#?}", self.spans);
        child
    }

    /// The one span of this name.
    pub(crate) fn the(&self, name: &str) -> &SpanRecord {
        let spans = self.named(name);
        assert_eq!(spans.len(), 1, "{spans:#?}");
        spans[0]
    }

    /// The messages of a span's events, in order.
    pub(crate) fn messages(&self, span: u64) -> Vec<&str> {
        let events = self.events.iter().filter(|event| event.parent == Some(span));
        events.map(|event| &*event.message).collect()
    }

    pub(crate) fn event(&self, message: &str) -> &EventRecord {
        let mut events = self.events.iter().filter(|event| event.message == message);
        let event = events.next().unwrap_or_else(|| panic!("{message}: {:#?}", self.events));
        assert!(events.next().is_none(), "{message} came twice: {:#?}", self.events);
        event
    }
}

struct Handle(&'static Recorder);

impl Recorder {
    /// What to do with what is below `span`.
    fn manner(&self, span: Option<u64>) -> Manner {
        let heard = self.heard.lock().unwrap();
        let mut manner = Manner::default();
        let mut next = span;
        while let Some(span) = next.and_then(|id| heard.spans.get(&id)) {
            manner = span.manner;
            next = span.parent;
        }
        manner
    }

    fn act(&self, span: Option<u64>) {
        match self.manner(span) {
            Manner::Panics => panic!("the subscriber panics"),
            Manner::Submits => reentered().submit(|| ()).detach(),
            Manner::Records | Manner::FiltersSpans => {}
        }
    }
}

fn current() -> Option<u64> {
    STACK.with_borrow(|stack| stack.last().copied())
}

impl Subscriber for Handle {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let filters = || self.0.manner(current()) == Manner::FiltersSpans;
        !(metadata.is_span() && metadata.target() == "concurrent_futures" && filters())
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let parent = match attributes.parent() {
            Some(parent) => Some(parent.into_u64()),
            None => current().filter(|_| attributes.is_contextual()),
        };
        let id = self.0.next.fetch_add(1, Relaxed) + 1;
        let mut fields = Texts::default();
        attributes.record(&mut fields);
        let span = SpanRecord {
            id,
            metadata: attributes.metadata(),
            fields: fields.0,
            parent,
            entered: 0,
            exited: 0,
            closed: false,
            references: 1,
            manner: Manner::default(),
        };
        self.0.heard.lock().unwrap().spans.insert(id, span);
        self.0.act(parent);
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let parent = match event.parent() {
            Some(parent) => Some(parent.into_u64()),
            None => current().filter(|_| event.is_contextual()),
        };
        let mut fields = Texts::default();
        event.record(&mut fields);
        let message = fields.0.remove("message").unwrap_or_default();
        {
            let mut heard = self.0.heard.lock().unwrap();
            let is_parent_closed =
                parent.and_then(|id| heard.spans.get(&id)).is_some_and(|s| s.closed);
            heard.events.push(EventRecord {
                target: event.metadata().target().to_owned(),
                level: *event.metadata().level(),
                parent,
                message,
                fields: fields.0,
                is_parent_closed,
            });
        }
        self.0.act(parent);
    }

    fn enter(&self, span: &Id) {
        STACK.with_borrow_mut(|stack| stack.push(span.into_u64()));
        self.change(span, |span| span.entered += 1);
    }

    fn exit(&self, span: &Id) {
        STACK.with_borrow_mut(|stack| {
            let at = stack.iter().rposition(|id| *id == span.into_u64());
            stack.remove(at.expect("it was entered on this thread"));
        });
        self.change(span, |span| span.exited += 1);
    }

    fn clone_span(&self, span: &Id) -> Id {
        let mut heard = self.0.heard.lock().unwrap();
        heard.spans.get_mut(&span.into_u64()).unwrap().references += 1;
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut closed = false;
        self.change(&span, |span| {
            span.references -= 1;
            closed = span.references == 0;
            span.closed = closed;
        });
        closed
    }

    fn current_span(&self) -> Current {
        let Some(id) = current() else { return Current::none() };
        let metadata = self.0.heard.lock().unwrap().spans[&id].metadata;
        Current::new(Id::from_u64(id), metadata)
    }
}

impl Handle {
    fn change(&self, span: &Id, change: impl FnOnce(&mut SpanRecord)) {
        let id = span.into_u64();
        let mut heard = self.0.heard.lock().unwrap();
        let span = heard.spans.get_mut(&id).unwrap();
        change(span);
        // A root is what the test itself has.
        let parent = span.parent;
        drop(heard);
        if parent.is_some() {
            self.0.act(parent);
        }
    }
}

#[derive(Default)]
struct Texts(Fields);

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}
