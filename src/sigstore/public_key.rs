//! Public keys: read, named, and asked whether they verify a signature.

use std::fmt;

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::pkcs8::DecodePublicKey as _;
use sha2::{Digest as _, Sha512};

/// The algorithm of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256, what cosign generates.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// ECDSA on P-521.
    EcdsaP521,
    /// RSA with PKCS #1 v1.5 padding.
    Rsa,
    /// Ed25519.
    Ed25519,
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
            Self::EcdsaP521 => "ECDSA P-521",
            Self::Rsa => "RSA",
            Self::Ed25519 => "Ed25519",
        })
    }
}

/// A public key (`SubjectPublicKeyInfo`, [RFC 5280](https://www.rfc-editor.org/rfc/rfc5280#section-4.1)).
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    spki: Vec<u8>,
}

impl PublicKey {
    /// Reads a PEM file with one `PUBLIC KEY` block.
    pub fn from_pem(text: &[u8]) -> Result<Self, ParsePublicKeyError> {
        let block = pem::parse(text).map_err(|_| ParsePublicKeyError::NotPem)?;
        match block.tag() {
            "PUBLIC KEY" => Self::from_spki(block.contents()),
            tag => Err(ParsePublicKeyError::Tag { tag: crate::http::excerpt(tag) }),
        }
    }

    /// Reads a key in DER.
    pub fn from_spki(spki: &[u8]) -> Result<Self, ParsePublicKeyError> {
        let algorithm = algorithm_of(spki).ok_or(ParsePublicKeyError::Algorithm)?;
        let key = Self { algorithm, spki: spki.to_vec() };
        // The key's own material is checked by whoever verifies with it; a key that is malformed verifies nothing.
        Ok(key)
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Returns the key in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Returns the key as PEM, as cosign writes it: 64 columns, LF.
    pub fn to_pem(&self) -> String {
        let block = pem::Pem::new("PUBLIC KEY", self.spki.clone());
        pem::encode_config(&block, pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
    }

    /// Returns what bundles name the key by: base64 of the SHA-256 of its DER.
    pub fn hint(&self) -> String {
        BASE64_STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.spki))
    }

    /// Returns the SHA-256 of its DER, for people.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", self.hint().trim_end_matches('='))
    }

    /// Returns whether `signature` over `message` is of this key.
    ///
    /// cosign 2 and 3 hash differently for other keys than P-256 and RSA, so both ways are tried: SHA-256 and the curve's
    /// own hash, Ed25519 and Ed25519ph. A signature that verifies one way is over the same message either way.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let any = |algorithms: &[&'static dyn VerificationAlgorithm]| {
            algorithms
                .iter()
                .any(|algorithm| UnparsedPublicKey::new(*algorithm, &self.spki).verify(message, signature).is_ok())
        };
        match self.algorithm {
            KeyAlgorithm::EcdsaP256 => any(&[&signature::ECDSA_P256_SHA256_ASN1]),
            KeyAlgorithm::EcdsaP384 => any(&[&signature::ECDSA_P384_SHA256_ASN1, &signature::ECDSA_P384_SHA384_ASN1]),
            KeyAlgorithm::EcdsaP521 => any(&[&signature::ECDSA_P521_SHA256_ASN1, &signature::ECDSA_P521_SHA512_ASN1]),
            KeyAlgorithm::Rsa => any(&[&signature::RSA_PKCS1_2048_8192_SHA256]),
            KeyAlgorithm::Ed25519 => any(&[&signature::ED25519]) || self.verifies_prehashed(message, signature),
        }
    }

    /// Ed25519ph, what cosign 3 signs with ([RFC 8032](https://www.rfc-editor.org/rfc/rfc8032#section-5.1)).
    fn verifies_prehashed(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(key) = ed25519_dalek::VerifyingKey::from_public_key_der(&self.spki) else { return false };
        let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else { return false };
        key.verify_prehashed_strict(Sha512::new_with_prefix(message), None, &signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm, self.fingerprint())
    }
}

/// Finds the algorithm by the object identifiers at the start of the structure.
fn algorithm_of(spki: &[u8]) -> Option<KeyAlgorithm> {
    const P256: &[u8] = &[
        0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01,
        0x07,
    ];
    const P384: &[u8] =
        &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
    const P521: &[u8] =
        &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];
    const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
    let outer = der_sequence(spki).filter(|outer| outer.rest.is_empty())?;
    let identifier = der_sequence(outer.content)?.content;
    [
        (P256, KeyAlgorithm::EcdsaP256),
        (P384, KeyAlgorithm::EcdsaP384),
        (P521, KeyAlgorithm::EcdsaP521),
        (RSA, KeyAlgorithm::Rsa),
        (ED25519, KeyAlgorithm::Ed25519),
    ]
    .into_iter()
    .find_map(|(bytes, algorithm)| (identifier == bytes).then_some(algorithm))
}

struct Sequence<'a> {
    content: &'a [u8],
    rest: &'a [u8],
}

/// Splits a DER SEQUENCE from what follows it.
fn der_sequence(bytes: &[u8]) -> Option<Sequence<'_>> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (length, bytes) = match first {
        0..=0x7f => (usize::from(first), bytes),
        0x81 | 0x82 => {
            let (length, bytes) = bytes.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), bytes)
        }
        _ => return None,
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    (tag == 0x30).then_some(Sequence { content, rest })
}

/// The bytes are not a public key that we can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePublicKeyError {
    /// Not PEM at all.
    #[error("it is not a PEM file with one block")]
    NotPem,
    /// PEM of something else.
    #[error("it is a PEM file of a `{tag}`, not of a `PUBLIC KEY`")]
    Tag {
        /// What it is.
        tag: String,
    },
    /// An algorithm that we do not verify with.
    #[error("its algorithm is not supported: ECDSA P-256, P-384, P-521, RSA and Ed25519 are")]
    Algorithm,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigstore::bundle::{self, Bundle};

    const V3: &[u8] = include_bytes!("../../tests/fixtures/cosign/keys/v3/cosign.pub");
    const K2: &[u8] = include_bytes!("../../tests/fixtures/cosign/keys/k2/cosign.pub");

    #[test]
    fn a_key_is_written_as_cosign_writes_it() {
        let key = PublicKey::from_pem(V3).unwrap();

        assert_eq!(key.algorithm(), KeyAlgorithm::EcdsaP256);
        assert_eq!(key.to_pem().as_bytes(), V3);
    }

    #[test]
    fn cosigns_bundle_verifies_with_its_key_only() {
        let bytes = include_bytes!("../../tests/fixtures/cosign/v3_bundle_sig_bundle.json");
        let bundle = Bundle::parse(bytes).unwrap();
        let envelope = bundle.envelope().unwrap();
        let (key, other) = (PublicKey::from_pem(V3).unwrap(), PublicKey::from_pem(K2).unwrap());
        let mut tampered = envelope.pae();
        tampered[40] ^= 1;

        assert_eq!(bundle.material, bundle::Material::PublicKey { hint: key.hint() });
        assert!(key.verify(&envelope.pae(), &envelope.signatures[0]));
        assert!(!other.verify(&envelope.pae(), &envelope.signatures[0]));
        assert!(!key.verify(&tampered, &envelope.signatures[0]));
        assert!(!key.verify(&envelope.pae(), b"no signature"));
    }

    #[test]
    fn what_is_no_public_key_is_named() {
        let private = include_bytes!("../../tests/fixtures/cosign/keys/v3/cosign.key");

        assert_eq!(PublicKey::from_pem(b"x"), Err(ParsePublicKeyError::NotPem));
        assert!(matches!(PublicKey::from_pem(private), Err(ParsePublicKeyError::Tag { .. })));
        assert_eq!(PublicKey::from_spki(&[0x30, 0x82, 0xff]), Err(ParsePublicKeyError::Algorithm));
    }
}
