//! One request and its answer: bounded in time and size, no retries, no redirects.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use reqwest::{Request, Response, StatusCode};
use serde::Deserialize;
use url::Url;

use super::authentication::Authentication;
use super::error::{Purpose, RegistryError, Rejection, TransportError};
use crate::http::{Failure, IDLE_TIMEOUT, Silence, classify, excerpt, reason, redact};

/// The most bytes that are read of an answer that says no.
const MAX_ERROR: u64 = 64 << 10;
/// How often [`IDLE_TIMEOUT`] fits into the time that an answer's body may take.
const BODY_TIMEOUTS: u32 = 5;

/// How much of an answer is accepted, and how long it may take to begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) wait: Duration,
}

impl Limits {
    /// The slowest sending that is waited for.
    const BYTES_PER_SECOND: u64 = 16 << 10;

    pub(super) fn new(bytes: u64) -> Self {
        Self { bytes, wait: IDLE_TIMEOUT }
    }

    /// Returns how long to wait for the answer to `request`: its body has to be sent first.
    fn wait_for(self, request: &Request) -> Duration {
        let body = request.body().and_then(reqwest::Body::as_bytes).map_or(0, <[u8]>::len);
        self.wait + Duration::from_secs(body as u64 / Self::BYTES_PER_SECOND)
    }
}

/// Whose answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Registry,
    TokenServer,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Where the answer came from.
    pub(super) url: Url,
    pub(super) body: Bytes,
    method: reqwest::Method,
    server: Server,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// Another attempt would fail as well.
    Final(RegistryError),
    /// Another attempt may do better.
    Silence { host: String, failure: Failure, source: TransportError },
}

impl Lost {
    pub(super) fn into_error(self, attempts: u32) -> RegistryError {
        match self {
            Self::Final(error) => error,
            Self::Silence { host, source, .. } => RegistryError::Connect { host, attempts, source },
        }
    }
}

impl From<RegistryError> for Lost {
    fn from(error: RegistryError) -> Self {
        Self::Final(error)
    }
}

/// Sends `request`, whose body is in memory, and reads its answer.
pub(super) async fn exchange(
    client: &reqwest::Client,
    request: Request,
    limits: Limits,
    server: Server,
) -> Result<Answer, Lost> {
    let (url, method) = (request.url().clone(), request.method().clone());
    let wait = limits.wait_for(&request);
    let response = match tokio::time::timeout(wait, client.execute(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(lost(&url, error)),
        Err(_) => return Err(silent(&url, wait)),
    };
    receive(response, method, limits.bytes, server).await
}

/// Reads an answer: at most `limit` bytes of a good one, and the beginning of one that says no.
pub(super) async fn receive(
    mut response: Response,
    method: reqwest::Method,
    limit: u64,
    server: Server,
) -> Result<Answer, Lost> {
    let (status, headers, url) = (response.status(), response.headers().clone(), response.url().clone());
    let answer = |body| Answer { status, headers, url: url.clone(), body, method: method.clone(), server };
    tracing::debug!(%method, url = redact(&url), status = status.as_u16(), "answered");
    if method == reqwest::Method::HEAD {
        return Ok(answer(Bytes::new()));
    }
    let request = || format!("{method} {}", redact(&url));
    if response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") && status.is_success() {
        let reason = "it is compressed, which was not asked for".to_owned();
        return Err(Lost::Final(RegistryError::Protocol { request: request(), reason }));
    }
    let limit = if status.is_success() { limit } else { MAX_ERROR };
    let read = async {
        let mut body = BytesMut::new();
        loop {
            match tokio::time::timeout(IDLE_TIMEOUT, response.chunk()).await {
                Ok(Ok(Some(chunk))) if (body.len() + chunk.len()) as u64 > limit => {
                    if status.is_success() {
                        return Err(Lost::Final(RegistryError::TooLarge { name: request(), limit }));
                    }
                    return Ok(body.freeze());
                }
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                Ok(Ok(None)) => return Ok(body.freeze()),
                // What is missing of an answer that says no does not matter.
                Ok(Err(_)) | Err(_) if !status.is_success() => return Ok(body.freeze()),
                Ok(Err(error)) => return Err(lost(&url, error)),
                Err(_) => return Err(silent(&url, IDLE_TIMEOUT)),
            }
        }
    };
    match tokio::time::timeout(IDLE_TIMEOUT * BODY_TIMEOUTS, read).await {
        Ok(body) => Ok(answer(body?)),
        Err(_) => Err(silent(&url, IDLE_TIMEOUT * BODY_TIMEOUTS)),
    }
}

/// Judges why no answer came.
pub(super) fn lost(url: &Url, error: reqwest::Error) -> Lost {
    let host = host(url);
    let error = error.without_url();
    tracing::debug!(url = redact(url), %error, reason = reason(&error), "no answer");
    let source = TransportError::Connection { reason: reason(&error) };
    match classify(&error) {
        Silence::Retryable(failure) => Lost::Silence { host, failure, source },
        Silence::UnknownCertificateAuthority => Lost::Final(RegistryError::UnknownCertificateAuthority { host }),
        Silence::Certificate(reason) => Lost::Final(RegistryError::Certificate { host, reason }),
        Silence::NotTls => Lost::Final(RegistryError::NotTls { host }),
        Silence::Permanent => Lost::Final(RegistryError::Connect { host, attempts: 1, source }),
    }
}

pub(super) fn silent(url: &Url, wait: Duration) -> Lost {
    let source = TransportError::Silent { seconds: wait.as_secs() };
    Lost::Silence { host: host(url), failure: Failure::Transient, source }
}

/// Returns the host of `url`, with its port if it is not the usual one.
pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

impl Answer {
    /// Returns the value of a header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the media type of the body, without parameters.
    pub(super) fn content_type(&self) -> Option<&str> {
        self.headers.get(CONTENT_TYPE)?.to_str().ok().map(|value| value.split(';').next().unwrap_or(value).trim())
    }

    /// Returns the request, for people.
    pub(super) fn request(&self) -> String {
        match self.server {
            Server::Registry => format!("{} {}", self.method, excerpt(self.url.path())),
            Server::TokenServer => format!("{} {}", self.method, redact(&self.url)),
        }
    }

    /// Returns what the answer says, made harmless, without the secrets that `authentication` knows.
    pub(super) fn rejection(&self, purpose: Purpose, authentication: &Authentication) -> Rejection {
        let said = self.said();
        let harmless = |text: &String| excerpt(&authentication.mask(text));
        Rejection {
            request: self.request(),
            status: self.status.as_u16(),
            code: said.0.as_ref().map(harmless).filter(|code| !code.is_empty()),
            message: said.1.as_ref().map(harmless).filter(|message| !message.is_empty()),
            purpose,
        }
    }

    pub(super) fn unavailable(&self, purpose: Purpose, auth: &Authentication, attempts: u32) -> RegistryError {
        RegistryError::Unavailable { host: host(&self.url), attempts, source: Box::new(self.rejection(purpose, auth)) }
    }

    /// Returns whether the answer is an error with this code.
    pub(super) fn has_code(&self, code: &str) -> bool {
        let body: Result<ErrorBody, _> = serde_json::from_slice(&self.body);
        body.is_ok_and(|body| body.errors.iter().any(|error| error.code.as_deref() == Some(code)))
    }

    /// Returns the first error code and its message, or what else the body says.
    fn said(&self) -> (Option<String>, Option<String>) {
        let Ok(body) = serde_json::from_slice::<ErrorBody>(&self.body) else {
            let plain = self.content_type().is_none_or(|media_type| media_type == "text/plain");
            return (None, plain.then(|| String::from_utf8_lossy(&self.body).into_owned()));
        };
        match body.errors.into_iter().next() {
            Some(error) => (error.code, error.message),
            None => (body.error, body.error_description.or(body.message).or(body.details)),
        }
    }
}

/// What registries and token servers write when they say no. Fields of another type than expected are left out.
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default, deserialize_with = "lenient")]
    errors: Vec<ErrorEntry>,
    #[serde(default, deserialize_with = "lenient")]
    error: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    error_description: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    message: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    details: Option<String>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default, deserialize_with = "lenient")]
    code: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    message: Option<String>,
}

fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::de::DeserializeOwned + Default,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}
