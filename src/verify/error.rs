//! Why an image is not verified.

use crate::oci::{Digest, PinnedReference};
use crate::registry::RegistryError;

/// An image is not verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Every store of signatures was read, and there is none.
    #[error("`{image}` has no signature")]
    NoSignatures {
        /// The image.
        image: PinnedReference,
    },
    /// There is no such image.
    #[error("there is no image at `{reference}`")]
    ImageNotFound {
        /// The image, as it was named.
        reference: String,
    },
    /// There are signatures, and none satisfies the policy.
    #[error("no signature of `{image}` satisfies the policy: {}", list(reasons))]
    NotSatisfied {
        /// The image.
        image: PinnedReference,
        /// Why not, for each signature.
        reasons: Vec<Reason>,
    },
    /// A store of signatures could not be read, so nothing is known.
    #[error("the signatures of `{image}` could not be read")]
    CouldNotVerify {
        /// The image.
        image: String,
        /// What went wrong.
        source: RegistryError,
    },
}

impl VerifyError {
    /// Returns what to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSignatures { image } => Some(format!("sign it: `touchmark sign --key cosign.key {image}`")),
            Self::ImageNotFound { .. } => None,
            Self::NotSatisfied { reasons, .. } => reasons
                .iter()
                .all(|reason| matches!(reason, Reason::WrongKey))
                .then(|| "check that `--key` is the public key of whoever signed the image".to_owned()),
            Self::CouldNotVerify { source, .. } => source.hint(),
        }
    }
}

/// Why a signature does not satisfy the policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Another key made it, or what is signed was changed.
    #[error("it is not by the given key")]
    WrongKey,
    /// It is over another image.
    #[error("it is over `{found}`, another image")]
    OtherImage {
        /// The digest of that image.
        found: String,
    },
    /// An annotation has another value.
    #[error("its annotation `{key}` is `{found}`, not `{wanted}`")]
    Annotation {
        /// The annotation.
        key: String,
        /// The value that it has.
        found: String,
        /// The value that it must have.
        wanted: String,
    },
    /// An annotation is not there.
    #[error("it has no annotation `{key}`")]
    AnnotationMissing {
        /// The annotation.
        key: String,
    },
    /// A bundle that is an attestation, not a signature.
    #[error("it is an attestation of type `{predicate_type}`, not a signature")]
    Attestation {
        /// The type.
        predicate_type: String,
    },
    /// A signature was written in a format in which none is served.
    #[error("none is served as a {format}")]
    NotServed {
        /// The format: `bundle` or `legacy signature`.
        format: &'static str,
    },
    /// What is stored is not what it must be.
    #[error("it is malformed: {what}")]
    Malformed {
        /// What is wrong with it.
        what: String,
    },
}

impl Reason {
    pub(super) fn malformed(what: &(impl ToString + ?Sized)) -> Self {
        Self::Malformed { what: crate::http::excerpt(&what.to_string()) }
    }

    pub(super) fn other(found: &Digest) -> Self {
        Self::OtherImage { found: found.to_string() }
    }
}

/// Names each reason once, at most five of them.
fn list(reasons: &[Reason]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for reason in reasons {
        let text = reason.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let more = texts.len().saturating_sub(5);
    texts.truncate(5);
    if more > 0 {
        texts.push(format!("and {more} more reasons"));
    }
    texts.join("; ")
}
