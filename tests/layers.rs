//! A file imports only from the layers below its own, or from its own folder; and `unsafe` stays
//! where it is allowed.
//!
//! What counts is code: comments, strings and the paths that macros expand to (`$crate::`) are
//! not looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Top-level files and folders of `src`, from the bottom up. Within layer 0 the files may import
/// from each other; in all other layers they may not.
const LAYERS: [&[&str]; 8] = [
    &[
        "cache_padded",
        "clock",
        "error",
        "fork",
        "instruments",
        "metrics",
        "panic",
        "shrink",
        "sync",
        "timer",
        "trace",
    ],
    &["core"],
    &["function", "future", "job", "task"],
    &["as_completed", "dump", "map", "shutdown", "wait"],
    &["executor", "room"],
    &["inline", "thread_pool"],
    &["process_pool"],
    &["guide", "lib"],
];

/// Where `unsafe` may occur, by style.md.
const UNSAFE_ALLOWED: [&str; 6] =
    ["clock.rs", "core/", "fork.rs", "function.rs", "map/segment.rs", "process_pool/sys"];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
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

/// The module at the top level that a file belongs to.
fn top_level(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first)
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

/// The first names after `crate::` in `code`: one for `crate::a::b`, several for
/// `crate::{a::b, c}`.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c == '$' || c.is_alphanumeric() || c == '_') {
            continue;
        }
        let after = code[at + "crate::".len()..].trim_start();
        match after.strip_prefix('{') {
            None => found.push(name(after)),
            Some(list) => found.extend(list_of_names(list)),
        }
    }
    found
}

fn name(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first name of each part of `a::b, c::{d, e}}...`.
fn list_of_names(list: &str) -> Vec<String> {
    let mut names = vec![name(list)];
    let mut depth = 0;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(&list[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn every_file_has_a_layer_and_every_layer_its_files() {
    let sources = sources();
    for file in sources.keys() {
        assert!(layer(top_level(file)).is_some(), "src/{file} is in no layer: put it into LAYERS");
    }
    for module in LAYERS.iter().copied().flatten() {
        let exists = sources.keys().any(|file| top_level(file) == *module);
        assert!(exists, "LAYERS names {module}, which is not there");
    }
}

#[test]
fn imports_come_from_below_or_from_the_own_folder() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let own = top_level(&file);
        let own_layer = layer(own).unwrap();
        if own == "lib" {
            continue; // the top: it may name all
        }
        for import in imports(&code) {
            let Some(its_layer) = layer(&import) else {
                wrong.push(format!("src/{file} imports crate::{import}, which has no layer"));
                continue;
            };
            let is_sibling_at_the_bottom = own_layer == 0 && its_layer == 0;
            if import != own && its_layer >= own_layer && !is_sibling_at_the_bottom {
                wrong.push(format!(
                    "src/{file} (layer {own_layer}) imports crate::{import} (layer {its_layer})"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "not from below:\n{}", wrong.join("\n"));
}

/// `super::` leads up; beyond the file's own folder it would be an import by another name.
#[test]
fn super_does_not_lead_out_of_the_own_folder() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let depth = file.matches('/').count();
        let is_mod = file.ends_with("mod.rs");
        // How often `super` may be said in a row before it is the crate: `a/b.rs` is two below.
        let below_the_crate = depth + usize::from(!is_mod);
        // Modules in a file (tests, sealed) add one.
        let inner = usize::from(code.contains("mod tests") || code.contains("mod sealed"));
        for (at, _) in code.match_indices("super::") {
            let is_first = !code[..at].ends_with("super::");
            let mut in_a_row = 0;
            let mut rest = &code[at..];
            while let Some(next) = rest.strip_prefix("super::") {
                in_a_row += 1;
                rest = next;
            }
            if is_first && in_a_row >= below_the_crate + inner {
                wrong.push(format!("src/{file}: {}", &code[at..].lines().next().unwrap_or("")));
            }
        }
    }
    assert!(wrong.is_empty(), "say `crate::` there:\n{}", wrong.join("\n"));
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

/// The checks above are only as good as what reads the code.
#[test]
fn code_is_told_from_comments_and_quotes() {
    let code = code_of(
        "use crate::a; // crate::b\n/// [`crate::c`]\nlet s = \"crate::d \\\" crate::e\"; \
         let c = '\"'; fn f<'x>(y: &'x str) -> crate::g { crate::h::i() } /* crate::j */",
    );
    assert_eq!(imports(&code), ["a", "g", "h"]);
    let code =
        code_of("use crate::{\n    a::{b, c},\n    d,\n    e::f,\n};\n$crate::x!(mycrate::y)");
    assert_eq!(imports(&code), ["a", "d", "e"]);
    assert_eq!(imports(&code_of("pub(crate) fn f() -> crate::Error {}")), ["Error"]);
}
