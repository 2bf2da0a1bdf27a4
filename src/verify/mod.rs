//! Is it true: every store of signatures is read afresh, and at least one signature must satisfy the policy.
//!
//! Shares nothing with `sign` and `attachment`: what they write is judged here by other code. A failure to read is never
//! taken for an absence.

mod candidate;
mod collect;
mod error;
pub mod output;
mod policy;

use std::collections::BTreeMap;

pub use candidate::Store;
use collect::Finding;
pub use error::{Reason, VerifyError};
pub use policy::{Claims, Policy};

use crate::oci::{Digest, PinnedReference};
use crate::registry::Registry;

/// An image whose signatures satisfy a policy. Only [`verify_image`] makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    image: PinnedReference,
    signatures: Vec<VerifiedSignature>,
    notes: Vec<String>,
}

impl Verified {
    /// Returns the image.
    pub fn image(&self) -> &PinnedReference {
        &self.image
    }

    /// Returns every signature that satisfies the policy; there is at least one.
    pub fn signatures(&self) -> &[VerifiedSignature] {
        &self.signatures
    }

    /// Returns what could not be read although it did not matter, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// A signature that satisfies a policy.
#[derive(Clone, Debug)]
pub struct VerifiedSignature {
    /// Where it is stored.
    pub store: Store,
    /// The manifest that holds it.
    pub manifest: Digest,
    /// Its signed annotations.
    pub annotations: BTreeMap<String, String>,
    /// What is signed: the simple signing payload, or the statement.
    pub payload: Vec<u8>,
    /// Whether it comes with log entries or timestamps. They are not checked, and nothing is concluded from them.
    pub unchecked_evidence: bool,
}

/// Verifies that `image` has a signature that satisfies `policy`.
///
/// Looks at the legacy tag, at every referrer, and at cosign's experimental layout; costs a request for each list and
/// one or two for each signature. Fails with [`VerifyError::NoSignatures`] only if every store could be read.
pub async fn verify_image(
    registry: &Registry,
    image: &PinnedReference,
    policy: &Policy,
) -> Result<Verified, VerifyError> {
    let (mut signatures, mut reasons, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for finding in collect::collect(registry, image, policy).await {
        match finding {
            Finding::Accepted(signature) => signatures.push(*signature),
            Finding::Refused(reason) => reasons.push(reason),
            Finding::Unread(error) => failures.push(error),
        }
    }
    if !signatures.is_empty() {
        let notes =
            failures.iter().map(|error| format!("there may be more signatures, which could not be read: {error}"));
        return Ok(Verified { image: image.clone(), signatures, notes: notes.collect() });
    }
    if let Some(source) = failures.into_iter().next() {
        return Err(VerifyError::CouldNotVerify { image: image.to_string(), source });
    }
    if !reasons.is_empty() {
        return Err(VerifyError::NotSatisfied { image: image.clone(), reasons });
    }
    match registry.manifest_exists(image).await {
        Ok(true) => Err(VerifyError::NoSignatures { image: image.clone() }),
        Ok(false) => Err(VerifyError::ImageNotFound { reference: image.to_string() }),
        Err(source) => Err(VerifyError::CouldNotVerify { image: image.to_string(), source }),
    }
}
