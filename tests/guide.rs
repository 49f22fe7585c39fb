//! The guide keeps its word: what it names is there, and it lists all of its pages. That its code
//! works is shown by the documentation tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the pages, by the files there are.
fn pages() -> BTreeSet<String> {
    let files = fs::read_dir(root().join("docs/guide")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let pages = names.filter_map(|name| name.strip_suffix(".md").map(str::to_owned));
    pages.filter(|page| !["README", "links"].contains(&page.as_str())).collect()
}

/// What stands between each `before` and the next `after`, on one line.
fn between<'a>(text: &'a str, before: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
    let parts = text.lines().flat_map(move |line| line.split(before).skip(1));
    parts.filter_map(move |part| part.split_once(after)).map(|(inner, _)| inner)
}

/// The text without blocks of code, in which brackets mean something else.
fn prose(text: &str) -> String {
    let parts = text.split("\n```").step_by(2);
    parts.collect::<Vec<_>>().join("\n")
}

/// A line such as `[name]: target`.
fn definitions(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix('['));
    lines.filter_map(|line| line.split_once("]: ")).filter(|(name, _)| !name.contains(']'))
}

#[test]
fn every_page_is_in_every_list() {
    let pages = pages();
    assert!(pages.len() >= 10, "{pages:?}");

    let (_, list) = read("src/guide.rs").split_once("\npages! {").map(own).unwrap();
    let words = list.split_whitespace().filter(|word| pages.contains(*word));
    assert_eq!(words.map(str::to_owned).collect::<BTreeSet<_>>(), pages, "in src/guide.rs");

    for (file, target) in [("links.md", "crate::guide::{}"), ("README.md", "{}.md")] {
        let text = read(Path::new("docs/guide").join(file));
        let defined: BTreeSet<_> =
            definitions(&text).map(|(name, to)| (name.to_owned(), to.to_owned())).collect();
        let expected: BTreeSet<_> =
            pages.iter().map(|page| (page.clone(), target.replace("{}", page))).collect();
        assert_eq!(defined, expected, "in docs/guide/{file}");
    }
}

fn own((head, tail): (&str, &str)) -> (String, String) {
    (head.to_owned(), tail.to_owned())
}

/// In `cargo doc` all names are known; a page that is read as a file needs them too.
#[test]
fn every_page_defines_the_names_that_it_links_to() {
    for page in pages().iter().map(String::as_str).chain(["README"]) {
        let text = read(format!("docs/guide/{page}.md"));
        let used: BTreeSet<_> = prose(&text)
            .split("][")
            .skip(1)
            .filter_map(|rest| rest.split_once(']'))
            .map(|(name, _)| name.to_owned())
            .collect();
        let defined: BTreeSet<_> = definitions(&text).map(|(name, _)| name.to_owned()).collect();
        assert_eq!(used, defined, "the links of {page}.md, and what it defines at its end");
        for (name, target) in definitions(&text) {
            assert!(
                root().join("docs/guide").join(target).is_file(),
                "{page}.md: {name}: {target}"
            );
        }
    }
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let mut count = 0;
    for page in pages() {
        let text = read(format!("docs/guide/{page}.md"));
        for named in between(&text, "`tests/", "`") {
            let Some((file, test)) = named.split_once("::") else { continue };
            let code = read(Path::new("tests").join(file));
            assert!(has_test(&code, test), "{page}.md names `tests/{named}`, which is not there");
            count += 1;
        }
    }
    assert!(count >= 60, "failures.md names more tests than {count}");
}

/// Whether there is a function of that name with an attribute that makes it a test.
fn has_test(code: &str, name: &str) -> bool {
    let lines: Vec<_> = code.lines().map(str::trim).collect();
    let is_its_head = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")
            .and_then(|line| line.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    };
    let Some(at) = lines.iter().position(|line| is_its_head(line)) else { return false };
    let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
    attributes
        .into_iter()
        .any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test"))
}

/// Whatever the README and the guide show or link to in the repository is there.
#[test]
fn links_into_the_repository_lead_somewhere() {
    let guide = pages().into_iter().map(|page| PathBuf::from(format!("docs/guide/{page}.md")));
    for file in guide.chain(["README.md".into()]) {
        let text = prose(&read(&file));
        for target in between(&text, "](", ")").filter(|target| !target.contains("://")) {
            let path = root().join(file.parent().unwrap()).join(target);
            assert!(path.exists(), "{}: {target}", file.display());
        }
        for example in between(&text, "`examples/", "`") {
            assert!(
                root().join("examples").join(example).exists(),
                "{}: {example}",
                file.display()
            );
        }
    }
}
