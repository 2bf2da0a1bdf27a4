//! Content digests: parsed strictly, computed while bytes pass by.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

/// A content digest, `algorithm:hex`, that is known to be well formed.
///
/// Only lower-case sha256, sha384 and sha512 are accepted
/// ([descriptor, digests](https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests)), so
/// a digest can be put into a URL or a file name as it is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: DigestAlgorithm,
    hex: String,
}

impl Digest {
    /// Returns the sha256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut digester = Digester::new(DigestAlgorithm::Sha256);
        digester.update(bytes);
        digester.finish()
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// Returns the hexadecimal part, lower case.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Returns the first twelve hexadecimal digits, for people.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseDigestError { text: text.chars().take(100).collect() };
        let (name, hex) = text.split_once(':').ok_or_else(refuse)?;
        let algorithm = DigestAlgorithm::from_name(name).ok_or_else(refuse)?;
        let well_formed =
            hex.len() == algorithm.hex_length() && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return Err(refuse());
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseDigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// A digest algorithm that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DigestAlgorithm {
    /// SHA-256, the one that everything is written with.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl DigestAlgorithm {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "sha384" => Some(Self::Sha384),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Returns the name as it stands in a digest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }
}

/// Computes a [`Digest`] from bytes as they pass by.
#[derive(Clone)]
pub struct Digester {
    algorithm: DigestAlgorithm,
    context: digest::Context,
}

impl Digester {
    /// Starts a computation.
    pub fn new(algorithm: DigestAlgorithm) -> Self {
        let implementation = match algorithm {
            DigestAlgorithm::Sha256 => &digest::SHA256,
            DigestAlgorithm::Sha384 => &digest::SHA384,
            DigestAlgorithm::Sha512 => &digest::SHA512,
        };
        Self { algorithm, context: digest::Context::new(implementation) }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// Returns the digest of everything taken in.
    pub fn finish(self) -> Digest {
        Digest { algorithm: self.algorithm, hex: hex::encode(self.context.finish().as_ref()) }
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digester").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// The text is not a digest that we accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits (or sha384, sha512)")]
pub struct ParseDigestError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_the_empty_json_object() {
        let digest = Digest::of(b"{}");

        assert_eq!(digest.to_string(), "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn anything_but_a_lower_case_known_digest_is_refused() {
        let hex = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let refused = [
            String::new(),
            hex.to_owned(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("SHA256:{hex}"),
            format!("sha1:{hex}"),
            format!("md5:{hex}"),
            format!("sha512:{hex}"),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}0"),
            "sha256:../../../etc/passwd".to_owned(),
        ];

        for text in refused {
            assert!(text.parse::<Digest>().is_err(), "{text} was accepted");
        }
        assert!(format!("sha256:{hex}").parse::<Digest>().is_ok());
    }
}
