//! DSSE envelopes ([specification](https://github.com/secure-systems-lab/dsse/blob/v1.0.2/envelope.md)).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

/// The payload type of in-toto statements, the only one that we sign and accept.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Returns the pre-authentication encoding: the bytes that the signature of an envelope is over.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// An envelope: a payload, its type, its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The type of the payload.
    pub payload_type: String,
    /// The payload, decoded.
    pub payload: Vec<u8>,
    /// The signatures, decoded.
    pub signatures: Vec<Vec<u8>>,
}

/// An envelope within a bundle. An unknown field is refused: protobuf's JSON has a second spelling for each field
/// (`payload_type`), and a reader that takes the other one would see another envelope.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EnvelopeJson {
    payload: String,
    payload_type: String,
    signatures: Vec<SignatureJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureJson {
    sig: String,
    /// A name for the key, mostly empty. Nothing vouches for it, so it is read over.
    #[serde(default, skip_serializing)]
    #[expect(dead_code, reason = "an unknown field would be refused")]
    keyid: Option<serde::de::IgnoredAny>,
}

impl Envelope {
    /// Returns the bytes that the signatures are over.
    pub fn pae(&self) -> Vec<u8> {
        pae(&self.payload_type, &self.payload)
    }
}

impl From<&Envelope> for EnvelopeJson {
    fn from(envelope: &Envelope) -> Self {
        let signature = |signature: &Vec<u8>| SignatureJson { sig: BASE64_STANDARD.encode(signature), keyid: None };
        Self {
            payload: BASE64_STANDARD.encode(&envelope.payload),
            payload_type: envelope.payload_type.clone(),
            signatures: envelope.signatures.iter().map(signature).collect(),
        }
    }
}

impl TryFrom<EnvelopeJson> for Envelope {
    type Error = base64::DecodeError;

    fn try_from(json: EnvelopeJson) -> Result<Self, Self::Error> {
        let signatures = json.signatures.iter().map(|signature| BASE64_STANDARD.decode(&signature.sig));
        Ok(Self {
            payload: BASE64_STANDARD.decode(&json.payload)?,
            payload_type: json.payload_type,
            signatures: signatures.collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_the_specifications_example() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }
}
