//! The simple signing payload: what a legacy signature is over, byte for byte as cosign writes it.
//!
//! [Format](https://github.com/containers/image/blob/main/docs/containers-signature.5.md#json-data-format)

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::json;
use crate::oci::{Digest, PinnedReference};

/// The payload's media type as a layer of the `.sig` manifest.
pub const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// What a simple signing payload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimpleSigning {
    /// The repository, which verification ignores, as cosign does.
    pub reference: String,
    /// The digest of the signed manifest.
    pub digest: Digest,
    /// Signed annotations. Values that are not strings are left out.
    pub annotations: BTreeMap<String, String>,
}

impl SimpleSigning {
    /// Returns the payload for `image` with `annotations`.
    pub fn new(image: &PinnedReference, annotations: &BTreeMap<String, String>) -> Self {
        Self {
            reference: image.repository().to_string(),
            digest: image.digest().clone(),
            annotations: annotations.clone(),
        }
    }

    /// Returns the bytes that are signed: cosign's key order, no white space, Go's HTML escapes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut optional = String::from("null");
        if !self.annotations.is_empty() {
            let pairs: Vec<_> = self
                .annotations
                .iter()
                .map(|(key, value)| format!("{}:{}", go_string(key), go_string(value)))
                .collect();
            optional = format!("{{{}}}", pairs.join(","));
        }
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":{}}},"image":{{"docker-manifest-digest":{}}},"type":"cosign container image signature"}},"optional":{optional}}}"#,
            go_string(&self.reference),
            go_string(&self.digest.to_string()),
        )
        .into_bytes()
    }

    /// Reads a payload. Fails on duplicate keys, and where the digest is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Payload {
            critical: Critical,
            #[serde(default)]
            optional: Option<BTreeMap<String, serde_json::Value>>,
        }
        #[derive(Deserialize)]
        struct Critical {
            #[serde(default)]
            identity: Identity,
            image: Image,
        }
        #[derive(Deserialize, Default)]
        struct Identity {
            #[serde(rename = "docker-reference", default)]
            reference: String,
        }
        #[derive(Deserialize)]
        struct Image {
            #[serde(rename = "docker-manifest-digest")]
            digest: Digest,
        }
        json::refuse_duplicate_keys(bytes)?;
        let payload: Payload = serde_json::from_slice(bytes)?;
        let annotations = payload.optional.unwrap_or_default().into_iter().filter_map(|(key, value)| match value {
            serde_json::Value::String(text) => Some((key, text)),
            _ => None,
        });
        Ok(Self {
            reference: payload.critical.identity.reference,
            digest: payload.critical.image.digest,
            annotations: annotations.collect(),
        })
    }
}

/// Encodes a string as Go's `encoding/json` does.
fn go_string(text: &str) -> String {
    let mut encoded = String::from('"');
    for character in text.chars() {
        match character {
            '"' => encoded.push_str("\\\""),
            '\\' => encoded.push_str("\\\\"),
            '\n' => encoded.push_str("\\n"),
            '\r' => encoded.push_str("\\r"),
            '\t' => encoded.push_str("\\t"),
            '\u{8}' => encoded.push_str("\\b"),
            '\u{c}' => encoded.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{0}'..='\u{1f}' => {
                // Writing to a `String` cannot fail.
                let _written = write!(encoded, "\\u{:04x}", u32::from(character));
            }
            _ => encoded.push(character),
        }
    }
    encoded.push('"');
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{DefaultRegistry, Reference};

    fn image(text: &str) -> PinnedReference {
        Reference::parse(text, DefaultRegistry::None).unwrap().pinned().unwrap()
    }

    fn golden(payload: &[u8]) -> SimpleSigning {
        SimpleSigning::parse(payload).unwrap()
    }

    #[test]
    fn payloads_equal_cosigns_byte_for_byte() {
        let files: [&[u8]; 4] = [
            include_bytes!("../../tests/fixtures/cosign/v2_sig_payload.json"),
            include_bytes!("../../tests/fixtures/cosign/generate_payload_v3.json"),
            include_bytes!("../../tests/fixtures/cosign/v2_sig_annot_payload.json"),
            include_bytes!("../../tests/fixtures/cosign/v3_sig_annot_payload.json"),
        ];

        for file in files {
            assert_eq!(String::from_utf8(golden(file).to_bytes()), String::from_utf8(file.to_vec()));
        }
    }

    #[test]
    fn html_is_escaped_as_go_escapes_it() {
        assert_eq!(go_string("<a>&é\u{2028}\u{1}\"\\"), r#""\u003ca\u003e\u0026é\u2028\u0001\"\\""#);
    }

    #[test]
    fn no_annotations_are_null() {
        let digest = Digest::of(b"{}");
        let payload = SimpleSigning::new(&image(&format!("ghcr.io/acme/app@{digest}")), &BTreeMap::new());

        assert!(payload.to_bytes().ends_with(br#""optional":null}"#));
        assert_eq!(SimpleSigning::parse(&payload.to_bytes()).unwrap(), payload);
    }

    #[test]
    fn a_payload_with_two_meanings_is_refused() {
        let one = format!(r#"{{"critical":{{"image":{{"docker-manifest-digest":"{}"}}}}}}"#, Digest::of(b"1"));
        let two = one.replace(
            r#""docker-manifest-digest""#,
            &format!(r#""docker-manifest-digest":"{}","docker-manifest-digest""#, Digest::of(b"2")),
        );

        assert!(SimpleSigning::parse(one.as_bytes()).is_ok());
        assert!(SimpleSigning::parse(two.as_bytes()).is_err());
    }
}
