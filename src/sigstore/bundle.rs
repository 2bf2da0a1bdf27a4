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
    /// Reads a bundle. Fails on what could be read in two ways: duplicate keys, two contents, two materials.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseBundleError> {
        json::refuse_duplicate_keys(bytes)?;
        let bundle: BundleIn = serde_json::from_slice(bytes)?;
        let known = ["+json;version=0.1", "+json;version=0.2", "+json;version=0.3", ".v0.3+json"];
        if !bundle.media_type.strip_prefix(MEDIA_TYPE_PREFIX).is_some_and(|version| known.contains(&version)) {
            return Err(ParseBundleError::MediaType { media_type: crate::http::excerpt(&bundle.media_type) });
        }
        let content = match (bundle.dsse_envelope, bundle.message_signature) {
            (Some(envelope), None) => Content::Envelope(Envelope::try_from(envelope)?),
            (None, Some(message)) => {
                Content::MessageSignature { signature: BASE64_STANDARD.decode(message.signature)? }
            }
            _ => return Err(ParseBundleError::Content),
        };
        let given = bundle.verification_material;
        let material = match (given.public_key, given.certificate, given.x509_certificate_chain) {
            (Some(key), None, None) => Material::PublicKey { hint: key.hint },
            (None, Some(certificate), None) => Material::Certificate(BASE64_STANDARD.decode(certificate.raw_bytes)?),
            (None, None, Some(chain)) => match chain.certificates.first() {
                Some(leaf) => Material::Certificate(BASE64_STANDARD.decode(&leaf.raw_bytes)?),
                None => return Err(ParseBundleError::Material),
            },
            _ => return Err(ParseBundleError::Material),
        };
        let timestamps = given.timestamp_verification_data.unwrap_or_default().rfc3161_timestamps.len();
        Ok(Self { content, material, log_entries: given.tlog_entries.len(), timestamps })
    }

    /// Returns the envelope, if the bundle has one.
    pub fn envelope(&self) -> Option<&Envelope> {
        match &self.content {
            Content::Envelope(envelope) => Some(envelope),
            Content::MessageSignature { .. } => None,
        }
    }
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BundleIn {
    media_type: String,
    verification_material: MaterialIn,
    #[serde(default)]
    dsse_envelope: Option<EnvelopeJson>,
    #[serde(default)]
    message_signature: Option<MessageIn>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MaterialIn {
    #[serde(default)]
    public_key: Option<HintIn>,
    #[serde(default)]
    certificate: Option<CertificateIn>,
    #[serde(default)]
    x509_certificate_chain: Option<ChainIn>,
    #[serde(default)]
    tlog_entries: Vec<serde::de::IgnoredAny>,
    #[serde(default)]
    timestamp_verification_data: Option<TimestampsIn>,
}

#[derive(Deserialize)]
struct HintIn {
    #[serde(default)]
    hint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateIn {
    raw_bytes: String,
}

#[derive(Deserialize)]
struct ChainIn {
    certificates: Vec<CertificateIn>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct TimestampsIn {
    #[serde(default)]
    rfc3161_timestamps: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct MessageIn {
    signature: String,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../../tests/fixtures/cosign/v3_bundle_sig_bundle.json");

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
}
