//! Public keys: read, named, and asked whether they verify a signature.

use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::pkcs8::DecodePublicKey as _;
use p256::pkcs8::ObjectIdentifier;
use p256::pkcs8::der::asn1::{AnyRef, UintRef};
use p256::pkcs8::der::{Decode as _, Encode as _, Reader as _, SliceReader};
use p256::pkcs8::spki::SubjectPublicKeyInfoRef;
use sha2::{Digest as _, Sha512};

/// The most bytes that a key file may have.
const MAX_FILE: usize = 64 << 10;
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

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
        if text.len() > MAX_FILE {
            return Err(ParsePublicKeyError::NotPem);
        }
        let blocks = pem::parse_many(text).map_err(|_| ParsePublicKeyError::NotPem)?;
        let [block] = blocks.as_slice() else { return Err(ParsePublicKeyError::NotPem) };
        match block.tag() {
            "PUBLIC KEY" => Self::from_spki(block.contents()),
            tag => Err(ParsePublicKeyError::Tag { tag: crate::http::excerpt(tag) }),
        }
    }

    /// Reads a key in DER, and checks all of it: a key that is not valid, or that is spelled in a second way and so would
    /// have a second name, is refused here rather than called a signature that does not match.
    pub fn from_spki(spki: &[u8]) -> Result<Self, ParsePublicKeyError> {
        const MALFORMED: ParsePublicKeyError = ParsePublicKeyError::Malformed;
        let parsed = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| MALFORMED)?;
        if parsed.to_der().map_err(|_| MALFORMED)? != spki {
            return Err(MALFORMED);
        }
        let key = parsed.subject_public_key.as_bytes().ok_or(MALFORMED)?;
        let parameters = parsed.algorithm.parameters;
        let curve = parameters.and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
        // A compressed point would be a second spelling.
        let point = |length: usize, scheme: &'static signature::EcdsaVerificationAlgorithm| {
            key.len() == length && key.first() == Some(&4) && ParsedPublicKey::new(scheme, key).is_ok()
        };
        let (algorithm, valid) = match (parsed.algorithm.oid, curve) {
            (EC, Some(P256)) => (KeyAlgorithm::EcdsaP256, point(65, &signature::ECDSA_P256_SHA256_ASN1)),
            (EC, Some(P384)) => (KeyAlgorithm::EcdsaP384, point(97, &signature::ECDSA_P384_SHA384_ASN1)),
            (EC, Some(P521)) => (KeyAlgorithm::EcdsaP521, point(133, &signature::ECDSA_P521_SHA512_ASN1)),
            (RSA, _) => (KeyAlgorithm::Rsa, parameters.is_some_and(AnyRef::is_null) && rsa_is_valid(key)?),
            (ED25519, _) => (KeyAlgorithm::Ed25519, parameters.is_none() && ed25519_is_valid(key)),
            _ => return Err(ParsePublicKeyError::Algorithm),
        };
        if valid { Ok(Self { algorithm, spki: spki.to_vec() }) } else { Err(MALFORMED) }
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

/// Returns whether the bytes are an `RSAPublicKey` of a size that is safe and real.
fn rsa_is_valid(key: &[u8]) -> Result<bool, ParsePublicKeyError> {
    let Some(bits) = modulus_bits(key) else { return Ok(false) };
    if !(2048..=8192).contains(&bits) {
        return Err(ParsePublicKeyError::RsaSize { bits });
    }
    Ok(aws_lc_rs::rsa::PublicKey::from_der(key).is_ok())
}

fn modulus_bits(key: &[u8]) -> Option<usize> {
    let mut reader = SliceReader::new(key).ok()?;
    let numbers = reader.sequence(|sequence| -> Result<_, p256::pkcs8::der::Error> {
        Ok((UintRef::decode(sequence)?, UintRef::decode(sequence)?))
    });
    let (modulus, _exponent) = numbers.ok()?;
    reader.finish().ok()?;
    let leading = usize::try_from(modulus.as_bytes().first()?.leading_zeros()).ok()?;
    Some(modulus.as_bytes().len() * 8 - leading)
}

/// Returns whether the bytes are a point that is not of small order: under such a key, one signature fits any message.
fn ed25519_is_valid(key: &[u8]) -> bool {
    let key = <[u8; 32]>::try_from(key).ok().and_then(|key| ed25519_dalek::VerifyingKey::from_bytes(&key).ok());
    key.is_some_and(|key| !key.is_weak())
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
    /// Not the one canonical encoding of a valid key.
    #[error("it is damaged: not a valid key in its canonical encoding")]
    Malformed,
    /// Too small to be safe, or too large to be real.
    #[error("it is an RSA key of {bits} bits: 2048 to 8192 are supported")]
    RsaSize {
        /// The size of the modulus.
        bits: usize,
    },
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
        assert_eq!(PublicKey::from_spki(&[0x30, 0x82, 0xff]), Err(ParsePublicKeyError::Malformed));
    }

    fn fixture(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cosign/");
        std::fs::read(format!("{folder}{name}")).unwrap()
    }

    #[test]
    fn every_public_key_of_cosigns_is_read_and_written_unchanged() {
        for name in ["imp-leaf.ec", "imp-p384", "imp-p521", "imp-rsa1", "imp-rsa3072", "imp-ed"] {
            let pem = fixture(&format!("keys/imported/{name}.pub"));

            assert_eq!(PublicKey::from_pem(&pem).unwrap().to_pem().as_bytes(), pem, "{name}");
        }
    }

    #[test]
    fn legacy_signatures_of_both_cosigns_verify_and_tampered_ones_do_not() {
        let table = [
            ("keys/v2/cosign.pub", "v2_sig_manifest.json", "v2_sig_payload.json"),
            ("keys/v2/cosign.pub", "v2_sig_multi3_manifest.json", "v2_sig_annot_payload.json"),
            ("keys/v3/cosign.pub", "v3_sig_multi3_manifest.json", "v3_sig_annot_payload.json"),
        ];

        for (key, manifest, payload) in table {
            let key = PublicKey::from_pem(&fixture(key)).unwrap();
            let manifest: serde_json::Value = serde_json::from_slice(&fixture(manifest)).unwrap();
            let signature = &manifest["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"];
            let signature = BASE64_STANDARD.decode(signature.as_str().unwrap()).unwrap();
            let mut payload = fixture(payload);

            assert!(key.verify(&payload, &signature));
            payload[100] ^= 1;
            assert!(!key.verify(&payload, &signature));
        }
    }

    #[test]
    fn both_schemes_of_ed25519_verify() {
        use ed25519_dalek::Signer as _;

        let secret = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let key = PublicKey::from_spki(&ed25519(secret.verifying_key().as_bytes())).unwrap();

        let pure = secret.sign(b"message").to_bytes();
        let prehashed = secret.sign_prehashed(Sha512::new_with_prefix(b"message"), None).unwrap().to_bytes();

        assert!(key.verify(b"message", &pure) && key.verify(b"message", &prehashed));
        assert!(!key.verify(b"massage", &pure) && !key.verify(b"massage", &prehashed));
    }

    fn ed25519(key: &[u8; 32]) -> Vec<u8> {
        [&hex::decode("302a300506032b6570032100").unwrap()[..], key].concat()
    }

    #[test]
    fn a_key_under_which_anything_verifies_is_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;

        assert_eq!(PublicKey::from_spki(&ed25519(&identity)), Err(ParsePublicKeyError::Malformed));
        assert_eq!(PublicKey::from_spki(&ed25519(&[0; 32])), Err(ParsePublicKeyError::Malformed));
    }

    #[test]
    fn a_second_spelling_of_a_key_is_refused() {
        use ed25519_dalek::pkcs8::DecodePublicKey as _;
        use p256::elliptic_curve::sec1::ToSec1Point as _;

        let spki = PublicKey::from_pem(V3).unwrap().spki;
        let point = p256::PublicKey::from_public_key_der(&spki).unwrap().to_sec1_point(true);
        let mut compressed = [&spki[..23], &[3, 34, 0], point.as_bytes()].concat();
        compressed[1] = 57;
        let mut off_curve = spki.clone();
        *off_curve.last_mut().unwrap() ^= 1;

        assert!(p256::PublicKey::from_public_key_der(&compressed).is_ok());
        for refused in [compressed, off_curve, [&spki[..], &[0]].concat()] {
            assert_eq!(PublicKey::from_spki(&refused), Err(ParsePublicKeyError::Malformed));
        }
        assert_eq!(PublicKey::from_pem(&[V3, K2].concat()), Err(ParsePublicKeyError::NotPem));
    }

    #[test]
    fn rsa_keys_of_unsafe_or_unreal_sizes_are_refused_by_name() {
        for bits in [1024, 2040, 8200, 16384] {
            assert_eq!(PublicKey::from_spki(&rsa(bits)), Err(ParsePublicKeyError::RsaSize { bits }));
        }
        assert!(PublicKey::from_spki(&rsa(2048)).is_ok() && PublicKey::from_spki(&rsa(8192)).is_ok());
    }

    fn rsa(bits: usize) -> Vec<u8> {
        let modulus = [vec![0, 0x80], vec![0xff; bits / 8 - 1]].concat();
        let key = der(0x30, &[der(2, &modulus), vec![2, 3, 1, 0, 1]].concat());
        let key = der(3, &[&[0][..], &key].concat());
        der(0x30, &[hex::decode("300d06092a864886f70d0101010500").unwrap(), key].concat())
    }

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let head = if length[0] == 0 { vec![tag, 0x81, length[1]] } else { vec![tag, 0x82, length[0], length[1]] };
        [head.as_slice(), content].concat()
    }

    #[test]
    fn no_damage_to_a_key_panics_or_keeps_its_name() {
        for name in ["imp-leaf.ec", "imp-p521", "imp-rsa1", "imp-ed"] {
            let key = PublicKey::from_pem(&fixture(&format!("keys/imported/{name}.pub"))).unwrap();
            for position in 0..key.spki.len() {
                let mut mutant = key.spki.clone();
                mutant[position] ^= 1 << (position % 8);

                assert!(PublicKey::from_spki(&mutant).map_or(true, |mutant| mutant.hint() != key.hint()));
                assert!(PublicKey::from_spki(&key.spki[..position]).is_err());
            }
        }
    }
}
