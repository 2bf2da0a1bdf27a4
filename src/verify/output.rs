//! What `verify` prints: cosign's own words, so that scripts read it.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{Claims, Policy, Store, Verified, VerifiedSignature};
use crate::sigstore::statement::SIGN_V1;

/// Returns cosign's JSON: an empty line, an array of what was signed, a line end.
pub fn json(verified: &Verified, reference: &str) -> String {
    let items: Vec<String> =
        verified.signatures().iter().map(|signature| item(verified, signature, reference)).collect();
    format!("\n[{}]\n", items.join(","))
}

/// Returns what was signed, one payload a line.
pub fn text(verified: &Verified, reference: &str) -> String {
    verified.signatures().iter().map(|signature| item(verified, signature, reference) + "\n").collect()
}

/// Returns the block that cosign prints on stderr, without what was not checked.
pub fn checks(verified: &Verified, policy: &Policy, reference: &str) -> String {
    let mut block = format!(
        "\nVerification for {reference} --\nThe following checks were performed on each of these signatures:\n"
    );
    if !policy.annotations.is_empty() {
        block.push_str("  - The specified annotations were verified.\n");
    }
    if policy.claims == Claims::Required {
        block.push_str("  - The cosign claims were validated\n");
    }
    block.push_str("  - The signatures were verified against the specified public key\n");
    for signature in verified.signatures() {
        let store = match signature.store {
            Store::Legacy => "legacy signature",
            Store::Bundle => "bundle",
            Store::LegacyReferrer => "legacy signature (referrer)",
        };
        let unchecked =
            if signature.unchecked_evidence { ", its log entries and timestamps were not checked" } else { "" };
        // Writing to a `String` cannot fail.
        let _written = writeln!(block, "Found: {store} in {}{unchecked}", signature.manifest);
    }
    block
}

/// A legacy payload is printed as it was signed; a bundle as cosign 3 prints it, with the reference that was asked for.
fn item(verified: &Verified, signature: &VerifiedSignature, reference: &str) -> String {
    if signature.store != Store::Bundle {
        return String::from_utf8_lossy(&signature.payload).into_owned();
    }
    let optional = signature.annotations.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
    let optional: Map<String, Value> = optional.collect();
    let item = json!({
        "critical": {
            "identity": { "docker-reference": reference },
            "image": { "docker-manifest-digest": verified.image().digest().to_string() },
            "type": SIGN_V1,
        },
        "optional": optional,
    });
    escape_html(&item.to_string())
}

/// Escapes what Go's `encoding/json` escapes beyond what JSON demands. Such characters stand in strings only.
fn escape_html(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}
