//! Who may use whom: a room uses earlier rooms only.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, bottom up. A room may use the rooms of earlier layers.
const LAYERS: [&[&str]; 12] = [
    &["secret"],
    &["oci"],
    &["ci", "http"],
    &["source"],
    &["registry", "sigstore"],
    &["sign", "attachment"],
    &["verify"],
    &["cli"],
    &["plan"],
    &["error"],
    &["report"],
    &["commands"],
];
/// Rooms that share nothing although their layers would let them.
const STRANGERS: [(&str, &str); 2] = [("verify", "sign"), ("verify", "attachment")];
const MOST_LINES: usize = 600;

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

/// Returns the rooms that a text names after `crate::`, grouped imports included.
fn rooms_used(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let group = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
        let names = group.map_or_else(|| vec![rest], |group| group.split(',').collect());
        for name in names {
            let name: String = name
                .trim()
                .chars()
                .take_while(|character| character.is_ascii_lowercase() || *character == '_')
                .collect();
            rooms.push(name);
        }
    }
    rooms
}

/// Returns what a file of `room` does that it may not.
fn violations(room: &str, text: &str) -> Vec<String> {
    let own = layer(room).unwrap_or_else(|| panic!("`{room}` is in no layer"));
    let mut found = Vec::new();
    for used in rooms_used(text).into_iter().filter(|used| used != room) {
        let stranger = STRANGERS.contains(&(room, used.as_str()));
        if layer(&used).is_some_and(|layer| layer >= own) || stranger {
            found.push(format!("`{room}` uses `{used}`"));
        }
    }
    let outside_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    if outside_tests.contains("super::super::super::") {
        found.push(format!("`{room}` climbs out of itself"));
    }
    let foreign = ["sigstore_types::", "sigstore_verify::", "sigstore_rekor::", "sigstore_trust_root::"];
    if room != "sigstore" && foreign.iter().any(|name| text.contains(name)) {
        found.push(format!("`{room}` uses a type of the Sigstore crates"));
    }
    found
}

fn sources() -> Vec<(String, PathBuf)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let first = path.strip_prefix(&src).unwrap().components().next().unwrap();
                let room = first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
                found.push((room, path));
            }
        }
    }
    found
}

#[test]
fn a_room_uses_earlier_rooms_only() {
    let rooms = sources().into_iter().filter(|(room, _)| !matches!(room.as_str(), "lib" | "main"));
    let found: Vec<String> = rooms
        .flat_map(|(room, path)| {
            let text = fs::read_to_string(&path).unwrap();
            violations(&room, &text).into_iter().map(move |what| format!("{}: {what}", path.display()))
        })
        .collect();

    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_violation_is_found() {
    assert_eq!(violations("sign", "use crate::plan::Plan;"), ["`sign` uses `plan`"]);
    assert_eq!(violations("oci", "use crate::{ci::Environment, secret::Secret};"), ["`oci` uses `ci`"]);
    assert_eq!(violations("verify", "crate::sign::KeySigner"), ["`verify` uses `sign`"]);
    assert_eq!(violations("plan", "use sigstore_types::Bundle;"), ["`plan` uses a type of the Sigstore crates"]);
    assert_eq!(violations("commands", "use crate::report::Report; use crate::oci;"), Vec::<String>::new());
}

#[test]
fn one_file_reads_the_environment() {
    for (_, path) in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let reads = ["env::var", "env::vars", "env::current_dir"].iter().any(|call| text.contains(call));

        assert!(!reads || path.ends_with("ci/environment.rs"), "{} reads the environment", path.display());
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    for (_, path) in sources() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();

        assert!(lines <= MOST_LINES, "{} has {lines} lines", path.display());
    }
}
