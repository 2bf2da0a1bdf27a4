//! Private keys in memory: P-256 and P-384 by `RustCrypto`, the others by AWS-LC.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P521_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use sha2::{Digest as _, Sha256};

use super::SignError;
use crate::sigstore::PublicKey;

/// A private key. RSA never goes through pure Rust (RUSTSEC-2023-0071).
pub(super) enum PrivateKey {
    P256(Box<p256::ecdsa::SigningKey>),
    P384(Box<p384::ecdsa::SigningKey>),
    P521(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl PrivateKey {
    /// Reads a key as PKCS #8, SEC 1 or PKCS #1, whichever it is.
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        let p256 = || p256::SecretKey::from_pkcs8_der(der).ok().or_else(|| p256::SecretKey::from_sec1_der(der).ok());
        let p384 = || p384::SecretKey::from_pkcs8_der(der).ok().or_else(|| p384::SecretKey::from_sec1_der(der).ok());
        let rsa = || RsaKeyPair::from_pkcs8(der).ok().or_else(|| RsaKeyPair::from_der(der).ok());
        p256()
            .map(|key| Self::P256(Box::new(key.into())))
            .or_else(|| p384().map(|key| Self::P384(Box::new(key.into()))))
            .or_else(|| {
                let key = EcdsaKeyPair::from_private_key_der(&ECDSA_P521_SHA256_ASN1_SIGNING, der);
                key.ok().map(|key| Self::P521(Box::new(key)))
            })
            .or_else(|| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(|key| Self::Ed25519(Box::new(key))))
            .or_else(|| rsa().map(|key| Self::Rsa(Box::new(key))))
    }

    pub(super) fn public_key(&self) -> Result<PublicKey, SignError> {
        let spki = match self {
            Self::P256(key) => key.verifying_key().to_public_key_der().map(p256::pkcs8::Document::into_vec).ok(),
            Self::P384(key) => key.verifying_key().to_public_key_der().map(p256::pkcs8::Document::into_vec).ok(),
            Self::P521(key) => x509(key.public_key()),
            Self::Rsa(key) => x509(key.public_key()),
            Self::Ed25519(key) => x509(key.public_key()),
        };
        spki.and_then(|spki| PublicKey::from_spki(&spki).ok()).ok_or(SignError::Operation)
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let digest = || Sha256::digest(message);
        let random = SystemRandom::new();
        let signature = match self {
            Self::P256(key) => {
                let signature: Option<p256::ecdsa::Signature> = key.sign_prehash(&digest()).ok();
                signature.map(|signature| signature.to_der().as_bytes().to_vec())
            }
            Self::P384(key) => {
                let signature: Option<p384::ecdsa::Signature> = key.sign_prehash(&digest()).ok();
                signature.map(|signature| signature.to_der().as_bytes().to_vec())
            }
            Self::P521(key) => key.sign(&random, message).ok().map(|signature| signature.as_ref().to_vec()),
            Self::Ed25519(key) => Some(key.sign(message).as_ref().to_vec()),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).ok().map(|()| signature)
            }
        };
        signature.ok_or(SignError::Operation)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(***)")
    }
}

fn x509(public: &impl AsDer<PublicKeyX509Der<'static>>) -> Option<Vec<u8>> {
    public.as_der().ok().map(|der| der.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PKCS8: &[u8] = include_bytes!("../../tests/fixtures/cosign/keys/v3/cosign.pkcs8.der");

    #[test]
    fn ecdsa_is_the_deterministic_kind_of_rfc_6979() {
        // A.2.5 of the RFC, P-256 with SHA-256 and the message "sample".
        let secret = hex::decode("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721").unwrap();
        let key = PrivateKey::P256(Box::new(p256::ecdsa::SigningKey::from_slice(&secret).unwrap()));

        let signature = key.sign(b"sample").unwrap();

        let expected = concat!(
            "3046022100efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
            "022100f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
        );
        assert_eq!(hex::encode(signature), expected);
    }

    #[test]
    fn a_key_that_contradicts_itself_is_refused() {
        let mut other_half = PKCS8.to_vec();
        *other_half.last_mut().unwrap() ^= 1;
        let mut other_curve = PKCS8.to_vec();
        other_curve[22] ^= 1;

        assert!(PrivateKey::from_der(PKCS8).is_some());
        for refused in [other_half, other_curve, [PKCS8, &[0]].concat(), PKCS8[..PKCS8.len() - 1].to_vec()] {
            assert!(PrivateKey::from_der(&refused).is_none());
        }
    }

    #[test]
    fn no_damage_to_a_key_panics() {
        for name in ["v3/plain.pem", "imported/p384.key", "imported/p521.key", "imported/rsa1.key", "imported/ed.key"] {
            let path = format!("{}/tests/fixtures/cosign/keys/{name}", env!("CARGO_MANIFEST_DIR"));
            let der = pem::parse_many(std::fs::read(path).unwrap()).unwrap().pop().unwrap().into_contents();
            for position in 0..der.len() {
                let mut mutant = der.clone();
                mutant[position] ^= 1 << (position % 8);
                drop(PrivateKey::from_der(&mutant).map(|key| key.public_key()));
            }
        }
    }
}
