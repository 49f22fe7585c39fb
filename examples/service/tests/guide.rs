//! What the guide shows of this example is in this example: each block that can't be compiled
//! there is in the file that was named before it, line by line.

use std::fs;
use std::path::Path;

#[test]
fn the_guide_shows_the_code_as_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let guide = fs::read_to_string(root.join("docs/guide/service.md")).unwrap();
    let mut file = None;
    let mut excerpts = 0;
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.split('`').find(|word| word.starts_with("examples/service/src/")) {
            file = Some(name.to_owned());
        }
        if line == "```ignore" {
            let excerpt: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            let file = file.as_ref().expect("a block comes after the name of its file");
            let source = fs::read_to_string(root.join(file)).unwrap();
            assert!(contains(&source, &excerpt), "{file} does not have {excerpt:#?}");
            excerpts += 1;
        }
    }
    assert!(excerpts > 2, "the guide has no excerpts");
}

/// Whether the lines follow each other there, however far they are indented.
fn contains(source: &str, excerpt: &[&str]) -> bool {
    let source: Vec<_> = source.lines().map(str::trim).collect();
    let excerpt: Vec<_> = excerpt.iter().map(|line| line.trim()).collect();
    source.windows(excerpt.len()).any(|lines| lines == excerpt)
}
