//! The one HTTP client: TLS roots, proxies, timeouts, retries, redaction of URLs.
//!
//! Everything that speaks HTTP takes its client from here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{self, HeaderMap};
use reqwest::{Certificate, NoProxy, Proxy, StatusCode};
use serde::Serialize;
use tokio::time::Instant;
use url::{Host, Url};

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

/// How long a server may be silent before it is taken for dead.
///
/// The client has no read timeout of its own, because `reqwest`'s would also run while a large body is being sent:
/// whoever waits for an answer bounds the silence, not the transfer.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Shorter than servers keep idle connections, so that a request is seldom sent into one that is being closed.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Builds the client. It does no I/O beyond reading certificate files.
///
/// HTTP/1.1 only (HTTP/2 windows throttle uploads); redirects are not followed, because each caller has its own rules
/// for where credentials may go; no cookies, no `Referer`, no content encoding; the environment's proxies are ignored.
pub fn client(spec: &HttpSpec) -> Result<reqwest::Client, HttpError> {
    let own = own_authorities(spec)?;
    let compiled = || webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(AsRef::as_ref);
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "cannot read the system's certificate authorities");
    }

    let everything = compiled().chain(system.certs.iter().map(AsRef::as_ref));
    match build(spec, authorities(everything).chain(own.iter().map(|(_, own)| own.clone()))) {
        Ok(client) => Ok(client),
        Err(error) => {
            tracing::debug!(%error, "a certificate authority of the system cannot be used: leaving all of them out");
            for (path, certificate) in &own {
                build(spec, [certificate.clone()])
                    .map_err(|source| HttpError::AuthorityUnusable { path: path.clone(), source })?;
            }
            build(spec, authorities(compiled()).chain(own.into_iter().map(|(_, own)| own)))
                .map_err(|source| HttpError::Client { source })
        }
    }
}

fn build(
    spec: &HttpSpec,
    authorities: impl IntoIterator<Item = Certificate>,
) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .http1_only()
        .tls_certs_only(authorities)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tcp_nodelay(true)
        .user_agent(concat!("touchmark/", env!("CARGO_PKG_VERSION")))
        .no_proxy();
    if let Some(proxy) = &spec.proxies.http {
        builder = builder.proxy(Proxy::http(proxy.expose())?.no_proxy(direct(&spec.proxies)));
    }
    if let Some(proxy) = &spec.proxies.https {
        builder = builder.proxy(Proxy::https(proxy.expose())?.no_proxy(direct(&spec.proxies)));
    }
    builder.build().map_err(reqwest::Error::without_url)
}

/// Returns the hosts that no proxy is used for: loopback always, as in Go's tools.
fn direct(proxies: &Proxies) -> Option<NoProxy> {
    let named = proxies.no_proxy.as_deref().unwrap_or_default();
    NoProxy::from_string(&format!("localhost,127.0.0.0/8,::1,{named}"))
}

fn authorities<'a>(ders: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = Certificate> {
    ders.filter_map(|der| Certificate::from_der(der).ok())
}

fn own_authorities(spec: &HttpSpec) -> Result<Vec<(PathBuf, Certificate)>, HttpError> {
    let mut own = Vec::new();
    for path in &spec.certificate_authorities {
        let pem = std::fs::read(path).map_err(|source| HttpError::AuthorityFile { path: path.clone(), source })?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .map_err(|source| HttpError::AuthorityUnusable { path: path.clone(), source })?;
        if certificates.is_empty() {
            return Err(HttpError::NoAuthority { path: path.clone() });
        }
        own.extend(certificates.into_iter().map(|certificate| (path.clone(), certificate)));
    }
    Ok(own)
}

/// Says how long to wait before the next attempt, and when to give up.
///
/// Exponential backoff from 250 ms with full jitter; what a server asks for with `Retry-After` is waited out, up to a
/// minute at a time. Everything together stays within the budget that it is made with.
#[derive(Clone, Debug)]
pub struct Retry {
    started: Instant,
    budget: Duration,
    attempts: u32,
}

/// How hopeful a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server is there and had a bad moment: worth the whole budget.
    Transient,
    /// The server asked for a pause.
    Paused(Duration),
    /// Nothing listens, or the name does not resolve: most often a wrong address, so worth 15 seconds only.
    Unreachable,
}

impl Retry {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(30);
    const UNREACHABLE: Duration = Duration::from_secs(15);

    /// Starts the clock: the first attempt is about to be made.
    pub fn new(budget: Duration) -> Self {
        Self { started: Instant::now(), budget, attempts: 1 }
    }

    /// Returns how many attempts were made.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Waits until it is time for the next attempt. Returns false at once if the budget does not allow for it.
    pub async fn wait(&mut self, failure: Failure) -> Attempt {
        match self.delay(failure) {
            Some(delay) => {
                tracing::debug!(?delay, attempts = self.attempts, "waiting before the next attempt");
                tokio::time::sleep(delay).await;
                self.attempts += 1;
                Attempt::Again
            }
            None => Attempt::GiveUp,
        }
    }

    fn delay(&self, failure: Failure) -> Option<Duration> {
        let backoff = Self::FIRST.saturating_mul(1 << (self.attempts - 1).min(16)).min(Self::LONGEST);
        let (delay, budget) = match failure {
            Failure::Transient => (jitter(backoff), self.budget),
            Failure::Paused(pause) => (pause + jitter(Self::FIRST), self.budget),
            Failure::Unreachable => (jitter(backoff), self.budget.min(Self::UNREACHABLE)),
        };
        let left = budget.checked_sub(self.started.elapsed())?;
        (!left.is_zero() && delay <= left).then_some(delay)
    }
}

/// What [`Retry::wait`] decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Attempt {
    /// The wait is over: try again.
    Again,
    /// The budget is spent.
    GiveUp,
}

/// Returns a random duration up to `longest`.
pub fn jitter(longest: Duration) -> Duration {
    // Without randomness there is only less jitter.
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    longest.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Returns how hopeful an answer with this status is, or `None` if the same request would get the same answer.
pub fn status_failure(status: StatusCode, headers: &HeaderMap) -> Option<Failure> {
    let retryable = matches!(status.as_u16(), 408 | 429 | 499) || status.is_server_error() && status.as_u16() != 501;
    let pause = retry_after(headers, Timestamp::now());
    retryable.then(|| pause.map_or(Failure::Transient, Failure::Paused))
}

/// Returns the pause that `Retry-After` asks for, at most a minute.
///
/// A date is compared with the answer's own `Date`, where it has one, so that a wrong clock here does not matter.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(60);
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
    let now = headers.get(header::DATE).and_then(|value| date(value.to_str().ok()?)).unwrap_or(now);
    Some(Duration::try_from(date(text)?.duration_since(now)).unwrap_or_default().min(LONGEST))
}

/// Why no answer came, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Worth another attempt.
    Retryable(Failure),
    /// The server's certificate is issued by nobody we trust.
    UnknownCertificateAuthority,
    /// The server's certificate is refused for another reason.
    Certificate(String),
    /// The server does not speak TLS.
    NotTls,
    /// Another attempt would fail as this one did.
    Permanent,
}

/// Finds out why no answer came.
pub fn classify(error: &reqwest::Error) -> Silence {
    let chain = || std::iter::successors(std::error::Error::source(error), |error| error.source());
    // rustls is reachable only as text: its errors pass through `io::Error`.
    for cause in chain().map(ToString::to_string) {
        if cause.contains("received corrupt message of type InvalidContentType") {
            return Silence::NotTls;
        }
        if let Some(reason) = cause.strip_prefix("invalid peer certificate: ") {
            return match reason {
                "UnknownIssuer" => Silence::UnknownCertificateAuthority,
                _ => Silence::Certificate(excerpt(reason)),
            };
        }
    }
    if error.is_builder() {
        return Silence::Permanent;
    }
    let refused = chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::ConnectionRefused);
    if refused || error.is_dns() {
        return Silence::Retryable(Failure::Unreachable);
    }
    Silence::Retryable(Failure::Transient)
}

/// Returns the innermost reason for which no answer came, for people.
pub fn reason(error: &reqwest::Error) -> String {
    if error.is_dns() {
        return "the name does not resolve".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    excerpt(&innermost.to_string())
}

/// Returns `url` for people: without user, password and the values of its query, which may be signatures.
pub fn redact(url: &Url) -> String {
    let mut shown = url.clone();
    let stripped = shown.set_username("").and_then(|()| shown.set_password(None));
    if stripped.is_err() {
        return format!("{}:(redacted)", url.scheme());
    }
    shown.set_fragment(None);
    if url.query().is_some() {
        let names: Vec<_> = url.query_pairs().map(|(name, _)| name).collect();
        shown.query_pairs_mut().clear().extend_pairs(names.into_iter().map(|name| (name, "***")));
    }
    excerpt(shown.as_str())
}

/// Returns what may be shown of text that a server sent: one line, no control or direction characters, 300 characters.
pub fn excerpt(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut shown = String::new();
    for (count, character) in text.trim().chars().filter(|character| !is_deceptive(*character)).enumerate() {
        if count == LONGEST {
            shown.push('…');
            break;
        }
        shown.push(if character.is_control() { ' ' } else { character });
    }
    shown
}

/// Characters that change how the text around them is displayed.
fn is_deceptive(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        || (character.is_control() && !character.is_whitespace())
}

/// How far a host is from the public network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This machine.
    Loopback,
    /// A private network: private addresses, single-label names, `.local` and `.internal`.
    Private,
    /// Addresses where only metadata services and the like are found.
    LinkLocal,
    /// Everything else.
    Public,
}

impl Reach {
    /// Returns how far `host` is, judged by what is written: names are not resolved.
    pub fn of<S: AsRef<str>>(host: &Host<S>) -> Self {
        match host {
            Host::Domain(name) => Self::of_name(name.as_ref()),
            Host::Ipv4(address) => Self::of_ipv4(*address),
            Host::Ipv6(address) => Self::of_ipv6(*address),
        }
    }

    fn of_name(name: &str) -> Self {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if name == "localhost" || matches!(name.rsplit_once('.'), Some((_, "localhost"))) {
            Self::Loopback
        } else if !name.contains('.') || matches!(name.rsplit_once('.'), Some((_, "local" | "internal"))) {
            Self::Private
        } else {
            Self::Public
        }
    }

    fn of_ipv4(address: std::net::Ipv4Addr) -> Self {
        let octets = address.octets();
        let shared = octets[0] == 100 && octets[1] & 0b1100_0000 == 0b0100_0000;
        if address.is_loopback() || address.is_unspecified() {
            Self::Loopback
        } else if address.is_link_local() || octets[0] == 0 || address.is_multicast() || address.is_broadcast() {
            Self::LinkLocal
        } else if address.is_private() || shared {
            Self::Private
        } else {
            Self::Public
        }
    }

    fn of_ipv6(address: std::net::Ipv6Addr) -> Self {
        let segments = address.segments();
        let embedded = match segments {
            [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => true,
            [0, 0, 0, 0, 0, 0, high, _] => high != 0,
            _ => false,
        };
        if embedded {
            let [.., a, b, c, d] = address.octets();
            return Self::of_ipv4([a, b, c, d].into());
        }
        if address.is_loopback() || address.is_unspecified() {
            Self::Loopback
        } else if address.is_unicast_link_local() || address.is_multicast() {
            Self::LinkLocal
        } else if address.is_unique_local() {
            Self::Private
        } else {
            Self::Public
        }
    }
}

/// The HTTP client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A file of certificate authorities cannot be read.
    #[error("cannot read the certificate authorities in `{}`", shown(path))]
    AuthorityFile {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A file of certificate authorities holds something else, or a certificate that is malformed.
    #[error("`{}` does not hold certificates in PEM form", shown(path))]
    AuthorityUnusable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// A file of certificate authorities holds none.
    #[error("`{}` holds no certificate", shown(path))]
    NoAuthority {
        /// The file.
        path: PathBuf,
    },
    /// A proxy URL that is none, most often.
    #[error("the HTTP client cannot be set up")]
    Client {
        /// What went wrong.
        source: reqwest::Error,
    },
}

impl HttpError {
    /// Returns what to type instead, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::AuthorityFile { .. } | Self::Client { .. } => None,
            Self::AuthorityUnusable { .. } | Self::NoAuthority { .. } => {
                Some("give `registry-ca` a file with `-----BEGIN CERTIFICATE-----` in it".to_owned())
            }
        }
    }
}

fn shown(path: &Path) -> String {
    excerpt(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date_and_capped_at_a_minute() {
        let now: Timestamp = "2026-11-21T04:00:00Z".parse().unwrap();
        let table = [
            (vec![("retry-after", "2")], Some(2)),
            (vec![("retry-after", "0")], Some(0)),
            (vec![("retry-after", "3600")], Some(60)),
            (vec![("retry-after", "99999999999999999999999")], Some(60)),
            (vec![("retry-after", "Sat, 21 Nov 2026 04:00:07 GMT")], Some(7)),
            (vec![("retry-after", "Sat, 21 Nov 2026 03:00:00 GMT")], Some(0)),
            (
                vec![("retry-after", "Sat, 21 Nov 2026 09:00:07 GMT"), ("date", "Sat, 21 Nov 2026 09:00:00 GMT")],
                Some(7),
            ),
            (vec![("retry-after", "soon")], None),
            (vec![("retry-after", "-1")], None),
            (vec![], None),
        ];

        for (pairs, expected) in table {
            let pause = retry_after(&headers(&pairs), now);

            assert_eq!(pause, expected.map(Duration::from_secs), "{pairs:?}");
        }
    }

    #[test]
    fn only_what_may_pass_is_retried() {
        let retried = |status| status_failure(StatusCode::from_u16(status).unwrap(), &HeaderMap::new()).is_some();

        assert!([408, 429, 500, 502, 503, 504, 522].into_iter().all(retried));
        assert!(![200, 301, 400, 401, 403, 404, 413, 415, 501].into_iter().any(retried));
    }

    #[tokio::test]
    async fn a_budget_of_nothing_allows_one_attempt() {
        let mut retry = Retry::new(Duration::ZERO);

        assert_eq!(retry.wait(Failure::Transient).await, Attempt::GiveUp);
        assert_eq!(retry.attempts(), 1);
    }

    #[tokio::test]
    async fn a_pause_beyond_the_budget_is_not_waited_for() {
        let mut retry = Retry::new(Duration::from_secs(1));

        assert_eq!(retry.wait(Failure::Paused(Duration::from_secs(2))).await, Attempt::GiveUp);
        assert_eq!(retry.wait(Failure::Paused(Duration::ZERO)).await, Attempt::Again);
        assert_eq!(retry.attempts(), 2);
    }

    #[test]
    fn neither_userinfo_nor_query_values_survive_redaction() {
        let url =
            Url::parse("https://user:hunter2@storage.example/blob?X-Signature=hunter2&b=hunter2#hunter2").unwrap();

        assert_eq!(redact(&url), "https://storage.example/blob?X-Signature=***&b=***");
    }

    #[test]
    fn an_excerpt_is_one_short_line_without_tricks() {
        assert_eq!(excerpt("a\r\n::error::b\u{1b}[31m\u{202e}c"), "a  ::error::b[31mc");
        assert_eq!(excerpt(&"x".repeat(1000)).chars().count(), 301);
    }

    #[test]
    fn hosts_are_judged_however_they_are_written() {
        let table = [
            ("http://127.0.0.1/", Reach::Loopback),
            ("http://2130706433/", Reach::Loopback),
            ("http://0177.0.0.1/", Reach::Loopback),
            ("http://0.0.0.0/", Reach::Loopback),
            ("http://[::]/", Reach::Loopback),
            ("http://[::1]/", Reach::Loopback),
            ("http://[::ffff:127.0.0.1]/", Reach::Loopback),
            ("http://localhost./", Reach::Loopback),
            ("http://a.localhost/", Reach::Loopback),
            ("http://10.1.2.3/", Reach::Private),
            ("http://172.16.0.1/", Reach::Private),
            ("http://192.168.1.1/", Reach::Private),
            ("http://100.64.0.1/", Reach::Private),
            ("http://[fd00::1]/", Reach::Private),
            ("http://registry/", Reach::Private),
            ("http://metadata.google.internal/", Reach::Private),
            ("http://169.254.169.254/", Reach::LinkLocal),
            ("http://[fe80::1]/", Reach::LinkLocal),
            ("http://[::ffff:169.254.169.254]/", Reach::LinkLocal),
            ("http://[64:ff9b::a9fe:a9fe]/", Reach::LinkLocal),
            ("http://ghcr.io/", Reach::Public),
            ("http://1.1.1.1/", Reach::Public),
            ("http://[2606:4700::1]/", Reach::Public),
        ];

        for (url, expected) in table {
            let url = Url::parse(url).unwrap();

            assert_eq!(Reach::of(&url.host().unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no certificate").unwrap();
        let spec = |certificate_authorities| HttpSpec {
            certificate_authorities,
            proxies: Proxies::default(),
            retry_for: Duration::ZERO,
        };

        let error = client(&spec(vec![file.path().to_owned()])).unwrap_err();

        assert!(matches!(error, HttpError::NoAuthority { path } if path == file.path()));
        assert!(client(&spec(vec![])).is_ok());
    }
}
