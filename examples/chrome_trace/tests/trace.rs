//! The trace that the example writes is one, and shows whose work the pool does.

use std::collections::HashMap;

use serde_json::Value;

/// The span was entered on this thread, from then until then.
struct Stay {
    name: String,
    thread: u64,
    start: f64,
    end: f64,
}

#[test]
fn the_example_writes_a_trace_that_a_viewer_understands() {
    let dir = std::env::temp_dir().join(format!("chrome_trace.{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (trace, picture) = (dir.join("trace.json"), dir.join("trace.svg"));
    chrome_trace::run(&trace, Some(&picture)).unwrap();
    let written = std::fs::read(&trace).unwrap();
    let svg = std::fs::read_to_string(&picture).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();

    let trace: Value = serde_json::from_slice(&written).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let mut threads = HashMap::new();
    let mut stays = Vec::new();
    let mut instants = HashMap::<&str, usize>::new();
    for event in events {
        assert_eq!(event["pid"], 1, "{event}");
        let (name, thread) = (event["name"].as_str().unwrap(), event["tid"].as_u64().unwrap());
        match event["ph"].as_str().unwrap() {
            "M" => {
                assert_eq!(name, "thread_name");
                let name = event["args"]["name"].as_str().unwrap();
                assert!(threads.insert(thread, name).is_none(), "{event}");
            }
            "X" => {
                let (start, duration) = (event["ts"].as_f64(), event["dur"].as_f64());
                let (start, duration) = (start.unwrap(), duration.unwrap());
                assert!(start >= 0.0 && duration >= 0.0, "{event}");
                stays.push(Stay { name: name.to_owned(), thread, start, end: start + duration });
            }
            "i" => *instants.entry(name).or_default() += 1,
            other => panic!("{other}: {event}"),
        }
    }

    // A viewer stacks what is on one thread: two stays are apart, or one is within the other.
    for (index, a) in stays.iter().enumerate() {
        assert!(threads.contains_key(&a.thread), "{}", a.name);
        for b in stays[index + 1..].iter().filter(|b| b.thread == a.thread) {
            let is_apart = a.end <= b.start || b.end <= a.start;
            let is_within =
                (a.start <= b.start && b.end <= a.end) || (b.start <= a.start && a.end <= b.end);
            assert!(is_apart || is_within, "{} and {}", a.name, b.name);
        }
    }

    let on = |name: &str, prefix: &str| {
        let there = |stay: &&Stay| threads[&stay.thread].starts_with(prefix);
        stays.iter().filter(|stay| stay.name == name).filter(there).count()
    };
    for number in 1..=3 {
        assert_eq!(on(&format!("request {number}"), "client"), 1);
    }
    for task in ["plan", "count"] {
        assert_eq!(on(task, "pool"), 3);
    }
    assert!(on("map", "pool") >= 3);
    assert_eq!((instants["started"], instants["finished"]), (6, 6));

    // The picture shows all of them, on a background.
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<rect ").count(), stays.len() + 1);
}
