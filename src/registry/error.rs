//! What can go wrong with a registry, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use crate::http::HttpError;
use crate::oci::{Digest, ParseManifestError, PinnedReference, Repository};
use crate::source::SourceError;

/// A registry did not do what it was asked to, or the image to push cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The HTTP client cannot be set up.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Credentials cannot be read.
    #[error("cannot read the credentials for `{registry}`")]
    Credentials {
        /// The registry they are for.
        registry: String,
        /// What went wrong.
        source: CredentialsError,
    },
    /// The registry or its token server does not accept the credentials, or wants some and there are none.
    #[error("`{registry}` {}", presented.verdict())]
    Unauthorized {
        /// The registry.
        registry: String,
        /// Whether there were credentials.
        presented: Presented,
        /// The registry's answer.
        source: Box<Rejection>,
    },
    /// The registry asks for credentials in a way that would give them to somebody else, or that we do not know.
    #[error("`{registry}` asks for a login that is refused: {reason}")]
    Challenge {
        /// The registry.
        registry: String,
        /// The rule that it breaks.
        reason: String,
    },
    /// The token server's answer has no token.
    #[error("the token server of `{registry}` gave no usable token: {reason}")]
    Token {
        /// The registry.
        registry: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The credentials are good, but not for this.
    #[error("access to `{repository}` was denied")]
    Denied {
        /// The repository.
        repository: Repository,
        /// Whether there were credentials.
        presented: Presented,
        /// The registry's answer.
        source: Box<Rejection>,
    },
    /// The server's certificate was issued by an authority that we do not know.
    #[error("the certificate of `{host}` was issued by an unknown authority")]
    UnknownCertificateAuthority {
        /// The host.
        host: String,
    },
    /// The server's certificate is refused: expired, or for another host.
    #[error("the certificate of `{host}` is refused: {reason}")]
    Certificate {
        /// The host.
        host: String,
        /// The rule that it breaks.
        reason: String,
    },
    /// The server does not speak TLS.
    #[error("`{host}` does not speak https")]
    NotTls {
        /// The host.
        host: String,
    },
    /// No connection, or it broke, time and again.
    #[error("no answer from `{host}` ({attempts} {})", plural(*attempts))]
    Connect {
        /// The host.
        host: String,
        /// How often it was tried.
        attempts: u32,
        /// What went wrong the last time.
        source: TransportError,
    },
    /// The registry answered with an error that may pass until the budget for retries was spent.
    #[error("`{host}` is not available ({attempts} {})", plural(*attempts))]
    Unavailable {
        /// The host.
        host: String,
        /// How often it was tried.
        attempts: u32,
        /// The last answer.
        source: Box<Rejection>,
    },
    /// The repository does not exist.
    #[error("repository `{repository}` was not found")]
    NotFound {
        /// The repository.
        repository: Repository,
        /// The registry's answer.
        source: Box<Rejection>,
    },
    /// The manifest does not exist.
    #[error("manifest `{image}` was not found")]
    ManifestNotFound {
        /// The manifest.
        image: PinnedReference,
    },
    /// The registry refuses the request for a reason of its own.
    #[error("`{repository}` refused a request")]
    Status {
        /// The repository.
        repository: Repository,
        /// The registry's answer.
        source: Box<Rejection>,
    },
    /// The registry sends us somewhere that we do not go.
    #[error("`{host}` redirects to `{target}`, which is refused: {reason}")]
    Redirect {
        /// The host that redirects.
        host: String,
        /// Where it redirects to, redacted.
        target: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The registry's answer does not follow the specification.
    #[error("unexpected answer to `{request}`: {reason}")]
    Protocol {
        /// The request.
        request: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The registry serves a manifest that is none.
    #[error("`{name}` is not a manifest that is accepted")]
    Manifest {
        /// The manifest.
        name: String,
        /// What is wrong with it.
        source: ParseManifestError,
    },
    /// The registry serves other content than was asked for, or stored other content than was sent.
    #[error("`{name}` should have digest `{expected}`, but the registry says `{actual}`")]
    Digest {
        /// What was asked for or sent.
        name: String,
        /// The digest that it must have.
        expected: Digest,
        /// The digest that it has, or that the registry says it has.
        actual: String,
    },
    /// More bytes than are accepted.
    #[error("`{name}` is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What is too large.
        name: String,
        /// The most that is accepted.
        limit: u64,
    },
    /// A listing of referrers goes on and on.
    #[error("the referrers of `{subject}` are more than is accepted ({limit})")]
    TooManyReferrers {
        /// What they refer to.
        subject: PinnedReference,
        /// The limit that they exceed.
        limit: &'static str,
    },
    /// The tag under which referrers are listed holds something else.
    #[error("`{name}` is not a list of referrers: {reason}")]
    ReferrersTag {
        /// The tag, with its repository.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry accepted a referrer and does not list it, or others keep overwriting the list.
    #[error("`{subject}` does not list its referrer `{digest}` after {attempts} attempts")]
    NotListed {
        /// What it refers to.
        subject: PinnedReference,
        /// The referrer.
        digest: Digest,
        /// How often it was tried.
        attempts: u32,
    },
    /// The source image cannot be read.
    #[error("cannot open `{digest}` of the source image")]
    Source {
        /// The content.
        digest: Digest,
        /// What went wrong.
        source: Box<SourceError>,
    },
    /// The source image cannot be read to its end.
    #[error("cannot read `{digest}` of the source image")]
    SourceRead {
        /// The content.
        digest: Digest,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The content of the source image is not what its manifest says.
    #[error("`{digest}` of the source image is not what it should be: {reason}")]
    SourceContent {
        /// The digest that it should have.
        digest: Digest,
        /// What it is instead.
        reason: String,
    },
}

impl RegistryError {
    /// Returns whether the cause is the source image, not the registry.
    pub fn is_source(&self) -> bool {
        matches!(self, Self::Source { .. } | Self::SourceRead { .. } | Self::SourceContent { .. })
    }

    /// Returns whether a write was refused because of another one to the same tag at the same moment.
    ///
    /// docker-registry confuses the two contents, and calls a digest wrong that is right.
    pub fn is_collision(&self) -> bool {
        match self {
            Self::Status { source, .. } => matches!(source.status, 409 | 412) || source.is("DIGEST_INVALID"),
            _ => false,
        }
    }

    /// Returns what to type, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Http(error) => error.hint(),
            Self::Credentials { source, .. } => source.hint(),
            Self::Unauthorized { registry, presented, source } => login_hint(registry, *presented, source),
            Self::Denied { repository, presented, source } => {
                denied_hint(repository, source).or_else(|| login_hint(repository.registry(), *presented, source))
            }
            Self::UnknownCertificateAuthority { host } => {
                Some(format!("if `{host}` has a private certificate authority, give its PEM file as `registry-ca`"))
            }
            Self::NotTls { host } => {
                Some(format!("if `{host}` is meant to be reached in plain HTTP, set `insecure: true`"))
            }
            Self::Connect { host, .. } if host.starts_with("localhost") || host.starts_with("127.") => Some(format!(
                "inside a container, `{host}` is the container itself: use the name of the service, for example \
                 `registry:5000`, with `insecure: true`"
            )),
            Self::Status { source, .. }
                if source.message.as_deref().is_some_and(|text| text.contains(HTTPS_SERVER)) =>
            {
                Some(
                    "the registry speaks https: leave out `insecure`, and give `registry-ca` if it is on this machine"
                        .to_owned(),
                )
            }
            Self::NotFound { repository, .. } if is_ecr(repository.registry()) => Some(format!(
                "create the repository: `aws ecr create-repository --repository-name {}`",
                repository.path()
            )),
            Self::Redirect { reason, .. } if *reason == HTTPS_TO_HTTP => {
                Some("let the proxy in front of the registry send `X-Forwarded-Proto: https` to it".to_owned())
            }
            _ => None,
        }
    }
}

/// The reason that a redirect from `https` to `http` is refused for.
pub(super) const HTTPS_TO_HTTP: &str = "it leads from https to http";

/// What Go's servers answer to plain HTTP on a port of https.
const HTTPS_SERVER: &str = "HTTP request to an HTTPS server";

fn is_ecr(registry: &str) -> bool {
    registry.ends_with(".amazonaws.com") && registry.contains(".dkr.ecr.")
}

fn login_hint(registry: &str, presented: Presented, rejection: &Rejection) -> Option<String> {
    match presented {
        Presented::Nothing => Some(format!(
            "set the inputs `username` and `password` for `{registry}`, or let `docker login {registry}` run before \
             and pass its directory as `DOCKER_CONFIG`"
        )),
        Presented::Credentials if registry == "ghcr.io" && rejection.writes() => Some(GHCR_HINT.to_owned()),
        Presented::Credentials => None,
    }
}

fn denied_hint(repository: &Repository, rejection: &Rejection) -> Option<String> {
    match repository.registry() {
        "ghcr.io" if rejection.writes() => Some(GHCR_HINT.to_owned()),
        "registry.gitlab.com" => Some(format!(
            "a job token reaches the registry of its own project only: for `{}`, add this project to that project's \
             job token allow-list, or give a deploy token as `username` and `password`",
            repository.path()
        )),
        _ => None,
    }
}

const GHCR_HINT: &str = "add `permissions: packages: write` to the job";

fn plural(attempts: u32) -> &'static str {
    if attempts == 1 { "attempt" } else { "attempts" }
}

/// Whether credentials were shown to a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// None were found, or none were asked for.
    Nothing,
    /// Some were.
    Credentials,
}

impl Presented {
    fn verdict(self) -> &'static str {
        match self {
            Self::Nothing => "wants a login, and no credentials for it were found",
            Self::Credentials => "does not accept the credentials",
        }
    }
}

/// An answer that says no: the request, the status, and what the server says of it, made harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The request: its method and its path, or its redacted URL if it went to another host.
    pub request: String,
    /// The status of the answer.
    pub status: u16,
    /// The first error code of the answer, for example `NAME_UNKNOWN`.
    pub code: Option<String>,
    /// The message of the answer, shortened, without control characters.
    pub message: Option<String>,
    pub(super) purpose: Purpose,
}

/// What a request needs the right to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Purpose {
    Pull,
    Push,
}

impl Rejection {
    fn writes(&self) -> bool {
        self.purpose == Purpose::Push
    }

    /// Returns whether it says that something a manifest refers to is missing.
    pub(super) fn is_blob_unknown(&self) -> bool {
        ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"].into_iter().any(|code| self.is(code))
    }

    /// Returns whether the answer has this error code.
    pub(super) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.request, self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Rejection {}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// There was no connection, or it broke.
    #[error("{reason}")]
    Connection {
        /// The innermost reason.
        reason: String,
    },
    /// The server took too long.
    #[error("no answer within {seconds} seconds")]
    Silent {
        /// For how long.
        seconds: u64,
    },
}

/// Credentials cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A configuration file cannot be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A configuration file is not what Docker or Podman write. What it says is not shown: it may be a secret.
    #[error("`{}` is not a Docker or Podman configuration: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A credential helper's name could be a path or worse.
    #[error("`{name}` is not the name of a credential helper")]
    HelperName {
        /// The name.
        name: String,
    },
    /// A credential helper is not installed.
    #[error("the credential helper `docker-credential-{name}` was not found")]
    HelperMissing {
        /// Its name.
        name: String,
    },
    /// A credential helper failed. What it printed is not shown: it may be a secret.
    #[error("the credential helper `docker-credential-{name}` failed: {reason}")]
    Helper {
        /// Its name.
        name: String,
        /// What went wrong.
        reason: String,
    },
}

impl CredentialsError {
    /// Returns what to type instead, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::HelperMissing { name } => Some(format!(
                "set the inputs `username` and `password`, or put `docker-credential-{name}` into an absolute \
                 directory of `PATH`"
            )),
            Self::File { .. } | Self::Malformed { .. } | Self::HelperName { .. } | Self::Helper { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{DefaultRegistry, Reference};

    fn denied(repository: &str, purpose: Purpose) -> RegistryError {
        RegistryError::Denied {
            repository: Reference::parse(repository, DefaultRegistry::None).unwrap().repository().clone(),
            presented: Presented::Credentials,
            source: Box::new(Rejection {
                request: "PUT /v2/acme/app/manifests/v1".to_owned(),
                status: 403,
                code: Some("DENIED".to_owned()),
                message: Some("permission_denied: write_package".to_owned()),
                purpose,
            }),
        }
    }

    #[test]
    fn a_denied_push_to_ghcr_names_the_permission() {
        let error = denied("ghcr.io/acme/app", Purpose::Push);

        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(error.to_string(), "access to `ghcr.io/acme/app` was denied");
        assert_eq!(cause, "PUT /v2/acme/app/manifests/v1: 403 DENIED: permission_denied: write_package");
        assert_eq!(error.hint().as_deref(), Some("add `permissions: packages: write` to the job"));
        assert_eq!(denied("ghcr.io/acme/app", Purpose::Pull).hint(), None);
        assert_eq!(denied("quay.io/acme/app", Purpose::Push).hint(), None);
    }

    #[test]
    fn a_missing_ecr_repository_can_be_created() {
        let name = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/acme/app";
        let repository = Reference::parse(name, DefaultRegistry::None).unwrap().repository().clone();
        let RegistryError::Denied { source, .. } = denied("ghcr.io/acme/app", Purpose::Push) else { unreachable!() };

        let error = RegistryError::NotFound { repository, source };

        assert_eq!(
            error.hint().as_deref(),
            Some("create the repository: `aws ecr create-repository --repository-name acme/app`")
        );
    }
}
