//! The guide keeps its word: what it names is there, and it lists all of its pages. That its code
//! works is shown by the documentation tests. The list of behaviours and the tests agree.

use std::collections::{BTreeMap, BTreeSet};
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

/// Whether there is a test of that name.
fn has_test(code: &str, name: &str) -> bool {
    tests(code).iter().any(|(test, _)| test == name)
}

/// The functions with an attribute that makes them tests, each with its comment on one line.
fn tests(code: &str) -> Vec<(String, String)> {
    let lines: Vec<_> = code.lines().map(str::trim).collect();
    let mut tests = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let line = line.strip_prefix("async ").unwrap_or(line);
        let head = line.strip_prefix("fn ").and_then(|line| line.split_once('('));
        let Some((name, _)) = head else { continue };
        let above = lines[..at].iter().rev();
        let attributes: Vec<_> = above.clone().take_while(|line| line.starts_with("#[")).collect();
        let makes_a_test =
            |line: &&&str| line.starts_with("#[test") || line.starts_with("#[tokio::test");
        if attributes.iter().any(makes_a_test) {
            let comment = above.skip(attributes.len()).map_while(|line| line.strip_prefix("///"));
            let comment: Vec<_> = comment.collect();
            tests.push((name.to_owned(), comment.into_iter().rev().collect()));
        }
    }
    tests
}

/// Whether it is the id of a behaviour, such as `EX-1`.
fn is_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(group, number)| {
        group.len() == 2
            && group.chars().all(|c| c.is_ascii_uppercase())
            && number.parse::<u8>().is_ok()
    })
}

/// The ids that the comment of a test begins with: `EX-1, EX-2. And more.`
fn covered(comment: &str) -> Vec<&str> {
    let (head, _) = comment.split_once('.').unwrap_or_default();
    let ids: Vec<_> = head.split(',').map(str::trim).collect();
    if ids.iter().all(|id| is_id(id)) { ids } else { Vec::new() }
}

/// The items of the list of behaviours, by their ids.
fn behaviours(page: &str) -> BTreeMap<&str, &str> {
    let items = page.split("\n* ").filter_map(|item| item.split_once(' '));
    items.filter(|(id, _)| is_id(id)).collect()
}

/// The sources below a directory of the repository, by their paths in it.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(directory)).unwrap();
    let paths = entries.map(|entry| directory.join(entry.unwrap().file_name()));
    paths
        .flat_map(|path| match path.extension() {
            Some(extension) if extension == "rs" => vec![path],
            None if !path.ends_with("target") && root().join(&path).is_dir() => sources(&path),
            _ => Vec::new(),
        })
        .collect()
}

/// An item of the list that names no test says why there is none.
#[test]
fn behaviours_and_tests_name_each_other() {
    let page = read("docs/behaviours.md");
    let behaviours = behaviours(&page);
    let mut covering = BTreeMap::<String, BTreeSet<String>>::new();
    for path in sources(Path::new("tests")) {
        let (code, file) = (read(&path), path.display());
        let comments = code.lines().filter(|line| line.trim_start().starts_with("//"));
        let words =
            comments.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '-'));
        for id in words.filter(|word| is_id(word)) {
            assert!(behaviours.contains_key(id), "{file} names {id}, which is not on the page");
        }
        for (test, comment) in tests(&code) {
            for id in covered(&comment) {
                covering.entry(id.to_owned()).or_default().insert(format!("{file}::{test}"));
            }
        }
    }
    assert!(behaviours.len() >= 100, "{behaviours:?}");
    for (id, text) in behaviours {
        let named: BTreeSet<_> = between(text, "`tests/", "`")
            .filter(|named| named.contains("::"))
            .map(|named| format!("tests/{named}"))
            .collect();
        let covering = covering.remove(id).unwrap_or_default();
        assert_eq!(named, covering, "{id}: what the page names, and the tests that name {id}");
        let applies = !text.starts_with("Does not apply: ");
        assert_eq!(applies, !named.is_empty(), "{id}: {text}");
    }
}

/// Whatever the README and the guide show or link to in the repository is there.
#[test]
fn links_into_the_repository_lead_somewhere() {
    let guide = pages().into_iter().map(|page| PathBuf::from(format!("docs/guide/{page}.md")));
    for file in
        guide.chain(["README.md", "docs/behaviours.md", "docs/benchmarks.md"].map(PathBuf::from))
    {
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
