//! A file imports only from the layers below its own, or from its own folder; and `unsafe` stays
//! where it is allowed.
//!
//! What counts is code: comments, strings and the paths that macros expand to (`$crate::`) are
//! not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rooms of `src`, from the bottom up: files and folders. A file is in the room with the longest name
/// that its path begins with. Within the lowest layer the rooms may import from each other; in all other
/// layers they may not.
const LAYERS: [&[&str]; 24] = [
    &[
        "cache_padded",
        "clock",
        "error",
        "executor_state",
        "fork",
        "instruments",
        "label",
        "metrics",
        "panic",
        "portable",
        "shrink",
        "sync",
        "timer",
        "trace",
    ],
    &["sys"],
    &["reactor"],
    &["core"],
    &["stop_token"],
    &["blocking", "codec", "function", "future", "job", "next", "task", "worker_info"],
    &["closed", "ipc", "task_handle", "task_options"],
    &["task_set"],
    &["as_completed", "dump", "map", "portable_error", "shared_task", "shutdown", "wait"],
    &["room"],
    &["executor", "initializer", "lifecycle", "settings"],
    &["inline", "thread_pool"],
    &["remote"],
    &["remote/scheduler"],
    &["local"],
    &["local/parent_connection"],
    &["local/worker"],
    &["local/start"],
    &["local/worker_handle"],
    &["process", "process_pool"],
    &["process_pool/fuzzing"],
    &["any_executor"],
    &["guide", "unwind_safe"],
    &["lib"],
];

/// Where `unsafe` may occur.
const UNSAFE_ALLOWED: [&str; 12] = [
    "clock.rs",
    "core/",
    "fork.rs",
    "function/",
    "local/control_block.rs",
    "local/crash.rs",
    "local/start/helper.rs",
    "local/start/hook.rs",
    "local/start/tests.rs",
    "local/start/zygote/fork.rs",
    "map/segment.rs",
    "sys/",
];

/// The number of a room's layer, and its name.
fn layer(path: &str) -> Option<(usize, &'static str)> {
    let is_in = |room: &str| {
        path.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let rooms = LAYERS.iter().enumerate();
    let rooms = rooms.flat_map(|(number, rooms)| rooms.iter().map(move |room| (number, *room)));
    rooms.filter(|(_, room)| is_in(room)).max_by_key(|(_, room)| room.len())
}

/// The files below `src`: path relative to it, and code.
fn sources() -> BTreeMap<String, String> {
    fn visit(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    visit(&src, &mut found);
    let relative = |path: &Path| path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
    found
        .iter()
        .map(|path| (relative(path), code_of(&std::fs::read_to_string(path).unwrap())))
        .collect()
}

/// The path of a file's module: `a/b` for `a/b.rs` and `a/b/mod.rs`.
fn module(file: &str) -> &str {
    let module = file.strip_suffix(".rs").unwrap_or(file);
    module.strip_suffix("/mod").unwrap_or(module)
}

/// The text without comments and without what is in quotes.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            // Nested ones are not used here.
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r\"") || rest.starts_with("r#\"") {
            let end = if rest.starts_with("r#") { "\"#" } else { "\"" };
            let start = rest.find('"').unwrap() + 1;
            rest[start..].find(end).map_or(rest.len(), |at| start + at + end.len())
        } else if next == '"' {
            end_of_quoted(rest, '"')
        } else if next == '\'' && is_char_literal(rest) {
            end_of_quoted(rest, '\'')
        } else {
            0
        };
        if skipped > 0 {
            rest = &rest[skipped..];
            code.push(' ');
        } else {
            code.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    code
}

fn end_of_quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Tells `'a'` from the lifetime `'a`.
fn is_char_literal(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

/// The paths in `code` that begin with `crate::`, or with `super::` in the file of `module`: `a/b/C` for
/// `crate::a::b::C`, and one path for each part of a list in braces.
fn imports(code: &str, module: &str) -> Vec<String> {
    // Modules in a file have a parent more.
    let is_inner = |line: &&str| line.contains("mod ") && line.ends_with('{');
    let inner = code.lines().find(is_inner).map(|line| line.as_ptr().addr() - code.as_ptr().addr());
    let outer = inner.unwrap_or(code.len());
    let mut found = Vec::new();
    for (at, root) in code.match_indices("crate::").chain(code[..outer].match_indices("super::")) {
        let before = &code[..at];
        let is_inside_of_path = before.ends_with("::")
            || before.ends_with(|c: char| c == '$' || c.is_alphanumeric() || c == '_');
        if is_inside_of_path {
            continue;
        }
        let mut rest = &code[at + root.len()..];
        let mut base = String::new();
        if root == "super::" {
            base = parent(module);
            while let Some(next) = rest.strip_prefix("super::") {
                (base, rest) = (parent(&base), next);
            }
        }
        paths(&base, rest, &mut found);
    }
    found
}

fn parent(module: &str) -> String {
    module.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned()
}

/// Adds the paths of a tree of imports, `a::{b::C, D}`, and returns what comes after it.
fn paths<'a>(base: &str, tree: &'a str, found: &mut Vec<String>) -> &'a str {
    let mut rest = tree.trim_start();
    let mut path = base.to_owned();
    loop {
        if let Some(list) = rest.strip_prefix('{') {
            rest = list.trim_start();
            while !rest.is_empty() && !rest.starts_with('}') {
                rest = paths(&path, rest, found).trim_start();
                let is_over = !rest.starts_with(',');
                rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
                if is_over {
                    break;
                }
            }
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if !matches!(name, "" | "self") {
            let separator = if path.is_empty() { "" } else { "/" };
            path = format!("{path}{separator}{name}");
        }
        match after.strip_prefix("::") {
            Some(more) => rest = more,
            None => {
                found.push(path);
                // A new name for it.
                let renamed = after.trim_start().strip_prefix("as ");
                return renamed.map_or(after, |name| {
                    name.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
                });
            }
        }
    }
}

#[test]
fn every_file_has_a_layer_and_every_layer_its_files() {
    let sources = sources();
    for file in sources.keys() {
        assert!(layer(module(file)).is_some(), "src/{file} is in no layer: put it into LAYERS");
    }
    for room in LAYERS.iter().copied().flatten() {
        let exists = sources.keys().any(|file| layer(module(file)).is_some_and(|it| it.1 == *room));
        assert!(exists, "LAYERS names {room}, which is not there");
    }
}

#[test]
fn every_file_says_in_its_first_lines_what_it_holds() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in sources().keys() {
        let text = std::fs::read_to_string(src.join(file)).unwrap();
        assert!(text.starts_with("//"), "src/{file} begins without a word on itself");
    }
}

#[test]
fn imports_come_from_below_or_from_the_own_room() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let (own_layer, own) = layer(module(&file)).unwrap();
        if own == "lib" {
            continue; // the top: it may name all
        }
        for import in imports(&code, module(&file)) {
            // What `lib` exports, by whatever room.
            let Some((its_layer, room)) = layer(&import) else {
                let is_public = import.starts_with(char::is_uppercase) || import == "init";
                if !is_public || own_layer < layer("guide").unwrap().0 {
                    wrong.push(format!("src/{file} imports {import}, which has no layer"));
                }
                continue;
            };
            if room == own || its_layer < own_layer || (own_layer == 0 && its_layer == 0) {
                continue;
            }
            wrong.push(format!("src/{file} of {own} imports {import} of {room}"));
        }
    }
    assert!(wrong.is_empty(), "not from below:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_forbidden_or_stays_where_it_is_allowed() {
    let sources = sources();
    let lib: String = sources["lib.rs"].split_whitespace().collect();
    let is_forbidden = lib.contains("#![forbid(unsafe_code)]");
    let mut wrong = Vec::new();
    for (file, code) in &sources {
        let is_word = |word: &str| word == "unsafe";
        let uses = code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| is_word(w));
        let is_allowed =
            !is_forbidden && UNSAFE_ALLOWED.iter().any(|place| file.starts_with(place));
        if !is_allowed && uses.count() > 0 {
            wrong.push(format!("src/{file}"));
        }
    }
    assert!(wrong.is_empty(), "unsafe code in {}", wrong.join(", "));
}

#[test]
fn the_walks_through_the_crate_name_files_that_exist() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let text = std::fs::read_to_string(src.join("lib.rs")).unwrap();
    let steps = text.lines().filter_map(|line| line.strip_prefix("//   "));
    let names = steps.flat_map(|step| step.split_whitespace());
    let files: Vec<_> =
        names.map(|name| name.trim_end_matches(',')).filter(|name| name.ends_with(".rs")).collect();
    assert!(files.len() > 30, "the walks are there");
    for file in files {
        assert!(src.join(file).is_file(), "src/{file} is not there");
    }
}

/// The picture in the docs of `lib` names a file, or a folder with all that is in it.
#[test]
fn the_picture_of_the_crate_shows_each_file_once() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let text = std::fs::read_to_string(src.join("lib.rs")).unwrap();
    let picture = text.lines().skip_while(|line| *line != "//! ```text").skip(1);
    let picture = picture.take_while(|line| *line != "//! ```");
    let words = picture.flat_map(|line| line.trim_start_matches("//!").split_whitespace());
    let names: Vec<&str> = words
        .map(|word| word.trim_end_matches(','))
        .filter(|word| word.ends_with(".rs") || word.ends_with('/'))
        .collect();
    let sources = sources();
    let shows =
        |name: &str, file: &str| file == name || name.ends_with('/') && file.starts_with(name);
    for (at, name) in names.iter().enumerate() {
        assert!(sources.keys().any(|file| shows(name, file)), "src/{name} is not there");
        assert!(!names[..at].contains(name), "{name} is shown twice");
    }
    for file in sources.keys() {
        assert!(names.iter().any(|name| shows(name, file)), "the picture lacks src/{file}");
    }
}

/// The checks above are only as good as what reads the code.
#[test]
fn code_is_told_from_comments_and_quotes() {
    let code = code_of(
        "use crate::a; // crate::b\n/// [`crate::c`]\nlet s = \"crate::d \\\" crate::e\"; \
         let c = '\"'; fn f<'x>(y: &'x str) -> crate::g { crate::h::i() } /* crate::j */",
    );
    assert_eq!(imports(&code, "m"), ["a", "g", "h/i"]);
    let code = code_of(
        "use crate::{\n    a::{b, c as x, self},\n    d,\n    e::f,\n};\n$crate::x!(mycrate::y)",
    );
    assert_eq!(imports(&code, "m"), ["a/b", "a/c", "a", "d", "e/f"]);
    assert_eq!(imports(&code_of("pub(crate) fn f() -> crate::Error {}"), "m"), ["Error"]);
    let code = code_of("use super::a::B;\nuse super::super::c;\nmod tests {\nuse super::d; }");
    assert_eq!(imports(&code, "m/n/o"), ["m/n/a/B", "m/c"]);
}

/// Files that name each other, directly or through one another, and why.
const CYCLES: [(&[&str], &str); 9] = [
    (&["codec/block", "codec/decoder"], "the decoder reads a block, which is read from a decoder"),
    (
        &[
            "codec/encoder/body",
            "codec/encoder/pack",
            "codec/encoder/parts",
            "codec/encoder/serializer",
            "codec/encoder/shapes",
            "codec/segment",
        ],
        "serde's traits are recursive: a serializer makes its parts, which serialize values",
    ),
    (
        &[
            "core/cell",
            "core/listener",
            "core/outcome",
            "core/runnable",
            "core/task",
            "core/worker/context",
        ],
        "one cell: its sides hold it, and its table of functions names what each of them does",
    ),
    (
        &["ipc/channel/end", "ipc/channel/shared"],
        "an end has its channel, which knows its ends: one that arrives again is the one that is there",
    ),
    (
        &["local/start/unsupported", "local/start/zygote"],
        "one of the two stands in for parts of the other where there are no worker processes",
    ),
    (
        &["process/handle", "process/host", "process/spawn"],
        "a handle has its host end the process, of whose spawn and end the host tells by the handle",
    ),
    (&["remote/frame", "remote/message"], "a message holds frames, which its tests read again"),
    (
        &[
            "remote/scheduler/starts",
            "remote/scheduler/state",
            "remote/scheduler/transport",
            "remote/scheduler/worker",
        ],
        "the state holds a transport, which is told of changes of the state",
    ),
    (&["thread_pool/pool", "thread_pool/worker"], "a pool starts workers, which ask it for tasks"),
];

/// A `mod.rs` names its own files, and they name it: that is no cycle here.
#[test]
fn files_that_name_each_other_have_a_reason() {
    let sources = sources();
    let modules: Vec<&str> = sources.keys().map(|file| module(file)).collect();
    let of = |import: &str| {
        let is_in = |module: &&&str| {
            import
                .strip_prefix(**module)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        modules.iter().filter(is_in).max_by_key(|module| module.len()).copied()
    };
    let edges: BTreeMap<&str, BTreeSet<&str>> = sources
        .iter()
        .map(|(file, code)| {
            let own = module(file);
            let is_other = |other: &&str| {
                *other != own && parent(other) != own && !own.starts_with(&format!("{other}/"))
            };
            let named = imports(code, own);
            (own, named.iter().filter_map(|import| of(import)).filter(is_other).collect())
        })
        .collect();
    // What is reached from a file, over whatever others.
    let reach = |from: &'_ str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(file) = next.pop() {
            for other in edges.get(&*file).into_iter().flatten() {
                if seen.insert(other.to_string()) {
                    next.push(other.to_string());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<String>> =
        edges.keys().map(|file| (*file, reach(file))).collect();
    let mut cycles = BTreeSet::new();
    for (file, others) in &reached {
        if others.contains(*file) {
            let is_back = |other: &&String| reached[&***other].contains(*file);
            cycles.insert(others.iter().filter(is_back).cloned().collect::<Vec<_>>());
        }
    }
    let known = CYCLES.iter().map(|(files, _)| files.iter().map(|file| file.to_string()).collect());
    assert_eq!(cycles, known.collect());
}
