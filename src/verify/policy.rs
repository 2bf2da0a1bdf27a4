//! What a signature must satisfy.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Reason;
use crate::sigstore::PublicKey;

/// What a signature must satisfy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The key that must have made it.
    pub key: PublicKey,
    /// Annotations that it must have, with these values.
    pub annotations: BTreeMap<String, String>,
    /// Whether it must be over the image that is verified.
    pub claims: Claims,
}

/// Whether a signature must be over the image that is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claims {
    /// It must.
    Required,
    /// Only the signature itself is checked.
    NotChecked,
}

impl Policy {
    /// Checks that every annotation that is demanded is there.
    pub(super) fn check_annotations(&self, found: &BTreeMap<String, String>) -> Result<(), Reason> {
        for (key, wanted) in &self.annotations {
            match found.get(key) {
                Some(value) if value == wanted => {}
                Some(value) => {
                    return Err(Reason::Annotation {
                        key: key.clone(),
                        found: crate::http::excerpt(value),
                        wanted: wanted.clone(),
                    });
                }
                None => return Err(Reason::AnnotationMissing { key: key.clone() }),
            }
        }
        Ok(())
    }
}
