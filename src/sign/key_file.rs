//! Key files: cosign's encrypted format, and plain PEM.
//!
//! `{"kdf":{"name":"scrypt",…},"cipher":{"name":"nacl/secretbox",…},"ciphertext":…}` in PEM, around PKCS #8.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use serde::{Deserialize, Serialize};
use sigstore::crypto::signing_key::kdf;
use zeroize::Zeroizing;

use super::SignError;
use super::private_key::PrivateKey;
use crate::secret::Secret;

/// What cosign has written since version 2.
pub(super) const SIGSTORE_TAG: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
const COSIGN_TAG: &str = "ENCRYPTED COSIGN PRIVATE KEY";
/// scrypt's cost as cosign writes it: 64 MiB.
const N: u32 = 65_536;
const SALT: usize = 32;
const NONCE: usize = 24;
/// What the cipher adds to a plaintext.
const TAG: usize = 16;

/// Returns whether `text` is a key file in cosign's encrypted format.
pub(super) fn is_encrypted(text: &str) -> bool {
    pem::parse(text).is_ok_and(|block| matches!(block.tag(), SIGSTORE_TAG | COSIGN_TAG))
}

/// Opens a key file. `origin` is what to call it in errors.
pub(super) fn open(text: &str, password: Option<&Secret>, origin: &str) -> Result<PrivateKey, SignError> {
    let blocks = pem::parse_many(text).unwrap_or_default();
    // openssl writes the curve's parameters before the key.
    let mut blocks = blocks.into_iter().filter(|block| block.tag() != "EC PARAMETERS");
    let (Some(block), None) = (blocks.next(), blocks.next()) else {
        return Err(SignError::NotAKey { origin: origin.to_owned() });
    };
    if block.headers().get("Proc-Type").is_some() {
        // openssl's old way to encrypt: the tag does not tell.
        return Err(SignError::OtherPem { origin: origin.to_owned(), tag: "ENCRYPTED PRIVATE KEY".to_owned() });
    }
    let der = match block.tag() {
        SIGSTORE_TAG | COSIGN_TAG => {
            let sealed = check(block.contents(), origin)?;
            let password = password.ok_or_else(|| SignError::PasswordMissing { origin: origin.to_owned() })?;
            decrypt(block.contents(), &sealed, password, origin)?
        }
        "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => Zeroizing::new(block.into_contents()),
        tag => {
            return Err(SignError::OtherPem { origin: origin.to_owned(), tag: crate::http::excerpt(tag) });
        }
    };
    PrivateKey::from_der(&der).ok_or_else(|| SignError::Unusable {
        origin: origin.to_owned(),
        reason: "it is damaged, or its algorithm is not ECDSA P-256, P-384, P-521, RSA or Ed25519".to_owned(),
    })
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// Checks everything about the file that can be checked before any work is done for it.
fn check(contents: &[u8], origin: &str) -> Result<Sealed, SignError> {
    let refuse = |reason: String| SignError::KeyFile { origin: origin.to_owned(), reason };
    let sealed: Sealed =
        serde_json::from_slice(contents).map_err(|_| refuse("it does not hold the JSON of a key".to_owned()))?;
    if sealed.kdf.name != "scrypt" {
        return Err(refuse(format!("`{}` instead of `scrypt`", crate::http::excerpt(&sealed.kdf.name))));
    }
    if sealed.cipher.name != "nacl/secretbox" {
        return Err(refuse(format!("`{}` instead of `nacl/secretbox`", crate::http::excerpt(&sealed.cipher.name))));
    }
    let Params { n, r, p } = sealed.kdf.params;
    if !matches!((n, r, p), (32_768 | 65_536 | 131_072, 8, 1)) {
        return Err(refuse(format!("scrypt with N={n}, r={r}, p={p} (N must be 32768, 65536 or 131072, r 8 and p 1)")));
    }
    let length = |text: &str| BASE64_STANDARD.decode(text).map(|bytes| bytes.len()).ok();
    if length(&sealed.kdf.salt) != Some(SALT) || length(&sealed.cipher.nonce) != Some(NONCE) {
        return Err(refuse(format!("the salt must have {SALT} bytes and the nonce {NONCE}")));
    }
    if length(&sealed.ciphertext).is_none_or(|length| length < TAG) {
        return Err(refuse(format!("the ciphertext must be base64 of at least {TAG} bytes")));
    }
    Ok(sealed)
}

fn decrypt(contents: &[u8], sealed: &Sealed, password: &Secret, origin: &str) -> Result<Zeroizing<Vec<u8>>, SignError> {
    let wrong = || SignError::WrongPassword { origin: origin.to_owned() };
    let password = password.expose().as_bytes();
    if sealed.kdf.params.n == 131_072 {
        // cosign opens such keys, the library does not.
        return decrypt_costly(sealed, password).ok_or_else(wrong);
    }
    kdf::decrypt(contents, password).map(Zeroizing::new).map_err(|_| wrong())
}

fn decrypt_costly(sealed: &Sealed, password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let salt = BASE64_STANDARD.decode(&sealed.kdf.salt).ok()?;
    let nonce: [u8; NONCE] = BASE64_STANDARD.decode(&sealed.cipher.nonce).ok()?.try_into().ok()?;
    let ciphertext = BASE64_STANDARD.decode(&sealed.ciphertext).ok()?;
    let key = derive(password, &salt, sealed.kdf.params)?;
    let cipher = crypto_secretbox::XSalsa20Poly1305::new((&*key).into());
    cipher.decrypt((&nonce).into(), ciphertext.as_slice()).ok().map(Zeroizing::new)
}

fn derive(password: &[u8], salt: &[u8], params: Params) -> Option<Zeroizing<[u8; 32]>> {
    let log_n = u8::try_from(params.n.checked_ilog2()?).ok()?;
    let params = scrypt::Params::new(log_n, params.r, params.p).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(password, salt, &params, &mut *key).ok()?;
    Some(key)
}

/// Encrypts PKCS #8 as cosign 2 and 3 do: the library would halve scrypt's cost.
pub(super) fn seal(pkcs8: &[u8], password: &Secret) -> Result<Secret, SignError> {
    let operation = |_| SignError::Operation;
    let (mut salt, mut nonce) = ([0; SALT], [0; NONCE]);
    getrandom::fill(&mut salt).map_err(|_| SignError::Operation)?;
    getrandom::fill(&mut nonce).map_err(|_| SignError::Operation)?;
    let params = Params { n: N, r: 8, p: 1 };
    let key = derive(password.expose().as_bytes(), &salt, params).ok_or(SignError::Operation)?;
    let cipher = crypto_secretbox::XSalsa20Poly1305::new((&*key).into());
    let ciphertext = cipher.encrypt((&nonce).into(), pkcs8).map_err(operation)?;
    let sealed = Sealed {
        kdf: Kdf { name: "scrypt".to_owned(), params, salt: BASE64_STANDARD.encode(salt) },
        cipher: Cipher { name: "nacl/secretbox".to_owned(), nonce: BASE64_STANDARD.encode(nonce) },
        ciphertext: BASE64_STANDARD.encode(ciphertext),
    };
    let json = serde_json::to_vec(&sealed).map_err(|_| SignError::Operation)?;
    let block = pem::Pem::new(SIGSTORE_TAG, json);
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Ok(Secret::new(pem::encode_config(&block, config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str) -> String {
        pem::encode(&pem::Pem::new(SIGSTORE_TAG, json.as_bytes().to_vec()))
    }

    #[test]
    fn a_key_file_that_breaks_a_rule_is_refused_before_any_work() {
        let good = include_str!("../../tests/fixtures/cosign/keys/v3/cosign.key.inner.json");
        let broken = [
            good.replace("65536", "1073741824"),
            good.replace(r#""r":8"#, r#""r":1024"#),
            good.replace("scrypt", "argon2"),
            good.replace("nacl/secretbox", "none"),
            good.replace("CFR+hRnsN8myQjEPl", "CFR+hRnsN8myQ"),
            good.replace("JtFLJrfICR9b", "JtFL"),
            good.replace(r#""p":1"#, r#""p":4294967297"#),
            good.replace(r#""N":65536"#, r#""N":65536,"N":65536"#),
            good[..good.find("\"ciphertext\"").unwrap()].to_owned() + r#""ciphertext":"AAAA"}"#,
            "{}".to_owned(),
        ];
        let password = Secret::new("testpw");

        assert!(open(&file(good), Some(&password), "key").is_ok());
        for json in broken {
            let error = open(&file(&json), Some(&password), "key").unwrap_err();

            assert!(matches!(error, SignError::KeyFile { .. }), "{error}");
        }
    }

    #[test]
    fn a_damaged_key_file_never_panics() {
        let good = include_bytes!("../../tests/fixtures/cosign/keys/variants/cosign-16384.key");

        for position in 0..good.len() {
            let mut bytes = good.to_vec();
            bytes[position] ^= 0x15;

            // The parameters of this file are refused before any work is done, so that the loop is quick.
            assert!(open(&String::from_utf8_lossy(&bytes), Some(&Secret::new("testpw")), "key").is_err());
        }
    }

    #[test]
    fn a_key_that_openssl_encrypted_is_named_in_both_its_forms() {
        let plain = include_str!("../../tests/fixtures/cosign/keys/imported/p384.key");
        let old = plain.replacen("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1);
        let new = plain.replace("EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY");

        for text in [old, new] {
            let error = open(&text, None, "key").unwrap_err();

            assert_eq!(error.hint().unwrap(), "decrypt it first: `openssl pkey -in KEY -out plain.pem`");
        }
        assert!(open(plain, None, "key").is_ok());
    }
}
