//! The one HTTP client: TLS roots, proxies, timeouts, retries, redaction of URLs.
//!
//! Everything that speaks HTTP takes its client from here.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::secret::Secret;

/// How to reach servers: decided in the plan.
#[derive(Clone, Debug, Serialize)]
pub struct HttpSpec {
    /// PEM files of certificate authorities that are trusted beside the system's and the compiled-in ones.
    pub certificate_authorities: Vec<PathBuf>,
    /// Proxies, from `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    pub proxies: Proxies,
    /// How long retries may ride out an outage, in total, for one request.
    pub retry_for: Duration,
}

/// The proxies to use. A proxy URL may hold a password, so it is a secret.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Proxies {
    /// For `http://` URLs.
    #[serde(skip)]
    pub http: Option<Secret>,
    /// For `https://` URLs.
    #[serde(skip)]
    pub https: Option<Secret>,
    /// Hosts that are reached directly, in the syntax of `NO_PROXY`.
    pub no_proxy: Option<String>,
}
