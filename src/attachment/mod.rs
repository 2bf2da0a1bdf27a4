//! How a signature is stored beside its image: as a layer at the `.sig` tag, and as a bundle that refers to the image.
//!
//! What is signed and by whom is decided elsewhere; whether what is stored is true is for `verify`, which shares nothing
//! with this room.

mod formats;
mod referrer;
mod tag_scheme;

pub use formats::Formats;
pub use referrer::{NewBundle, attach_bundle, find_bundle};
pub use tag_scheme::{LegacySignature, attach_legacy, find_legacy, signature_tag};

use crate::oci::PinnedReference;
use crate::registry::RegistryError;

/// A signature that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The manifest that holds it.
    pub manifest: PinnedReference,
    /// Whether it was there before.
    pub outcome: Outcome,
}

/// Whether a signature was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was added.
    Added,
    /// It was there: nothing was written.
    AlreadyThere,
}

/// A signature could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The tag for signatures holds something that is no list of signatures.
    #[error("`{tag}` holds something that is not a list of signatures: {reason}")]
    NotSignatures {
        /// The tag, with its repository.
        tag: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More signatures than any verifier accepts.
    #[error("`{tag}` holds {count} signatures already, and verifiers accept {limit}")]
    TooMany {
        /// The tag, with its repository.
        tag: String,
        /// How many there are.
        count: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// Others keep overwriting the tag.
    #[error("`{tag}` does not keep the signature after {attempts} attempts: others write to it at the same time")]
    Contended {
        /// The tag, with its repository.
        tag: String,
        /// How often it was tried.
        attempts: u32,
    },
}

impl AttachError {
    /// Returns whether the registry failed, rather than what is stored in it.
    pub fn is_registry(&self) -> bool {
        matches!(self, Self::Registry(_))
    }

    /// Returns what to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::NotSignatures { .. } => Some("delete that tag, or write `format: bundle`".to_owned()),
            Self::TooMany { tag, .. } => {
                Some(format!("delete old signatures: `cosign clean` removes those of `{tag}`"))
            }
            Self::Contended { .. } => Some("re-run the job: it adds only what is missing".to_owned()),
        }
    }
}
