//! The job summary: one page that says what was published and how anybody can check it.

use std::fmt::Write as _;

use super::ResultDocument;
use super::escaping::{markdown, shell};

/// Returns the commands that verify the image: ours first, then cosign's.
///
/// `key` is where the public key will be; annotations that only tell runs apart are left to the reader.
pub(super) fn verify_commands(document: &ResultDocument) -> Vec<String> {
    let (Some(image), Some(_)) = (&document.image, &document.signer) else { return Vec::new() };
    let mut annotations = String::new();
    for (key, value) in &document.annotations {
        // Writing to a `String` cannot fail.
        let _written = write!(annotations, " -a {}", shell(&format!("{key}={value}")));
    }
    let image = shell(image);
    vec![
        format!("touchmark verify --key cosign.pub{annotations} {image}"),
        format!("cosign verify --key cosign.pub --insecure-ignore-tlog=true{annotations} {image}"),
    ]
}

/// Returns the page.
pub(super) fn page(document: &ResultDocument) -> String {
    let mut page = String::new();
    let image = document.image.as_deref().unwrap_or_default();
    let headline = match document.tags.first() {
        Some(tag) => format!("{}:{tag}", document.repository.as_ref().map(ToString::to_string).unwrap_or_default()),
        None => image.to_owned(),
    };
    let verb = if document.verified.is_empty() { "published" } else { "published, signed and verified" };
    let _written = write!(page, "## ✅ {} {verb}\n\n", markdown(&headline));
    page.push_str("| | |\n| --- | --- |\n");
    row(&mut page, "Image", image);
    let tags: Vec<_> = document.tags.iter().map(ToString::to_string).collect();
    row(&mut page, "Tags", if tags.is_empty() { "none: the digest only".to_owned() } else { tags.join(", ") }.as_str());
    if let Some(push) = &document.push {
        let text = format!(
            "{} blobs sent ({}), {} mounted, {} there already",
            push.blobs_uploaded,
            super::size(push.bytes_uploaded),
            push.blobs_mounted,
            push.blobs_present
        );
        row(&mut page, "Push", &text);
    }
    if let Some(signer) = &document.signer {
        row(&mut page, "Signed by", &format!("{} key {}", signer.algorithm, signer.key_hint));
    }
    if !document.verified.is_empty() {
        let text = format!("{} of {} from the registry", document.verified.len(), document.verified.len());
        row(&mut page, "Verified", &text);
    }
    platforms(&mut page, document);
    annotations(&mut page, document);
    commands(&mut page, document);
    page
}

fn row(page: &mut String, name: &str, value: &str) {
    let _written = writeln!(page, "| **{name}** | <code>{}</code> |", markdown(value));
}

fn platforms(page: &mut String, document: &ResultDocument) {
    if document.platforms.is_empty() {
        return;
    }
    page.push_str("\n### Platforms\n\n| Platform | Digest |\n| --- | --- |\n");
    for (platform, digest) in &document.platforms {
        let _written = writeln!(page, "| {} | <code>{}</code> |", markdown(platform), markdown(digest));
    }
}

fn annotations(page: &mut String, document: &ResultDocument) {
    if document.annotations.is_empty() || document.signer.is_none() {
        return;
    }
    page.push_str("\n### Signed annotations\n\n| Key | Value |\n| --- | --- |\n");
    for (key, value) in &document.annotations {
        let _written = writeln!(page, "| {} | <code>{}</code> |", markdown(key), markdown(value));
    }
}

fn commands(page: &mut String, document: &ResultDocument) {
    if document.verify_commands.is_empty() {
        return;
    }
    page.push_str("\n### Verify it yourself\n\nWith the public key in `cosign.pub`:\n\n");
    for command in &document.verify_commands {
        // A fence longer than any run of backticks in what it holds cannot be closed from within.
        let _written = write!(page, "``````sh\n{}\n``````\n\n", command.replace("``````", ""));
    }
    if let Some(signer) = &document.signer {
        page.push_str("<details><summary>The public key</summary>\n\n");
        let _written = write!(page, "``````text\n{}``````\n\n</details>\n", signer.public_key);
    }
}
