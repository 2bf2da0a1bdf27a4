//! Names of repositories, tags and images, parsed once and strictly.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{Digest, ParseDigestError};

/// What a reference without a registry host means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultRegistry {
    /// An error: a job that publishes must say where to.
    None,
    /// Docker Hub, as every container tool reads it.
    DockerHub,
}

/// A repository in a registry, for example `ghcr.io/acme/app`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    registry: String,
    path: String,
}

impl Repository {
    /// Returns the registry's host, with its port if it has one. Docker Hub is `index.docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the path within the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the reference to `digest` in this repository.
    pub fn pin(&self, digest: Digest) -> PinnedReference {
        PinnedReference { repository: self.clone(), digest }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl Serialize for Repository {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A tag, for example `v1.2.3`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Tag(String);

impl Tag {
    /// Returns the tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let first = text.bytes().next().is_some_and(word);
        let rest = text.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
        if first && rest && text.len() <= 128 {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseReferenceError::Tag { tag: excerpt(text) })
        }
    }
}

/// A reference as it was written: a repository, perhaps a tag, perhaps a digest.
///
/// Where it has both, the digest says what is meant and the tag is only a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    repository: Repository,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`.
    ///
    /// A first component is a host when it has a dot or a colon or is `localhost`. Docker Hub's aliases become
    /// `index.docker.io`, and `library/` is added to its one-component names.
    pub fn parse(text: &str, default_registry: DefaultRegistry) -> Result<Self, ParseReferenceError> {
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(ParseReferenceError::Scheme { scheme: excerpt(scheme), rest: excerpt(rest) });
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !name.is_empty() && !tag.contains('/') => (name, Some(tag.parse::<Tag>()?)),
            _ => (name, None),
        };
        let repository = parse_repository(name, default_registry)?;
        Ok(Self { repository, tag, digest })
    }

    /// Returns the reference to `tag` in `repository`.
    pub fn tagged(repository: &Repository, tag: &Tag) -> Self {
        Self { repository: repository.clone(), tag: Some(tag.clone()), digest: None }
    }

    /// Returns the repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Returns the tag, if one was written.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// Returns the digest, if one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns the reference pinned, if a digest was written.
    pub fn pinned(&self) -> Option<PinnedReference> {
        self.digest.clone().map(|digest| self.repository.pin(digest))
    }

    /// Returns the tag or digest to ask a registry for: the digest, else the tag, else `latest`.
    pub fn target(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_string(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// A reference that names exactly one manifest forever.
///
/// Signing, attesting and verifying take this type, so a mutable tag cannot be signed by mistake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PinnedReference {
    repository: Repository,
    digest: Digest,
}

impl PinnedReference {
    /// Returns the repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Returns the digest of the manifest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl fmt::Display for PinnedReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

impl Serialize for PinnedReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn parse_repository(name: &str, default_registry: DefaultRegistry) -> Result<Repository, ParseReferenceError> {
    let (registry, path) = match name.split_once('/') {
        Some((host, path)) if is_host(host) => (canonical_registry(host)?, path.to_owned()),
        _ if default_registry == DefaultRegistry::DockerHub => (DOCKER_HUB.to_owned(), name.to_owned()),
        _ => return Err(ParseReferenceError::NoRegistry { name: excerpt(name) }),
    };
    check_path(&path)?;
    let path = if registry == DOCKER_HUB && !path.contains('/') { format!("library/{path}") } else { path };
    Ok(Repository { registry, path })
}

const DOCKER_HUB: &str = "index.docker.io";

fn is_host(component: &str) -> bool {
    component == "localhost" || component.contains(['.', ':'])
}

fn canonical_registry(host: &str) -> Result<String, ParseReferenceError> {
    let refuse = || ParseReferenceError::Host { host: excerpt(host) };
    let lower = host.to_ascii_lowercase();
    let (name, port) = match lower.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (lower.as_str(), None),
    };
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let name_fits = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host_name(name),
    };
    if !name_fits || !port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0)) {
        return Err(refuse());
    }
    Ok(match lower.as_str() {
        "docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" | DOCKER_HUB => DOCKER_HUB.to_owned(),
        _ => lower,
    })
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Checks a repository path by the rules that cosign's references follow.
fn check_path(path: &str) -> Result<(), ParseReferenceError> {
    let refuse = |reason: &'static str| ParseReferenceError::Path { path: excerpt(path), reason };
    if path.len() < 2 {
        return Err(refuse("it is shorter than two characters"));
    }
    if path.len() > 255 {
        return Err(refuse("it is longer than 255 characters"));
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(refuse("it has upper-case letters"));
    }
    // The distribution specification's grammar, as the OCI libraries read it.
    match oci_client::Reference::try_from(format!("localhost/{path}")) {
        Ok(parsed) if parsed.repository() == path => Ok(()),
        _ => Err(refuse("its components must be lower-case letters and digits, separated by `.`, `_`, `__` or dashes")),
    }
}

fn excerpt(text: &str) -> String {
    text.chars().take(300).collect()
}

/// The text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    /// No host, where one is required.
    #[error("reference has no registry host")]
    NoRegistry {
        /// The name as it was written.
        name: String,
    },
    /// A URL instead of a reference.
    #[error("it begins with `{scheme}://`, and a reference has no scheme")]
    Scheme {
        /// The scheme that was written.
        scheme: String,
        /// What follows it.
        rest: String,
    },
    /// The host is not one.
    #[error("`{host}` is not a registry host")]
    Host {
        /// The host as it was written.
        host: String,
    },
    /// The repository path is not one.
    #[error("`{path}` is not a repository path: {reason}")]
    Path {
        /// The path as it was written.
        path: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The tag is not one.
    #[error("`{tag}` is not a tag: at most 128 letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`")]
    Tag {
        /// The tag as it was written.
        tag: String,
    },
    /// The digest is not one.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
}

impl ParseReferenceError {
    /// Returns what to type instead, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRegistry { name } if name.contains('/') => {
                Some(format!("write the registry host too, for example `ghcr.io/{name}`"))
            }
            Self::NoRegistry { name } => {
                Some(format!("write the registry host too, for example `ghcr.io/acme/{name}`"))
            }
            Self::Scheme { rest, .. } => Some(format!("write `{rest}`")),
            Self::Path { path, .. } if path.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                Some(format!("write `{}`", path.to_lowercase()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn canonical(text: &str) -> Result<String, ParseReferenceError> {
        Reference::parse(text, DefaultRegistry::DockerHub).map(|reference| reference.to_string())
    }

    #[test]
    fn references_are_read_as_cosign_reads_them() {
        let table = [
            ("alpine", "index.docker.io/library/alpine"),
            ("alpine:3.20", "index.docker.io/library/alpine:3.20"),
            ("docker.io/foo/bar", "index.docker.io/foo/bar"),
            ("index.docker.io/foo/bar", "index.docker.io/foo/bar"),
            ("foo/bar", "index.docker.io/foo/bar"),
            ("localhost/app", "localhost/app"),
            ("localhost:5000/app", "localhost:5000/app"),
            ("127.0.0.1:5066/demo/app:v1", "127.0.0.1:5066/demo/app:v1"),
            ("[::1]:5000/app", "[::1]:5000/app"),
            ("GHCR.io/acme/app", "ghcr.io/acme/app"),
        ];

        for (text, expected) in table {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let reference = Reference::parse(&format!("ghcr.io/acme/app:v1@{DIGEST}"), DefaultRegistry::None).unwrap();

        assert_eq!(reference.target(), DIGEST);
        assert_eq!(reference.tag().unwrap().as_str(), "v1");
        assert_eq!(reference.pinned().unwrap().to_string(), format!("ghcr.io/acme/app@{DIGEST}"));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let refused = [
            "",
            "/",
            "a",
            "https://ghcr.io/acme/app",
            "ghcr.io/Acme/app",
            "ghcr.io/acme/app:",
            "ghcr.io/acme/app:-v1",
            "ghcr.io/acme//app",
            "ghcr.io/acme/../app",
            "ghcr.io/acme/app@sha256:abc",
            "ghcr.io/acme/app@@x",
            "ghcr.io:port/acme/app",
            "ghcr.io:0/acme/app",
            "ghcr.io:1:2/acme/app",
            "evil@ghcr.io/acme/app",
            "ghcr.io/acme/app\n::error::",
            "ghcr.io/acme/äpp",
            "[::1/app",
        ];

        for text in refused {
            assert!(canonical(text).is_err(), "{text:?} was accepted as {:?}", canonical(text));
        }
        let long = format!("ghcr.io/acme/app:{}", "t".repeat(129));
        assert!(canonical(&long).is_err());
        assert!(canonical(&long[..long.len() - 1]).is_ok());
    }

    #[test]
    fn a_missing_host_is_named_with_what_to_type() {
        let error = Reference::parse("acme/app", DefaultRegistry::None).unwrap_err();

        assert_eq!(error.to_string(), "reference has no registry host");
        assert_eq!(error.hint().as_deref(), Some("write the registry host too, for example `ghcr.io/acme/app`"));
    }
}
