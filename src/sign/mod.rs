//! Who signs: a key, for now. Nothing here knows what is signed or where the signature goes.

mod generate;
mod key_file;
mod private_key;

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use serde::Serialize;
use zeroize::Zeroizing;

pub use generate::{GeneratedKeyPair, generate_key_pair};
use private_key::PrivateKey;

use crate::secret::Secret;
use crate::sigstore::PublicKey;

/// The most bytes that a key file may have.
const LONGEST: usize = 64 << 10;

/// Who signs: decided in the plan.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum SignerSpec {
    /// The holder of a private key.
    Key {
        /// Where the key is.
        key: KeySource,
        /// The password that it is encrypted with, if it was given.
        #[serde(skip)]
        password: Option<Secret>,
    },
}

/// Where a key is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum KeySource {
    /// A file.
    File {
        /// The file.
        path: PathBuf,
    },
    /// `env://NAME`: a variable holds the file's contents.
    Variable {
        /// The variable's name.
        name: String,
        /// Its value.
        #[serde(skip)]
        pem: Secret,
    },
}

impl KeySource {
    /// Returns the contents of the key file. Reads at most 64 KiB, also from a pipe or a device.
    pub fn read(&self) -> Result<Secret, SignError> {
        let text = match self {
            Self::Variable { pem, .. } => pem.clone(),
            Self::File { path } => {
                let unreadable = |source| SignError::Unreadable { path: path.clone(), source };
                let not_a_key = |_| SignError::NotAKey { origin: self.to_string() };
                // Room for all of it at once, so that growing leaves no copies of the key behind.
                let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
                let file = File::open(path).map_err(unreadable)?;
                file.take(LONGEST as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
                Secret::new(str::from_utf8(&bytes).map_err(not_a_key)?)
            }
        };
        match text.expose() {
            long if long.len() > LONGEST => Err(SignError::NotAKey { origin: self.to_string() }),
            blank if blank.trim().is_empty() => Err(SignError::Empty { origin: self.to_string() }),
            _ => Ok(text),
        }
    }
}

impl std::fmt::Display for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { path } => write!(f, "{}", path.display()),
            Self::Variable { name, .. } => write!(f, "env://{name}"),
        }
    }
}

impl SignerSpec {
    /// Returns the signer, ready to sign. An encrypted key costs 64 MiB and a tenth of a second to decrypt.
    pub fn connect(&self) -> Result<KeySigner, SignError> {
        let Self::Key { key, password } = self;
        let pem = key.read()?;
        let private = key_file::open(pem.expose(), password.as_ref(), &key.to_string())?;
        KeySigner::new(private)
    }

    /// Returns whether the key is encrypted and no password was given, so that somebody has to be asked.
    pub fn lacks_password(&self) -> bool {
        let Self::Key { key, password } = self;
        password.is_none() && key.read().is_ok_and(|pem| key_file::is_encrypted(pem.expose()))
    }

    /// Returns the same signer with a password.
    #[must_use]
    pub fn with_password(self, password: Secret) -> Self {
        let Self::Key { key, .. } = self;
        Self::Key { key, password: Some(password) }
    }
}

/// Signs with a private key that is in memory.
#[derive(Debug)]
pub struct KeySigner {
    private: PrivateKey,
    public: PublicKey,
}

impl KeySigner {
    fn new(private: PrivateKey) -> Result<Self, SignError> {
        let public = private.public_key()?;
        Ok(Self { private, public })
    }

    /// Returns the public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`, which is not hashed: hashing is part of the scheme.
    ///
    /// SHA-256 with every ECDSA and RSA key and pure Ed25519, because that is what released cosign 2 and 3 both verify.
    /// The signature is verified before it is returned.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = self.private.sign(message)?;
        if self.public.verify(message, &signature) { Ok(signature) } else { Err(SignError::Unverifiable) }
    }
}

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The file cannot be read.
    #[error("cannot read the key `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// It is empty: often a secret that the job does not get.
    #[error("the key `{origin}` is empty")]
    Empty {
        /// Where it came from.
        origin: String,
    },
    /// It is no private key.
    #[error("`{origin}` is not a private key in PEM form")]
    NotAKey {
        /// Where it came from.
        origin: String,
    },
    /// It is something else in PEM form.
    #[error("`{origin}` is a `{tag}`, not a private key that can be used")]
    OtherPem {
        /// Where it came from.
        origin: String,
        /// What it is.
        tag: String,
    },
    /// The encrypted key file breaks a rule of its format.
    #[error("the encrypted key `{origin}` is refused: {reason}")]
    KeyFile {
        /// Where it came from.
        origin: String,
        /// The rule that it breaks.
        reason: String,
    },
    /// It is no public key.
    #[error("`{origin}` is not a public key")]
    NotAPublicKey {
        /// Where it came from.
        origin: String,
        /// What is wrong with it.
        source: crate::sigstore::ParsePublicKeyError,
    },
    /// A new key is to be encrypted, and there is nobody to ask for a password.
    #[error("no password was given for the new key, and nobody can be asked")]
    NewPasswordMissing,
    /// Two passwords were typed, and they are not the same.
    #[error("the two passwords are not the same")]
    PasswordsDiffer,
    /// Encrypted, and there is no password.
    #[error("the key `{origin}` is encrypted, and no password was given")]
    PasswordMissing {
        /// Where it came from.
        origin: String,
    },
    /// Encrypted with another password.
    #[error("the password does not open the key `{origin}`")]
    WrongPassword {
        /// Where it came from.
        origin: String,
    },
    /// A curve or algorithm that we do not sign with, or a key that is damaged.
    #[error("the key `{origin}` cannot be used: {reason}")]
    Unusable {
        /// Where it came from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The operation itself failed.
    #[error("the key could not sign")]
    Operation,
    /// The signature does not verify with the key's own public key: the key is damaged, or the machine is.
    #[error("the signature that was just made does not verify")]
    Unverifiable,
    /// A key file exists already: it is never overwritten.
    #[error("`{}` exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A key file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
}

impl SignError {
    /// Returns what to type, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NewPasswordMissing => Some("set COSIGN_PASSWORD, which may be empty".to_owned()),
            Self::PasswordMissing { .. } => Some(
                "set `key-password` (or COSIGN_PASSWORD), which may be empty for a key with an empty password"
                    .to_owned(),
            ),
            Self::WrongPassword { .. } => Some(
                "check `key-password` (or COSIGN_PASSWORD) for another password or a newline at its end".to_owned(),
            ),
            Self::OtherPem { tag, .. } if tag == "PUBLIC KEY" => {
                Some("give the private key: `cosign.key`, not `cosign.pub`".to_owned())
            }
            Self::OtherPem { tag, .. } if tag == "ENCRYPTED PRIVATE KEY" => {
                Some("decrypt it first: `openssl pkey -in KEY -out plain.pem`".to_owned())
            }
            Self::Empty { .. } => {
                Some("check that the job gets the secret: jobs of forks and of unprotected branches do not".to_owned())
            }
            Self::NotAKey { .. } => {
                Some("give a `cosign.key`, or a PEM file with `-----BEGIN PRIVATE KEY-----`".to_owned())
            }
            Self::NotAPublicKey { .. } => {
                Some("give the public key: `cosign.pub`, with `-----BEGIN PUBLIC KEY-----`".to_owned())
            }
            Self::Exists { .. } => Some("choose another name with `--output-key-prefix`, or remove it".to_owned()),
            Self::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some("check the path; in a container, it must be below a mounted directory".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigstore::KeyAlgorithm;

    fn fixture(name: &str) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/cosign/keys", name].iter().collect()
    }

    fn signer(name: &str, password: Option<&str>) -> Result<KeySigner, SignError> {
        let key = KeySource::File { path: fixture(name) };
        SignerSpec::Key { key, password: password.map(Secret::new) }.connect()
    }

    #[test]
    fn every_key_of_cosigns_opens_and_signs() {
        let table = [
            ("v2/cosign.key", KeyAlgorithm::EcdsaP256),
            ("variants/cosign-32768.key", KeyAlgorithm::EcdsaP256),
            ("variants/sigstore-65536.key", KeyAlgorithm::EcdsaP256),
            ("variants/cosign-131072.key", KeyAlgorithm::EcdsaP256),
            ("imported/imp-p384.key", KeyAlgorithm::EcdsaP384),
            ("imported/imp-p521.key", KeyAlgorithm::EcdsaP521),
            ("imported/imp-rsa3072.key", KeyAlgorithm::Rsa),
            ("imported/imp-ed.key", KeyAlgorithm::Ed25519),
        ];

        for (name, algorithm) in table {
            let signer = signer(name, Some("testpw")).unwrap();
            let signature = signer.sign(b"message").unwrap();

            assert_eq!(signer.public_key().algorithm(), algorithm, "{name}");
            assert!(signer.public_key().verify(b"message", &signature), "{name}");
            assert!(!signer.public_key().verify(b"messagf", &signature), "{name}");
            if let Ok(public) = std::fs::read_to_string(fixture(&name.replace(".key", ".pub"))) {
                assert_eq!(signer.public_key().to_pem(), public, "{name}");
            }
        }
    }

    #[test]
    fn plain_keys_open_without_a_password() {
        for name in [
            "v3/plain.pem",
            "imported/p384.key",
            "imported/p521.key",
            "imported/rsa1.key",
            "imported/ed.key",
            "imported/leaf.ec.key",
        ] {
            let signer = signer(name, None).unwrap();

            assert!(signer.sign(b"message").is_ok(), "{name}");
        }
    }

    #[test]
    fn an_empty_password_is_a_password() {
        assert!(signer("variants/empty-pw.key", Some("")).is_ok());
        assert!(matches!(signer("variants/empty-pw.key", None), Err(SignError::PasswordMissing { .. })));
        assert!(matches!(signer("variants/empty-pw.key", Some("x")), Err(SignError::WrongPassword { .. })));
    }

    #[test]
    fn weak_parameters_are_refused_by_name() {
        for name in ["variants/cosign-16384.key", "variants/sigstore-16384.key"] {
            let error = signer(name, Some("testpw")).unwrap_err().to_string();

            assert!(
                error.ends_with(
                    "is refused: scrypt with N=16384, r=8, p=1 (N must be 32768, 65536 or 131072, r 8 and p 1)"
                ),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_no_private_key_is_named() {
        let public = signer("v3/cosign.pub", None).unwrap_err();
        let certificate = signer("imported/leaf.pem", None).unwrap_err();
        let absent = signer("none.key", None).unwrap_err();

        assert_eq!(public.hint().unwrap(), "give the private key: `cosign.key`, not `cosign.pub`");
        assert!(matches!(certificate, SignError::OtherPem { .. }));
        assert!(matches!(absent, SignError::Unreadable { .. }));
    }

    #[test]
    fn a_source_without_end_and_an_empty_one_are_refused() {
        let read = |path: &str| KeySource::File { path: path.into() }.read();
        let variable = |text: &str| KeySource::Variable { name: "KEY".to_owned(), pem: Secret::new(text) }.read();

        assert!(matches!(read("/dev/zero"), Err(SignError::NotAKey { .. })));
        assert!(matches!(read("/dev/null"), Err(SignError::Empty { .. })));
        assert!(matches!(variable(" \n"), Err(SignError::Empty { .. })));
        assert!(matches!(variable(&"x".repeat(LONGEST + 1)), Err(SignError::NotAKey { .. })));
        assert!(variable(&"x".repeat(LONGEST)).is_ok());
    }

    #[test]
    fn a_key_whose_halves_do_not_belong_together_signs_nothing() {
        let (own, other) = (signer("v3/plain.pem", None).unwrap(), signer("imported/leaf.ec.key", None).unwrap());
        let crossed = KeySigner { private: own.private, public: other.public };

        assert!(matches!(crossed.sign(b"message"), Err(SignError::Unverifiable)));
    }

    #[test]
    fn every_public_half_equals_cosigns() {
        for (private, public) in [
            ("v3/plain.pem", "v3/cosign.pub"),
            ("imported/leaf.ec.key", "imported/imp-leaf.ec.pub"),
            ("imported/p384.key", "imported/imp-p384.pub"),
            ("imported/p521.key", "imported/imp-p521.pub"),
            ("imported/rsa1.key", "imported/imp-rsa1.pub"),
            ("imported/ed.key", "imported/imp-ed.pub"),
        ] {
            let signer = signer(private, None).unwrap();

            assert_eq!(signer.public_key().to_pem(), std::fs::read_to_string(fixture(public)).unwrap(), "{private}");
        }
    }
}
