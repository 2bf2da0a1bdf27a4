//! What the plan decides about registries.

use std::fmt;
use std::path::PathBuf;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::http::HttpSpec;
use crate::oci::Repository;
use crate::secret::Secret;

/// How to speak to registries: decided in the plan.
#[derive(Clone, Debug, Serialize)]
pub struct RegistrySpec {
    /// Certificate authorities, proxies, retries.
    pub http: HttpSpec,
    /// Where plain HTTP is spoken.
    pub plain_http: PlainHttp,
    /// Where credentials come from.
    pub credentials: CredentialsSpec,
    /// How many requests may be under way at once.
    pub jobs: usize,
    /// Repositories that may hold blobs of the image already, to mount them from.
    pub mount_from: Vec<Repository>,
}

/// Where plain HTTP is spoken.
///
/// Loopback hosts are spoken to in plain HTTP unless a certificate authority was named. There is no
/// falling back from one to the other: a fallback is a downgrade that an attacker can force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlainHttp {
    /// To loopback hosts.
    #[default]
    LoopbackOnly,
    /// To every registry: the `insecure` input.
    Allowed,
}

/// Where credentials come from, in order of precedence.
#[derive(Clone, Default, Serialize)]
pub struct CredentialsSpec {
    /// Credentials that were given, by registry host (with its port, if it has one).
    pub explicit: Vec<(String, Credential)>,
    /// Files of Docker's (`config.json`) or Podman's (`auth.json`) kind. The first that has credentials wins; one that
    /// does not exist is skipped.
    pub config_files: Vec<PathBuf>,
    /// The directories, as in `PATH`, in which credential helpers are looked up. Only absolute ones count.
    pub helper_path: Option<String>,
    /// The whole environment of a credential helper.
    #[serde(skip)]
    pub helper_environment: Vec<(String, String)>,
}

impl fmt::Debug for CredentialsSpec {
    /// Leaves out the values of the helpers' environment: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.helper_environment.iter().map(|(name, _)| name).collect();
        f.debug_struct("CredentialsSpec")
            .field("explicit", &self.explicit)
            .field("config_files", &self.config_files)
            .field("helper_path", &self.helper_path)
            .field("helper_environment", &names)
            .finish()
    }
}

/// What is shown to a registry, or to its token server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    Anonymous,
    /// A user name and a password or access token.
    Basic {
        /// The user's name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token, exchanged for access tokens at the token server.
    IdentityToken(Secret),
    /// An access token, sent as it is.
    RegistryToken(Secret),
}

impl Credential {
    fn kind(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Basic { .. } => "basic",
            Self::IdentityToken(_) => "identity-token",
            Self::RegistryToken(_) => "registry-token",
        }
    }
}

impl Serialize for Credential {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", self.kind())?;
        if let Self::Basic { username, .. } = self {
            map.serialize_entry("username", username)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serialised_credential_has_no_secret() {
        let secret = || Secret::new("hunter2");
        let credentials = [
            Credential::Anonymous,
            Credential::Basic { username: "ann".to_owned(), password: secret() },
            Credential::IdentityToken(secret()),
            Credential::RegistryToken(secret()),
        ];

        let text = serde_json::to_string(&credentials).unwrap();

        assert_eq!(
            text,
            r#"[{"kind":"anonymous"},{"kind":"basic","username":"ann"},{"kind":"identity-token"},{"kind":"registry-token"}]"#
        );
        let spec = CredentialsSpec {
            explicit: credentials.map(|credential| ("ghcr.io".to_owned(), credential)).into(),
            helper_environment: vec![("AWS_SECRET_ACCESS_KEY".to_owned(), "hunter2".to_owned())],
            ..CredentialsSpec::default()
        };
        assert!(!format!("{spec:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&spec).unwrap().contains("hunter2"));
    }
}
