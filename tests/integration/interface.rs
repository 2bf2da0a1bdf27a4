//! One definition of every input: action.yml, the README and the GitLab template are held to the command line's.

use std::collections::BTreeSet;
use std::path::Path;

use touchmark::cli::{Input, inputs};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn names() -> BTreeSet<String> {
    inputs().into_iter().map(|input| input.name).collect()
}

/// Returns the names in the first column of the table below a heading.
fn table(text: &str, heading: &str) -> BTreeSet<String> {
    let section = text.split(heading).nth(1).unwrap_or_else(|| panic!("no heading {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|line| line.split('`').next());
    cells.map(str::to_owned).collect()
}

#[test]
fn the_action_declares_every_input_and_output() {
    let action: serde_yaml::Value = serde_yaml::from_str(&read("action.yml")).unwrap();
    let keys = |section: &str| -> BTreeSet<String> {
        action[section].as_mapping().unwrap().keys().map(|key| key.as_str().unwrap().to_owned()).collect()
    };

    assert_eq!(keys("inputs"), names());
    let outputs: BTreeSet<String> = OUTPUTS.map(str::to_owned).into();
    assert_eq!(keys("outputs"), outputs);
    for Input { name, default, .. } in inputs() {
        let declared = action["inputs"][name.as_str()]["default"].as_str().unwrap_or_default().to_owned();
        let fits = declared.is_empty() || Some(&declared) == default.as_ref() || name == "token";
        assert!(fits, "input `{name}` has default `{declared}`, not {default:?}");
    }
}

const OUTPUTS: [&str; 12] = [
    "attestation-digests",
    "bundle-paths",
    "certificate-identity",
    "certificate-issuer",
    "digest",
    "image",
    "log-indexes",
    "platforms",
    "result",
    "signature-digests",
    "tags",
    "verify-command",
];

#[test]
fn the_readme_lists_every_input_and_output() {
    let readme = read("README.md");

    assert_eq!(table(&readme, "\n## Inputs\n"), names());
    assert_eq!(table(&readme, "\n## Outputs\n"), OUTPUTS.map(str::to_owned).into());
}

#[test]
fn templates_and_examples_use_inputs_that_exist() {
    let known: BTreeSet<String> = names().iter().map(|name| name.to_ascii_uppercase().replace('-', "_")).collect();
    let files = [".gitlab-ci-template.yml", "examples/gitlab-ci.yml", "examples/docker-run.sh"];

    for file in files {
        let text = read(file);
        let used: BTreeSet<String> = text
            .split("TOUCHMARK_")
            .skip(1)
            .map(|rest| {
                rest.chars().take_while(|character| character.is_ascii_uppercase() || *character == '_').collect()
            })
            .collect();
        let strangers: Vec<_> = used.iter().filter(|name| !name.is_empty() && !known.contains(*name)).collect();
        let files_of_ours = ["DIGEST", "IMAGE", "TAGS", "VERSION"];

        assert!(strangers.iter().all(|name| files_of_ours.contains(&name.as_str())), "{file}: {strangers:?}");
    }
}

#[test]
fn every_link_of_the_help_is_an_input_or_a_command() {
    let help = touchmark::cli::command().render_long_help().to_string();

    for command in ["publish", "sign", "verify", "generate-key-pair", "public-key", "triangulate", "env", "version"] {
        assert!(help.contains(command), "{command}");
    }
}
