//! Is it true.

use serde::Serialize;

/// Whether a signature must be over the image that is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claims {
    /// It must.
    Required,
    /// Only the signature itself is checked.
    NotChecked,
}
