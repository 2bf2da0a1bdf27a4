//! Requests to registries: with login, retries and redirects, under rules for where credentials may go.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, Request, StatusCode};
use url::Url;

use super::authentication::{Authentication, Scope, Ticket, is_challenge};
use super::challenge::within_reach;
use super::error::{HTTPS_TO_HTTP, RegistryError};
use super::exchange::{Answer, Limits, Lost, Server, exchange, host};
use super::spec::{PlainHttp, RegistrySpec};
use crate::http::{Attempt, Failure, Reach, Retry, excerpt, redact, status_failure};
use crate::oci::Repository;

/// The most redirects that one request follows.
const MAX_REDIRECTS: usize = 5;
/// How often one request may be answered 401: before the first token, and when that token turns out to be too old.
const MAX_CHALLENGES: usize = 2;

/// A request to a registry, which can be repeated.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) scope: Scope,
    pub(super) headers: HeaderMap,
    /// `None` for requests that have no body; an empty body is announced as such, because proxies insist on it.
    pub(super) body: Option<Bytes>,
    limits: Limits,
    redirects: Redirects,
}

/// Which redirects are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redirects {
    /// Those that break no rule.
    Anywhere,
    /// Those to the registry itself; others are answers.
    WithinRegistry,
}

impl Call {
    pub(super) fn new(method: Method, url: Url, scope: Scope) -> Self {
        let body = (!matches!(method, Method::GET | Method::HEAD | Method::DELETE)).then(Bytes::new);
        Self {
            method,
            url,
            scope,
            headers: HeaderMap::new(),
            body,
            limits: Limits::new(64 << 10),
            redirects: Redirects::Anywhere,
        }
    }

    #[must_use]
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    #[must_use]
    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }

    /// Accepts this many bytes of a good answer.
    #[must_use]
    pub(super) fn limit(mut self, bytes: u64) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Waits this long for the answer to begin.
    #[must_use]
    pub(super) fn wait(mut self, wait: Duration) -> Self {
        self.limits.wait = wait;
        self
    }

    #[must_use]
    pub(super) fn redirects(mut self, redirects: Redirects) -> Self {
        self.redirects = redirects;
        self
    }

    fn request(&self, method: &Method, url: &Url) -> Request {
        let mut request = Request::new(method.clone(), url.clone());
        *request.headers_mut() = self.headers.clone();
        if let Some(body) = &self.body {
            request.headers_mut().insert(CONTENT_LENGTH, body.len().into());
            *request.body_mut() = Some(body.clone().into());
        }
        request
    }
}

/// The way to every registry.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) client: reqwest::Client,
    pub(super) authentication: Authentication,
    pub(super) retry_for: Duration,
    endpoints: Endpoints,
}

/// What decides whether a registry is spoken to in plain HTTP.
#[derive(Clone, Copy, Debug)]
struct Endpoints {
    plain_http: PlainHttp,
    own_authority: OwnAuthority,
}

/// Whether certificate authorities were named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnAuthority {
    Named,
    None,
}

impl Transport {
    pub(super) fn new(spec: &RegistrySpec) -> Result<Self, RegistryError> {
        let client = crate::http::client(&spec.http)?;
        let retry_for = spec.http.retry_for;
        let named = !spec.http.certificate_authorities.is_empty();
        let own_authority = if named { OwnAuthority::Named } else { OwnAuthority::None };
        Ok(Self {
            authentication: Authentication::new(client.clone(), retry_for, spec.credentials.clone()),
            client,
            retry_for,
            endpoints: Endpoints { plain_http: spec.plain_http, own_authority },
        })
    }

    /// Returns the URL of `rest` below the repository, for example `manifests/v1`.
    pub(super) fn url(&self, repository: &Repository, rest: &str) -> Result<Url, RegistryError> {
        self.endpoints.url(repository, rest)
    }

    /// Sends a request until there is an answer that another attempt would not change.
    ///
    /// Logs in when asked to. Redirects of GET and HEAD are followed, those of other methods where they keep the method.
    pub(super) async fn send(&self, call: &Call) -> Result<Answer, RegistryError> {
        let mut retry = Retry::new(self.retry_for);
        let mut challenges = 0;
        loop {
            let (failure, error) = match self.attempt(call).await {
                Ok((ticket, answer)) if self.is_challenge(&call.scope, &ticket, &answer) => {
                    challenges += 1;
                    if challenges > MAX_CHALLENGES {
                        return Err(self.authentication.unauthorized(&call.scope, &answer).await);
                    }
                    self.authentication.learn(&call.scope, &ticket, &answer).await?;
                    continue;
                }
                Ok((_, answer)) => match answer_failure(&answer) {
                    None => return Ok(answer),
                    Some(failure) => {
                        let purpose = call.scope.purpose;
                        (failure, answer.unavailable(purpose, &self.authentication, retry.attempts()))
                    }
                },
                Err(Lost::Final(error)) => return Err(error),
                Err(lost @ Lost::Silence { failure, .. }) => (failure, lost.into_error(retry.attempts())),
            };
            if retry.wait(failure).await == Attempt::GiveUp {
                return Err(error);
            }
        }
    }

    /// Returns the error for an answer that says no.
    pub(super) async fn refusal(&self, scope: &Scope, answer: &Answer) -> RegistryError {
        let repository = scope.repository.clone();
        let source = Box::new(answer.rejection(scope.purpose, &self.authentication));
        match answer.status {
            StatusCode::UNAUTHORIZED => self.authentication.unauthorized(scope, answer).await,
            StatusCode::FORBIDDEN => {
                let presented = self.authentication.presented(scope).await;
                RegistryError::Denied { repository, presented, source }
            }
            StatusCode::NOT_FOUND if source.is("NAME_UNKNOWN") => RegistryError::NotFound { repository, source },
            _ => RegistryError::Status { repository, source },
        }
    }

    /// Returns whether `answer` comes from the registry itself and asks for a login, or for another token.
    ///
    /// A 401 from wherever the registry redirected to is not a challenge: no credential goes there.
    pub(super) fn is_challenge(&self, scope: &Scope, used: &Ticket, answer: &Answer) -> bool {
        self.is_home(scope, &answer.url) && is_challenge(used, answer)
    }

    /// Returns the `Authorization` and so on to send with a request to `url`.
    pub(super) async fn ticket(&self, scope: &Scope) -> Result<Ticket, RegistryError> {
        self.authentication.ticket(scope).await
    }

    /// Returns whether `url` has the registry's own scheme, host and port: only there do credentials go.
    pub(super) fn is_home(&self, scope: &Scope, url: &Url) -> bool {
        self.url(&scope.repository, "").is_ok_and(|home| home.origin() == url.origin())
    }

    /// Resolves a `Location` under the rules for redirects.
    pub(super) fn location(&self, scope: &Scope, answer: &Answer) -> Result<Url, RegistryError> {
        let home = self.url(&scope.repository, "")?;
        let Some(location) = answer.headers.get(LOCATION) else {
            let reason = "it has no `Location`".to_owned();
            return Err(RegistryError::Protocol { request: answer.request(), reason });
        };
        resolve_location(&answer.url, location, &home)
    }

    /// One attempt, redirects included.
    async fn attempt(&self, call: &Call) -> Result<(Ticket, Answer), Lost> {
        let ticket = self.ticket(&call.scope).await?;
        let (mut url, mut method) = (call.url.clone(), call.method.clone());
        for _ in 0..=MAX_REDIRECTS {
            let mut request = call.request(&method, &url);
            if let Some(authorization) = ticket.authorization.clone().filter(|_| self.is_home(&call.scope, &url)) {
                request.headers_mut().insert(AUTHORIZATION, authorization);
            }
            let answer = exchange(&self.client, request, call.limits, Server::Registry).await?;
            match (answer.status.as_u16(), &method) {
                (301 | 302 | 303 | 307 | 308, &Method::GET | &Method::HEAD) | (307 | 308, _) => {
                    let outside = || {
                        let target = self.location(&call.scope, &answer);
                        !target.is_ok_and(|target| self.is_home(&call.scope, &target))
                    };
                    if call.redirects == Redirects::WithinRegistry && outside() {
                        return Ok((ticket, answer));
                    }
                    url = self.location(&call.scope, &answer)?;
                    method = answer_method(&answer, method);
                }
                _ => return Ok((ticket, answer)),
            }
        }
        Err(Lost::Final(RegistryError::Redirect {
            host: host(&call.url),
            target: redact(&url),
            reason: "it is one redirect too many",
        }))
    }
}

fn answer_method(answer: &Answer, method: Method) -> Method {
    if answer.status == StatusCode::SEE_OTHER && method != Method::HEAD { Method::GET } else { method }
}

/// Returns how hopeful an answer is, or `None` if it is final.
pub(super) fn answer_failure(answer: &Answer) -> Option<Failure> {
    let limited = || {
        // GitHub's secondary rate limit answers 403.
        let text = String::from_utf8_lossy(&answer.body).to_ascii_lowercase();
        answer.headers.contains_key(RETRY_AFTER) && text.contains("rate limit")
    };
    match status_failure(answer.status, &answer.headers) {
        None if answer.status == StatusCode::FORBIDDEN && limited() => {
            let now = jiff::Timestamp::now();
            Some(crate::http::retry_after(&answer.headers, now).map_or(Failure::Transient, Failure::Paused))
        }
        failure => failure,
    }
}

impl Endpoints {
    fn url(self, repository: &Repository, rest: &str) -> Result<Url, RegistryError> {
        let registry = match repository.registry() {
            "index.docker.io" => "registry-1.docker.io",
            registry => registry,
        };
        let refuse = |_| RegistryError::Protocol {
            request: excerpt(registry),
            reason: "the registry's name cannot be put into a URL".to_owned(),
        };
        let url = Url::parse(&format!("https://{registry}/v2/{}/{rest}", repository.path())).map_err(refuse)?;
        if self.speaks_https(&url) {
            return Ok(url);
        }
        Url::parse(&format!("http://{registry}/v2/{}/{rest}", repository.path())).map_err(refuse)
    }

    fn speaks_https(self, https: &Url) -> bool {
        if self.plain_http == PlainHttp::Allowed {
            return false;
        }
        let loopback = https.host().is_some_and(|host| Reach::of(&host) == Reach::Loopback);
        !loopback || self.own_authority == OwnAuthority::Named
    }
}

/// Resolves a `Location` against the URL that answered with it, and refuses targets that a registry has no business
/// sending us to.
pub(super) fn resolve_location(base: &Url, location: &HeaderValue, home: &Url) -> Result<Url, RegistryError> {
    const LONGEST: usize = 8 << 10;
    let refuse = |target: String, reason| RegistryError::Redirect { host: host(base), target, reason };
    let text = location.to_str().ok().filter(|text| text.len() <= LONGEST);
    let text = text.ok_or_else(|| refuse("…".to_owned(), "it is no text, or longer than 8 KiB"))?;
    let mut url = base.join(text).map_err(|_| refuse("…".to_owned(), "it is not a URL"))?;
    url.set_fragment(None);
    let check = || {
        if !matches!(url.scheme(), "https" | "http") {
            return Err("it is neither https nor http");
        }
        if base.scheme() == "https" && url.scheme() == "http" {
            return Err(HTTPS_TO_HTTP);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it has a user name or a password");
        }
        let (Some(host), Some(home_host)) = (url.host(), home.host()) else {
            return Err("it has no host");
        };
        let known = Some(&host) == base.host().as_ref() || host == home_host;
        if !known && !within_reach(Reach::of(&host), Reach::of(&home_host)) {
            return Err("it leads to a private host");
        }
        Ok(())
    };
    match check() {
        Ok(()) => Ok(url),
        Err(reason) => Err(refuse(redact(&url), reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{DefaultRegistry, Reference};

    fn resolve(base: &str, location: &str) -> Result<String, &'static str> {
        let base = Url::parse(base).unwrap();
        match resolve_location(&base, &HeaderValue::from_str(location).unwrap(), &base) {
            Ok(url) => Ok(url.into()),
            Err(RegistryError::Redirect { reason, .. }) => Err(reason),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_location_may_be_absolute_path_absolute_or_relative() {
        let base = "https://r.example/v2/a/blobs/uploads/";
        let table = [
            (
                "https://r.example/v2/a/blobs/uploads/1?_state=x%2Fy",
                "https://r.example/v2/a/blobs/uploads/1?_state=x%2Fy",
            ),
            ("https://r.example:443/u", "https://r.example/u"),
            ("/v2/a/blobs/uploads/1?_state=x", "https://r.example/v2/a/blobs/uploads/1?_state=x"),
            ("1?_state=x", "https://r.example/v2/a/blobs/uploads/1?_state=x"),
            ("?_state=x", "https://r.example/v2/a/blobs/uploads/?_state=x"),
            ("https://storage.example/1?sig=x#y", "https://storage.example/1?sig=x"),
        ];

        for (location, expected) in table {
            assert_eq!(resolve(base, location).as_deref(), Ok(expected), "{location}");
        }
    }

    #[test]
    fn a_location_that_leads_astray_is_refused() {
        let base = "https://r.example/v2/a/blobs/uploads/";
        let refused = [
            "http://r.example/u",
            "http://storage.example/u",
            "ftp://r.example/u",
            "file:///etc/passwd",
            "https://user:password@r.example/u",
            "https://127.0.0.1/u",
            "https://169.254.169.254/u",
            "https://10.0.0.1/u",
            "https://localhost/u",
            "//[::1]/u",
            "https://[",
            "https://",
        ];

        for location in refused {
            assert!(resolve(base, location).is_err(), "{location} gave {:?}", resolve(base, location));
        }
        let long = format!("/{}", "x".repeat(9000));
        assert!(resolve(base, &long).is_err());
        assert!(resolve(base, &long[..8000]).is_ok());
    }

    #[test]
    fn a_private_registry_may_lead_to_private_storage() {
        assert!(resolve("http://127.0.0.1:5000/u", "http://127.0.0.1:9000/u").is_ok());
        assert!(resolve("http://127.0.0.1:5000/u", "http://localhost:9000/u").is_ok());
        assert!(resolve("https://10.0.0.1/u", "https://10.0.0.2/u").is_ok());
        assert!(resolve("https://10.0.0.1/u", "https://127.0.0.1/u").is_err());
        assert!(resolve("https://10.0.0.1/u", "https://169.254.169.254/u").is_err());
    }

    #[test]
    fn only_loopback_is_spoken_to_in_plain_http() {
        let endpoint = |name: &str, plain_http, own_authority| {
            let reference = Reference::parse(name, DefaultRegistry::DockerHub).unwrap();
            Endpoints { plain_http, own_authority }.url(reference.repository(), "").unwrap().to_string()
        };
        let usual = |name| endpoint(name, PlainHttp::LoopbackOnly, OwnAuthority::None);

        assert_eq!(usual("localhost:5000/app"), "http://localhost:5000/v2/app/");
        assert_eq!(usual("127.0.0.1:5000/app"), "http://127.0.0.1:5000/v2/app/");
        assert_eq!(usual("[::1]:5000/app"), "http://[::1]:5000/v2/app/");
        assert_eq!(usual("ghcr.io/acme/app"), "https://ghcr.io/v2/acme/app/");
        assert_eq!(usual("10.0.0.1:5000/app"), "https://10.0.0.1:5000/v2/app/");
        assert_eq!(usual("alpine"), "https://registry-1.docker.io/v2/library/alpine/");
        assert_eq!(
            endpoint("registry:5000/app", PlainHttp::Allowed, OwnAuthority::None),
            "http://registry:5000/v2/app/"
        );
        assert_eq!(
            endpoint("127.0.0.1:5000/app", PlainHttp::LoopbackOnly, OwnAuthority::Named),
            "https://127.0.0.1:5000/v2/app/"
        );
    }
}
