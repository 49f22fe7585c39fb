//! Who computes what for whom, on which thread: a trace for the viewer of Chrome, and a picture.
//!
//! ```text
//! cargo run --release -p chrome-trace -- [TRACE.json [PICTURE.svg]]
//! ```
//!
//! Three clients ask for an image at the same time, each in a span of its own. The pool's threads
//! know whose work they do: the span that is current at a submission is the job's parent. Without
//! arguments the trace is `chrome_trace.json` in the directory for temporary files. Open it at
//! <https://ui.perfetto.dev>, or in `chrome://tracing`.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use std::{fs, thread};

use concurrent_futures::{Error as TaskError, ThreadPoolExecutor};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, info_span};

/// The code of the guide's page on tracing, which is compiled and run with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/tracing.md")]
pub mod guide {}

/// Traces the work, and writes the trace, and the picture if there is a path for one.
pub fn run(trace: &Path, picture: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let chrome = Chrome::default();
    tracing::subscriber::set_global_default(chrome.clone())?;
    let pool = ThreadPoolExecutor::builder().max_workers(2).name("pool").build()?;
    let clients: Vec<_> = (1..=3)
        .map(|number| {
            let pool = pool.clone();
            thread::Builder::new()
                .name(format!("client {number}"))
                .spawn(move || info_span!("request", number).in_scope(|| mandelbrot(&pool, number)))
        })
        .collect::<Result<_, _>>()?;
    for client in clients {
        let inside = client.join().map_err(|_| "a client panicked")??;
        println!("{inside} points are in the set");
    }
    let records = chrome.records();
    fs::write(trace, to_json(&records).to_string())?;
    if let Some(picture) = picture {
        fs::write(picture, to_svg(&records))?;
    }
    Ok(())
}

// ---- The work ----

const SIZE: u32 = 120;

/// Plans an image, computes its rows, and counts the points that are in the set.
fn mandelbrot(pool: &ThreadPoolExecutor, zoom: u32) -> Result<usize, TaskError> {
    let plan = move || {
        let center = spin((-0.5, 0.0), 400_000);
        (0..SIZE).map(|y| (y, center, f64::from(zoom))).collect::<Vec<_>>()
    };
    let rows = pool.task().label("plan").submit(plan).result()?;
    let rows = pool.map(row, rows).result()?;
    let count = move || rows.iter().flatten().filter(|rounds| **rounds == LIMIT).count();
    pool.task().label("count").submit(count).result()
}

const LIMIT: u32 = 400;

fn row((y, center, zoom): (u32, (f64, f64), f64)) -> Vec<u32> {
    let at = |pixel: u32| (f64::from(pixel) / f64::from(SIZE) - 0.5) * 3.0 / zoom;
    let rounds = |x: u32| {
        let (cx, cy) = (center.0 + at(x), center.1 + at(y));
        let (mut x, mut y) = (0.0, 0.0);
        (0..LIMIT).find(|_| {
            (x, y) = (x * x - y * y + cx, 2.0 * x * y + cy);
            x * x + y * y > 4.0
        })
    };
    (0..SIZE).map(|x| rounds(x).unwrap_or(LIMIT)).collect()
}

/// Takes some time, and gives back what it was given.
fn spin<T>(value: T, rounds: u32) -> T {
    (0..rounds).for_each(|round| {
        std::hint::black_box(f64::from(round).sqrt());
    });
    value
}

// ---- The subscriber ----

/// Keeps when each span was entered and left, and on which thread.
#[derive(Clone, Default)]
struct Chrome(Arc<State>);

struct State {
    start: Instant,
    threads: AtomicUsize,
    /// By their numbers, which begin with 1.
    spans: Mutex<Vec<Span>>,
    records: Mutex<Vec<Entry>>,
}

#[derive(Clone)]
struct Span {
    name: &'static str,
    fields: Fields,
    /// The outermost span around it: the request.
    root: usize,
}

/// What is in the trace.
#[derive(Clone)]
enum Entry {
    Thread {
        name: String,
        number: usize,
    },
    /// A span was entered, for so long.
    Stay {
        span: Span,
        thread: usize,
        at: f64,
        duration: f64,
    },
    Event {
        fields: Fields,
        thread: usize,
        at: f64,
    },
}

thread_local! {
    /// The number of this thread; 0 if it has none yet.
    static THREAD: Cell<usize> = const { Cell::new(0) };
    /// The spans that it is in, and since when.
    static ENTERED: RefCell<Vec<(usize, f64)>> = const { RefCell::new(Vec::new()) };
}

impl Default for State {
    fn default() -> Self {
        let (threads, spans, records) = Default::default();
        Self { start: Instant::now(), threads, spans, records }
    }
}

impl Chrome {
    fn records(&self) -> Vec<Entry> {
        self.0.records.lock().unwrap().clone()
    }

    /// In microseconds, as the viewer has it.
    fn now(&self) -> f64 {
        self.0.start.elapsed().as_secs_f64() * 1e6
    }

    fn add(&self, entry: Entry) {
        self.0.records.lock().unwrap().push(entry);
    }

    fn thread(&self) -> usize {
        if THREAD.get() == 0 {
            let number = self.0.threads.fetch_add(1, Relaxed) + 1;
            THREAD.set(number);
            let name = thread::current().name().unwrap_or("unnamed").to_owned();
            self.add(Entry::Thread { name, number });
        }
        THREAD.get()
    }
}

impl Subscriber for Chrome {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::DEBUG
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let current = || ENTERED.with_borrow(|entered| entered.last().map(|(span, _)| *span));
        let parent = match attributes.parent() {
            Some(parent) => Some(parent.into_u64() as usize),
            None if attributes.is_contextual() => current(),
            None => None,
        };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let mut spans = self.0.spans.lock().unwrap();
        let number = spans.len() + 1;
        let root = parent.map_or(number, |parent| spans[parent - 1].root);
        spans.push(Span { name: attributes.metadata().name(), fields, root });
        Id::from_u64(number as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut spans = self.0.spans.lock().unwrap();
        values.record(&mut spans[span.into_u64() as usize - 1].fields);
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.add(Entry::Event { fields, thread: self.thread(), at: self.now() });
    }

    fn enter(&self, span: &Id) {
        let entered = (span.into_u64() as usize, self.now());
        ENTERED.with_borrow_mut(|spans| spans.push(entered));
    }

    fn exit(&self, _span: &Id) {
        // The spans of a thread are left in turn, as this program makes no others.
        let left = ENTERED.with_borrow_mut(Vec::pop);
        let Some((number, at)) = left else { return };
        let span = self.0.spans.lock().unwrap()[number - 1].clone();
        let duration = self.now() - at;
        self.add(Entry::Stay { span, thread: self.thread(), at, duration });
    }
}

#[derive(Clone, Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }
}

// ---- The trace, and the picture of it ----

/// In Chrome's format for trace events: a stay is a complete event (`X`), an event an instant (`i`).
fn to_json(entries: &[Entry]) -> Value {
    let event = |entry: &Entry| match entry {
        Entry::Thread { name, number } => json!({
            "ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": { "name": name },
        }),
        Entry::Stay { span, thread, at, duration, .. } => json!({
            "ph": "X", "name": label(span), "cat": span.name, "pid": 1, "tid": thread,
            "ts": at, "dur": duration, "args": span.fields.0,
        }),
        Entry::Event { fields, thread, at } => json!({
            "ph": "i", "s": "t", "name": fields.0.get("message"), "cat": "event", "pid": 1,
            "tid": thread, "ts": at, "args": fields.0,
        }),
    };
    json!({ "traceEvents": entries.iter().map(event).collect::<Vec<_>>() })
}

/// What a person calls the span.
fn label(span: &Span) -> String {
    match (span.fields.0.get("label"), span.fields.0.get("number")) {
        (Some(Value::String(label)), _) => label.clone(),
        (_, Some(number)) => format!("{} {number}", span.name),
        _ => span.name.to_owned(),
    }
}

/// A line for each thread; what belongs to one request has one colour.
fn to_svg(entries: &[Entry]) -> String {
    const COLOURS: [&str; 3] = ["#4e79a7", "#e6a23c", "#59a14f"];
    const LEFT: f64 = 80.0;
    const WIDTH: f64 = 900.0;
    const ROW: f64 = 34.0;
    const TOP: f64 = 20.0;
    let mut threads: Vec<(&str, usize)> = Vec::new();
    let (mut end, mut roots) = (1.0_f64, Vec::new());
    for entry in entries {
        match entry {
            Entry::Thread { name, number } => threads.push((name, *number)),
            Entry::Stay { span, at, duration, .. } => {
                end = end.max(at + duration);
                roots.push(span.root);
            }
            Entry::Event { .. } => {}
        }
    }
    threads.sort_unstable();
    roots.sort_unstable();
    roots.dedup();
    let x = |time: f64| LEFT + time / end * (WIDTH - LEFT - 10.0);
    let height = TOP + ROW * threads.len() as f64 + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    // Writing to a text does not fail.
    for (row, (name, _)) in threads.iter().enumerate() {
        let y = TOP + ROW * row as f64 + 17.0;
        let _ = writeln!(svg, "<text x=\"8\" y=\"{y}\">{name}</text>");
    }
    for entry in entries {
        let Entry::Stay { span, thread, at, duration, .. } = entry else { continue };
        let row = threads.iter().position(|(_, number)| number == thread).unwrap_or_default();
        let request = roots.iter().position(|root| *root == span.root).unwrap_or_default();
        let colour = COLOURS[request % COLOURS.len()];
        let (left, width) = (x(*at), (x(at + duration) - x(*at)).max(0.5));
        let top = TOP + ROW * row as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"26\" \
             fill=\"{colour}\" stroke=\"white\" stroke-width=\"0.5\"/>"
        );
        let label = label(span);
        if width > 8.0 * label.len() as f64 + 8.0 {
            let (x, y) = (left + 4.0, top + 17.0);
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" fill=\"white\">{label}</text>");
        }
    }
    let base = height - 10.0;
    for part in 0..=4 {
        let time = end * f64::from(part) / 4.0;
        let anchor = ["start", "middle", "middle", "middle", "end"][part as usize];
        let (x, millis) = (x(time), time / 1e3);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.0}\" y=\"{base}\" text-anchor=\"{anchor}\" fill=\"gray\">{millis:.1} ms</text>"
        );
    }
    svg + "</svg>\n"
}
