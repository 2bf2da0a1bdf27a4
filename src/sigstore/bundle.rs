//! Sigstore bundles ([format](https://github.com/sigstore/protobuf-specs/blob/v0.5.0/protos/sigstore_bundle.proto)):
//! v0.3 is written, v0.1 to v0.3 are read.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::dsse::{Envelope, EnvelopeJson};
use super::json;

/// The media type of a v0.3 bundle.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What the media types of all versions begin with.
pub const MEDIA_TYPE_PREFIX: &str = "application/vnd.dev.sigstore.bundle";
/// The most bytes that a bundle may have: cosign's limit for one attachment.
const MAX_BUNDLE: usize = 128 << 20;
/// The most log entries, timestamps or certificates that a bundle may have.
const MAX_ENTRIES: usize = 32;

/// A bundle that was read: its content and who it says signed it. Nothing in it is verified yet.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// What is signed.
    pub content: Content,
    /// Who it says signed it.
    pub material: Material,
    /// How many entries of transparency logs it carries.
    pub log_entries: usize,
    /// How many timestamps it carries.
    pub timestamps: usize,
}

/// What a bundle's signature is over.
#[derive(Clone, Debug)]
pub enum Content {
    /// An envelope with its payload.
    Envelope(Envelope),
    /// Something outside the bundle.
    MessageSignature {
        /// What the bundle says the digest of that is; empty if it does not say.
        digest: Vec<u8>,
        /// The signature.
        signature: Vec<u8>,
    },
}

/// Who a bundle says signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// The holder of the key with this hint, which is only a hint.
    PublicKey {
        /// base64 of the SHA-256 of the key in DER, as cosign writes it.
        hint: String,
    },
    /// The holder of this certificate, in DER.
    Certificate(Vec<u8>),
}

impl Bundle {
    /// Reads a bundle. Fails on what could be read in two ways: duplicate keys, unknown fields, two contents, two
    /// materials, two signatures, the same log entry twice.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseBundleError> {
        if bytes.len() > MAX_BUNDLE {
            return Err(ParseBundleError::TooMany { what: "bytes", count: bytes.len(), limit: MAX_BUNDLE });
        }
        json::refuse_duplicate_keys(bytes)?;
        let bundle: BundleIn = serde_json::from_slice(bytes)?;
        let known = ["+json;version=0.1", "+json;version=0.2", "+json;version=0.3", ".v0.3+json"];
        if !bundle.media_type.strip_prefix(MEDIA_TYPE_PREFIX).is_some_and(|version| known.contains(&version)) {
            return Err(ParseBundleError::MediaType { media_type: crate::http::excerpt(&bundle.media_type) });
        }
        let newest = bundle.media_type == MEDIA_TYPE || bundle.media_type.ends_with(";version=0.3");
        let content = content(bundle.dsse_envelope, bundle.message_signature)?;
        let given = bundle.verification_material;
        let material = match (given.public_key, given.certificate, given.x509_certificate_chain) {
            (Some(key), None, None) => Material::PublicKey { hint: key.hint },
            (None, Some(certificate), None) => Material::Certificate(BASE64_STANDARD.decode(certificate.raw_bytes)?),
            (None, None, Some(_)) if newest => return Err(ParseBundleError::Chain),
            (None, None, Some(chain)) => leaf(&chain)?,
            _ => return Err(ParseBundleError::Material),
        };
        let timestamps = given.timestamp_verification_data.unwrap_or_default().rfc3161_timestamps.unwrap_or_default();
        at_most(MAX_ENTRIES, "timestamps", timestamps.len())?;
        let log_entries = log_entries(&given.tlog_entries.unwrap_or_default())?;
        Ok(Self { content, material, log_entries, timestamps: timestamps.len() })
    }

    /// Returns the envelope, if the bundle has one.
    pub fn envelope(&self) -> Option<&Envelope> {
        match &self.content {
            Content::Envelope(envelope) => Some(envelope),
            Content::MessageSignature { .. } => None,
        }
    }
}

fn content(envelope: Option<EnvelopeJson>, message: Option<MessageIn>) -> Result<Content, ParseBundleError> {
    match (envelope, message) {
        (Some(envelope), None) => {
            let envelope = Envelope::try_from(envelope)?;
            match envelope.signatures.len() {
                1 => Ok(Content::Envelope(envelope)),
                count => Err(ParseBundleError::Signatures { count }),
            }
        }
        (None, Some(message)) => {
            let digest = message.message_digest.map(|digest| BASE64_STANDARD.decode(digest.digest)).transpose()?;
            let signature = BASE64_STANDARD.decode(message.signature)?;
            Ok(Content::MessageSignature { digest: digest.unwrap_or_default(), signature })
        }
        _ => Err(ParseBundleError::Content),
    }
}

fn leaf(chain: &ChainIn) -> Result<Material, ParseBundleError> {
    at_most(MAX_ENTRIES, "certificates", chain.certificates.len())?;
    let leaf = chain.certificates.first().ok_or(ParseBundleError::Material)?;
    Ok(Material::Certificate(BASE64_STANDARD.decode(&leaf.raw_bytes)?))
}

/// Counts the log entries. One that is there twice would count twice towards a threshold.
fn log_entries(entries: &[serde_json::Value]) -> Result<usize, ParseBundleError> {
    at_most(MAX_ENTRIES, "log entries", entries.len())?;
    let doubled = entries.iter().enumerate().any(|(index, entry)| entries[..index].contains(entry));
    if doubled { Err(ParseBundleError::DoubledLogEntry) } else { Ok(entries.len()) }
}

fn at_most(limit: usize, what: &'static str, count: usize) -> Result<(), ParseBundleError> {
    if count > limit { Err(ParseBundleError::TooMany { what, count, limit }) } else { Ok(()) }
}

/// Returns the v0.3 bundle of an envelope that the holder of the key with `hint` signed, without log or timestamp.
pub fn with_key(hint: &str, envelope: &Envelope) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Out<'a> {
        media_type: &'a str,
        verification_material: OutMaterial<'a>,
        dsse_envelope: EnvelopeJson,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct OutMaterial<'a> {
        public_key: OutHint<'a>,
    }
    #[derive(Serialize)]
    struct OutHint<'a> {
        hint: &'a str,
    }
    let bundle = Out {
        media_type: MEDIA_TYPE,
        verification_material: OutMaterial { public_key: OutHint { hint } },
        dsse_envelope: EnvelopeJson::from(envelope),
    };
    // Structs of text always serialise.
    serde_json::to_vec(&bundle).unwrap_or_default()
}

// An unknown field is refused throughout: protobuf's JSON has a second spelling for each field (`dsse_envelope`), and a
// reader that takes the other one would see a content that we do not.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BundleIn {
    media_type: String,
    verification_material: MaterialIn,
    #[serde(default)]
    dsse_envelope: Option<EnvelopeJson>,
    #[serde(default)]
    message_signature: Option<MessageIn>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MaterialIn {
    #[serde(default)]
    public_key: Option<HintIn>,
    #[serde(default)]
    certificate: Option<CertificateIn>,
    #[serde(default)]
    x509_certificate_chain: Option<ChainIn>,
    #[serde(default)]
    tlog_entries: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    timestamp_verification_data: Option<TimestampsIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HintIn {
    #[serde(default)]
    hint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CertificateIn {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainIn {
    certificates: Vec<CertificateIn>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TimestampsIn {
    #[serde(default)]
    rfc3161_timestamps: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MessageIn {
    #[serde(default)]
    message_digest: Option<DigestIn>,
    signature: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DigestIn {
    #[serde(default, rename = "algorithm")]
    _algorithm: serde::de::IgnoredAny,
    digest: String,
}

/// The bytes are not a bundle that we accept.
#[derive(Debug, thiserror::Error)]
pub enum ParseBundleError {
    /// Not JSON, a key named twice, or a field that is absent or of another type.
    #[error("not a Sigstore bundle")]
    Json(#[from] serde_json::Error),
    /// Not base64 where it must be.
    #[error("not a Sigstore bundle")]
    Base64(#[from] base64::DecodeError),
    /// An unknown version.
    #[error("`{media_type}` is not a bundle version that is supported")]
    MediaType {
        /// The media type that it names.
        media_type: String,
    },
    /// No content, or two.
    #[error("it must have either an envelope or a message signature")]
    Content,
    /// No material, or two.
    #[error("it must have either a public key hint or a certificate")]
    Material,
    /// A certificate chain in version 0.3, which forbids it.
    #[error("it has a certificate chain, which version 0.3 does not allow")]
    Chain,
    /// No signature, or several, of which one reader would take the first and another the last.
    #[error("its envelope has {count} signatures instead of one")]
    Signatures {
        /// How many it has.
        count: usize,
    },
    /// The same log entry twice.
    #[error("it has the same log entry twice")]
    DoubledLogEntry,
    /// More of something than any signer writes.
    #[error("{count} {what} are over the limit of {limit}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much it has.
        count: usize,
        /// How much is accepted.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../../tests/fixtures/cosign/v3_bundle_sig_bundle.json");
    const KEYLESS: &str = include_str!("../../tests/fixtures/cosign/v3_keyless_bundle.json");

    #[test]
    fn a_bundle_equals_cosigns() {
        let golden = Bundle::parse(GOLDEN.as_bytes()).unwrap();
        let Material::PublicKey { hint } = &golden.material else { panic!("not a key bundle") };

        let ours = with_key(hint, golden.envelope().unwrap());

        assert_eq!(String::from_utf8(ours).unwrap(), GOLDEN);
    }

    #[test]
    fn keyless_bundles_are_read() {
        let bundle = Bundle::parse(include_bytes!("../../tests/fixtures/cosign/v3_keyless_bundle.json")).unwrap();

        assert!(matches!(bundle.material, Material::Certificate(_)));
        assert_eq!(bundle.log_entries, 1);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let message = r#""messageSignature":{"signature":"AAAA"}"#;
        let certificate = r#""certificate":{"rawBytes":"AAAA"}"#;
        let refused = [
            GOLDEN.replacen('{', &format!("{{{message},"), 1),
            GOLDEN.replacen('{', r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","#, 1),
            GOLDEN.replacen(r#""publicKey""#, &format!(r#"{certificate},"publicKey""#), 1),
            GOLDEN.replacen("v0.3", "v0.9", 1),
            GOLDEN.replacen(r#""sig":""#, r#""sig":"!"#, 1),
            format!("{GOLDEN}x"),
            GOLDEN[..GOLDEN.len() - 1].to_owned(),
        ];

        assert!(Bundle::parse(GOLDEN.as_bytes()).is_ok());
        for text in refused {
            assert!(Bundle::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_protobuf_spells_otherwise_or_does_not_know_is_refused() {
        let envelope = &GOLDEN[GOLDEN.find(r#""dsseEnvelope""#).unwrap()..GOLDEN.len() - 1];
        let signature = &envelope[envelope.find(r#"{"sig""#).unwrap()..envelope.len() - 2];
        let respelled = envelope.replace("dsseEnvelope", "dsse_envelope");
        let refused = [
            GOLDEN.replace(envelope, &format!("{envelope},{respelled}")),
            GOLDEN.replacen('{', r#"{"unknown":1,"#, 1),
            GOLDEN.replace(r#""verificationMaterial":{"#, r#""verificationMaterial":{"unknown":[],"#),
            GOLDEN.replace(signature, ""),
            GOLDEN.replace(signature, &format!("{signature},{signature}")),
            GOLDEN.replace(r#""sig":"#, r#""cert":"x","sig":"#),
            "[".repeat(100_000),
            format!("\u{feff}{GOLDEN}"),
        ];

        for text in refused {
            assert!(text != GOLDEN && Bundle::parse(text.as_bytes()).is_err(), "{text:.300}");
        }
        assert!(Bundle::parse(GOLDEN.replace(r#""sig":"#, r#""keyid":"","sig":"#).as_bytes()).is_ok());
    }

    #[test]
    fn log_entries_are_distinct_and_few_and_chains_are_of_older_versions() {
        let start = KEYLESS.find(r#""tlogEntries":["#).unwrap() + 15;
        let entry = &KEYLESS[start..KEYLESS.find("]},\"dsse").unwrap()];
        let entries = |count: usize| {
            let distinct: Vec<_> =
                (0..count).map(|index| entry.replacen("1795226277", &index.to_string(), 1)).collect();
            KEYLESS.replace(entry, &distinct.join(","))
        };
        let chain = KEYLESS
            .replace(r#""certificate":{"rawBytes""#, r#""x509CertificateChain":{"certificates":[{"rawBytes""#)
            .replacen(r#""},"tlog"#, r#""}]},"tlog"#, 1);
        let older = chain.replace("bundle.v0.3+json", "bundle+json;version=0.1");
        let parse = |text: &str| Bundle::parse(text.as_bytes());

        assert_eq!(parse(&entries(32)).unwrap().log_entries, 32);
        assert!(matches!(parse(&entries(33)), Err(ParseBundleError::TooMany { count: 33, .. })));
        assert!(matches!(
            parse(&KEYLESS.replace(entry, &format!("{entry},{entry}"))),
            Err(ParseBundleError::DoubledLogEntry)
        ));
        assert!(matches!(parse(&chain), Err(ParseBundleError::Chain)));
        assert_eq!(parse(&older).unwrap().material, parse(KEYLESS).unwrap().material);
    }
}
