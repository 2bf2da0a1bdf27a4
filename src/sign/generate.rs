//! New key pairs, as cosign generates them.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use p256::elliptic_curve::Generate as _;
use p256::pkcs8::EncodePrivateKey as _;

use super::private_key::PrivateKey;
use super::{SignError, key_file};
use crate::secret::Secret;

/// A new key pair, in memory.
#[derive(Debug)]
pub struct GeneratedKeyPair {
    private_pem: Secret,
    public_pem: String,
}

/// Generates an ECDSA P-256 key pair; the private key is encrypted with `password`, which may be empty.
pub fn generate_key_pair(password: &Secret) -> Result<GeneratedKeyPair, SignError> {
    let secret = p256::SecretKey::generate();
    let pkcs8 = secret.to_pkcs8_der().map_err(|_| SignError::Operation)?;
    let public = PrivateKey::P256(Box::new(secret.into())).public_key()?;
    Ok(GeneratedKeyPair { private_pem: key_file::seal(pkcs8.as_bytes(), password)?, public_pem: public.to_pem() })
}

impl GeneratedKeyPair {
    /// Returns the private key file.
    pub fn private_pem(&self) -> &Secret {
        &self.private_pem
    }

    /// Returns the public key file.
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// Writes `PREFIX.key` (mode 0600) and `PREFIX.pub` (mode 0644) and returns their paths.
    ///
    /// Nothing is overwritten, and nothing is left behind if either cannot be written.
    pub fn write(&self, prefix: &Path) -> Result<[PathBuf; 2], SignError> {
        let path = |extension: &str| PathBuf::from(format!("{}.{extension}", prefix.display()));
        let (private, public) = (path("key"), path("pub"));
        if public.symlink_metadata().is_ok() {
            return Err(SignError::Exists { path: public });
        }
        create(&private, 0o600, self.private_pem.expose())?;
        if let Err(error) = create(&public, 0o644, &self.public_pem) {
            drop(fs::remove_file(&private));
            return Err(error);
        }
        Ok([private, public])
    }
}

fn create(path: &Path, mode: u32, contents: &str) -> Result<(), SignError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AlreadyExists => SignError::Exists { path: path.to_owned() },
        _ => SignError::Unwritable { path: path.to_owned(), source },
    };
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    let written = file.write_all(contents.as_bytes()).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(fs::remove_file(path))).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::sign::{KeySource, SignerSpec};

    #[test]
    fn a_generated_pair_signs_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("cosign");
        let password = Secret::new("hunter2");

        let pair = generate_key_pair(&password).unwrap();
        let [private, public] = pair.write(&prefix).unwrap();
        let signer = SignerSpec::Key { key: KeySource::File { path: private.clone() }, password: Some(password) };

        assert_eq!(signer.connect().unwrap().public_key().to_pem(), fs::read_to_string(&public).unwrap());
        assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(pair.write(&prefix), Err(SignError::Exists { .. })));
        fs::remove_file(&private).unwrap();
        assert!(matches!(pair.write(&prefix), Err(SignError::Exists { .. })));
        assert!(!private.exists());
    }
}
