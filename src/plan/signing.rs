//! Whether and how the image is signed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{PlanError, key_source};
use crate::attachment::Formats;
use crate::ci::{Environment, Job};
use crate::cli::{PublishArgs, SecretInputs, SignArgs};
use crate::http::excerpt;
use crate::sign::SignerSpec;

/// How images are signed.
#[derive(Clone, Debug, Serialize)]
pub struct SigningPlan {
    /// Who signs.
    pub signer: SignerSpec,
    /// Signed annotations.
    pub annotations: BTreeMap<String, String>,
    /// Which storage formats are written.
    pub formats: Formats,
    /// Whether platform images are signed too.
    pub recursion: Recursion,
}

/// Whether the platform images of an index are signed too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recursion {
    /// The index and every platform image.
    EveryPlatform,
    /// What was named, only.
    RootOnly,
}

impl SigningPlan {
    pub(super) fn resolve(
        args: &PublishArgs,
        secrets: &SecretInputs,
        environment: &Environment,
        job: &Job,
    ) -> Result<Option<Self>, PlanError> {
        let key = args.key.as_deref();
        match args.sign.as_deref() {
            Some("false") => return Ok(None),
            Some("keyless") => return Err(PlanError::Keyless),
            Some("key") | None if key.is_none() => return Err(PlanError::NoKey),
            Some("key") | None => {}
            Some(other) => return Err(PlanError::Sign { value: excerpt(other) }),
        }
        match args.transparency.as_deref() {
            None | Some("none") => {}
            Some(other) => return Err(PlanError::Transparency { value: excerpt(other) }),
        }
        Ok(Some(Self {
            signer: SignerSpec::Key {
                key: key_source(key.unwrap_or_default(), environment)?,
                password: secrets.key_password.clone(),
            },
            annotations: annotations(&args.annotations, job)?,
            formats: formats(&args.format)?,
            recursion: if args.recursive { Recursion::EveryPlatform } else { Recursion::RootOnly },
        }))
    }

    pub(super) fn resolve_sign(
        args: &SignArgs,
        secrets: &SecretInputs,
        environment: &Environment,
    ) -> Result<Self, PlanError> {
        for (asked, flag) in [(args.tlog_upload, "--tlog-upload"), (args.use_signing_config, "--use-signing-config")] {
            if asked {
                return Err(PlanError::Log { flag });
            }
        }
        let format = match args.new_bundle_format {
            Some(true) => "bundle",
            Some(false) => "legacy",
            None => args.format.as_deref().unwrap_or("both"),
        };
        Ok(Self {
            signer: SignerSpec::Key {
                key: key_source(args.key.as_deref().unwrap_or_default(), environment)?,
                password: secrets.key_password.clone(),
            },
            annotations: key_values(&args.annotations)?,
            formats: formats(format)?,
            recursion: if args.recursive { Recursion::EveryPlatform } else { Recursion::RootOnly },
        })
    }
}

fn formats(text: &str) -> Result<Formats, PlanError> {
    text.parse().map_err(|()| PlanError::Format { value: excerpt(text) })
}

/// Returns the annotations of a job: the platform's facts unless others were given without `auto`.
fn annotations(given: &[String], job: &Job) -> Result<BTreeMap<String, String>, PlanError> {
    let is_auto = |text: &&String| text.trim() == "auto";
    let mut annotations = BTreeMap::new();
    if given.is_empty() || given.iter().any(|text| is_auto(&text)) {
        annotations = job.annotations();
    }
    let pairs: Vec<String> = given.iter().filter(|text| !is_auto(text)).cloned().collect();
    annotations.extend(key_values(&pairs)?);
    Ok(annotations)
}

/// Reads `KEY=VALUE` pairs. Values may hold commas and equal signs; of two with one key, the last counts.
pub(super) fn key_values(given: &[String]) -> Result<BTreeMap<String, String>, PlanError> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err(PlanError::Annotation { value: excerpt(text) }),
    };
    given.iter().map(pair).collect()
}
