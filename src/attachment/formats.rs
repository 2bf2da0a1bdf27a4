//! Which storage formats are written.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Which storage formats are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Formats {
    /// Both, so that every released cosign verifies the image.
    #[default]
    Both,
    /// A Sigstore bundle as a referrer of the image: cosign 3.
    Bundle,
    /// A layer of the manifest at the `.sig` tag: cosign 2, and older admission controllers.
    Legacy,
}

impl Formats {
    /// Returns whether bundles are written.
    pub fn bundle(self) -> bool {
        matches!(self, Self::Both | Self::Bundle)
    }

    /// Returns whether the legacy format is written.
    pub fn legacy(self) -> bool {
        matches!(self, Self::Both | Self::Legacy)
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Both => "both",
            Self::Bundle => "bundle",
            Self::Legacy => "legacy",
        })
    }
}

impl FromStr for Formats {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Both, Self::Bundle, Self::Legacy].into_iter().find(|formats| formats.to_string() == text).ok_or(())
    }
}
