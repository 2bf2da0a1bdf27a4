//! `generate-key-pair` and `public-key`.

use std::fs::OpenOptions;
use std::io::Write as _;

use super::with_password;
use crate::ci::Environment;
use crate::cli::{GenerateKeyPairArgs, PublicKeyArgs, SecretInputs};
use crate::error::Error;
use crate::plan;
use crate::report::Console;
use crate::secret::Secret;
use crate::sign::{SignError, SignerSpec, generate_key_pair};

pub(super) fn generate(
    args: &GenerateKeyPairArgs,
    secrets: &SecretInputs,
    environment: &Environment,
    console: &Console,
) -> Result<(), Error> {
    let password = new_password(secrets, console)?;
    let prefix = environment.working_directory().join(&args.output_key_prefix);
    let [private, public] = generate_key_pair(&password)?.write(&prefix)?;
    console.line(&format!("Private key written to {}", private.display()));
    console.line(&format!("Public key written to {}", public.display()));
    Ok(())
}

/// `COSIGN_PASSWORD`, or whoever sits at the terminal, twice. In a CI job nobody is asked.
fn new_password(secrets: &SecretInputs, console: &Console) -> Result<Secret, SignError> {
    if let Some(password) = &secrets.key_password {
        return Ok(password.clone());
    }
    if !console.is_terminal() {
        return Err(SignError::NewPasswordMissing);
    }
    let ask = |text: &str| rpassword::prompt_password(text).map_err(|_| SignError::NewPasswordMissing);
    let password = ask("Password for the private key: ")?;
    if password == ask("The same password again: ")? {
        Ok(Secret::new(password))
    } else {
        Err(SignError::PasswordsDiffer)
    }
}

pub(super) fn public_key(
    args: &PublicKeyArgs,
    secrets: &SecretInputs,
    environment: &Environment,
    console: &Console,
) -> Result<(), Error> {
    let key = plan::key_source(args.key.as_deref().unwrap_or_default(), environment)?;
    let signer = SignerSpec::Key { key, password: secrets.key_password.clone() };
    let pem = with_password(signer, secrets, console).connect()?.public_key().to_pem();
    let Some(path) = &args.outfile else {
        console.data(&pem);
        return Ok(());
    };
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AlreadyExists => SignError::Exists { path: path.clone() },
        _ => SignError::Unwritable { path: path.clone(), source },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(pem.as_bytes()).map_err(failed)?;
    Ok(())
}
