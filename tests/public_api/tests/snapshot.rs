//! What the crate offers is what `docs/public-api.txt` lists: with all features, without the guide,
//! and without what holds for all types. What is derived and the auto traits are listed.
//!
//! To renew the list after a change: `PUBLIC_API=overwrite cargo test -p public-api-snapshot`.

use std::path::Path;
use std::process::Command;

use public_api::Builder;

#[test]
fn the_crate_offers_what_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let Some(offered) = offered(&root, target) else { return };
    let list = root.join("docs/public-api.txt");
    if std::env::var("PUBLIC_API").is_ok_and(|value| value == "overwrite") {
        std::fs::write(&list, offered).unwrap();
        return;
    }

    let listed = std::fs::read_to_string(&list).unwrap();
    // The same line may be there several times, as for the functions of two impls.
    let only = |these: &str, those: &str, sign: char| -> Vec<_> {
        let mut those: Vec<_> = those.lines().collect();
        let is_new = |line: &&str| match those.iter().position(|other| other == line) {
            Some(at) => {
                those.swap_remove(at);
                false
            }
            None => true,
        };
        these.lines().filter(is_new).map(|line| format!("{sign} {line}")).collect()
    };
    let changes = [only(&listed, &offered, '-'), only(&offered, &listed, '+')].concat();
    assert!(
        listed == offered,
        "the public API has changed:\n{}\nif that is meant, renew docs/public-api.txt: \
         PUBLIC_API=overwrite cargo test -p public-api-snapshot",
        changes.join("\n"),
    );
}

/// What the crate offers, a line for each item; `None` where that can't be known.
fn offered(root: &Path, target: &Path) -> Option<String> {
    let nightly = |arguments: &[&str]| {
        let mut command = Command::new("rustup");
        // Else rustup might install one, which nobody has asked for.
        command.env("RUSTUP_AUTO_INSTALL", "0").current_dir(root);
        command.args(["run", "nightly", "cargo"]).args(arguments);
        command
    };
    if !nightly(&["--version"]).output().is_ok_and(|output| output.status.success()) {
        println!("not compared: there is no nightly toolchain");
        return None;
    }
    let mut rustdoc = nightly(&["rustdoc", "--locked", "--lib", "--all-features", "--quiet"]);
    rustdoc.args(["-p", "concurrent-futures", "--target-dir"]).arg(target);
    rustdoc.args(["--", "-Zunstable-options", "--output-format=json", "--cap-lints=allow"]);
    assert!(rustdoc.status().unwrap().success(), "rustdoc failed");

    let api = Builder::from_rustdoc_json(target.join("doc/concurrent_futures.json"))
        .omit_blanket_impls(true)
        .build();
    match api {
        Ok(api) => {
            let items = api.items().map(|item| format!("{item}\n"));
            // Traits that no user can name are the compiler's affair.
            let hidden = ["::guide", "marker::Freeze ", "marker::UnsafeUnpin "];
            Some(items.filter(|item| !hidden.iter().any(|it| item.contains(it))).collect())
        }
        Err(error) => {
            println!("not compared: public-api can't read what this nightly writes: {error}");
            None
        }
    }
}
