//! Blobs: fetched and checked, mounted, and uploaded in one request each, or in whatever way the registry insists on.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use reqwest::{Body, Method, Request, StatusCode};
use url::Url;

use super::Registry;
use super::authentication::{Scope, Ticket};
use super::error::RegistryError;
use super::exchange::{Answer, Lost, Server, lost, receive, silent};
use super::manifest::check_digest;
use super::progress::Progress;
use super::stream::{Content, FINISH_TIMEOUT, Measured, Outgoing, Pace};
use super::transport::{Call, answer_failure};
use crate::http::{Attempt, Failure, IDLE_TIMEOUT, Retry};
use crate::oci::{Descriptor, Repository};

/// The sizes of chunks that are tried, one after the other, when a registry refuses a whole blob at once: GitHub's limit
/// for a chunk, and what nginx accepts unless it is told otherwise.
const CHUNK_SIZES: [usize; 2] = [4 << 20, 1 << 20];
/// The largest minimum that a registry may set for chunks: chunks are held in memory.
const LARGEST_CHUNK: usize = 8 << 20;
/// How often an upload session may be lost before that counts as a refusal.
const MAX_LOST_SESSIONS: u32 = 3;
/// How often a running upload may be answered 401.
const MAX_CHALLENGES: u32 = 2;
const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// How a blob came to be in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// It was there.
    Present,
    /// From another repository of the same registry.
    Mounted,
    /// It was sent.
    Uploaded,
}

impl Registry {
    /// Returns the content of a blob, checked against the descriptor's size and digest. Refuses more than `limit` bytes.
    pub async fn blob(&self, repository: &Repository, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, RegistryError> {
        if blob.size > limit {
            return Err(RegistryError::TooLarge { name: format!("{repository}@{}", blob.digest), limit });
        }
        match self.fetch_blob(repository, blob).await {
            // It may have been garbled on its way: worth a second look.
            Err(RegistryError::Digest { .. }) => self.fetch_blob(repository, blob).await,
            fetched => fetched,
        }
    }

    async fn fetch_blob(&self, repository: &Repository, blob: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let url = self.transport().url(repository, &format!("blobs/{}", blob.digest))?;
        let call = Call::new(Method::GET, url, Scope::pull(repository)).limit(blob.size);
        let answer = self.transport().send(&call).await?;
        if answer.status != StatusCode::OK {
            return Err(self.transport().refusal(&call.scope, &answer).await);
        }
        check_digest(&format!("{repository}@{}", blob.digest), &blob.digest, &answer.body)?;
        if answer.body.len() as u64 != blob.size {
            let reason = format!("it has {} bytes, and its descriptor says {}", answer.body.len(), blob.size);
            return Err(RegistryError::Protocol { request: answer.request(), reason });
        }
        Ok(answer.body.into())
    }

    /// Stores a small blob, unless the registry has it already, and returns its descriptor.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<Descriptor, RegistryError> {
        let descriptor = Descriptor::of(media_type, &bytes);
        let unwatched = Arc::default();
        let upload = self.upload(repository, &unwatched);
        upload.store(&descriptor, &Content::Bytes(bytes.into())).await?;
        Ok(descriptor)
    }

    pub(super) fn upload<'a>(&'a self, repository: &Repository, progress: &'a Arc<Progress>) -> Uploader<'a> {
        Uploader { registry: self, scope: Scope::push(repository), progress }
    }
}

/// Uploads blobs to one repository.
#[derive(Clone)]
pub(super) struct Uploader<'a> {
    registry: &'a Registry,
    scope: Scope,
    progress: &'a Arc<Progress>,
}

/// Why an attempt did not store the blob.
enum Setback {
    /// Another attempt would end the same way.
    Final(RegistryError),
    /// Something broke.
    Broken { failure: Failure, error: RegistryError },
    /// The upload session is gone.
    SessionLost(RegistryError),
    /// The token was not accepted; there is a new one now.
    NewToken(RegistryError),
    /// The request was too large.
    TooLarge(RegistryError),
    /// The registry does not take a body without a length.
    NoStreaming(RegistryError),
}

impl From<RegistryError> for Setback {
    fn from(error: RegistryError) -> Self {
        Self::Final(error)
    }
}

impl From<Lost> for Setback {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Final(error) => Self::Final(error),
            Lost::Silence { failure, .. } => Self::Broken { failure, error: lost.into_error(1) },
        }
    }
}

/// How the bytes of a blob are put into requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// All in one.
    Whole,
    /// In chunks of a size from [`CHUNK_SIZES`].
    Chunks(usize),
}

impl Shape {
    fn smaller(self) -> Option<Self> {
        let next = match self {
            Self::Whole => 0,
            Self::Chunks(index) => index + 1,
        };
        (next < CHUNK_SIZES.len()).then_some(Self::Chunks(next))
    }
}

/// How often which setback may still occur.
struct Patience {
    retry: Retry,
    sessions: u32,
    challenges: u32,
}

impl Patience {
    /// Returns once another attempt is due, or with the error that ends it all.
    async fn bear(&mut self, setback: Setback) -> Result<(), RegistryError> {
        let (failure, error) = match setback {
            Setback::Broken { failure, error } => (failure, error),
            Setback::SessionLost(error) if self.sessions < MAX_LOST_SESSIONS => {
                self.sessions += 1;
                (Failure::Transient, error)
            }
            Setback::NewToken(_) if self.challenges < MAX_CHALLENGES => {
                self.challenges += 1;
                return Ok(());
            }
            Setback::SessionLost(error)
            | Setback::NewToken(error)
            | Setback::Final(error)
            | Setback::TooLarge(error)
            | Setback::NoStreaming(error) => return Err(error),
        };
        match self.retry.wait(failure).await {
            Attempt::Again => Ok(()),
            Attempt::GiveUp => Err(with_attempts(error, self.retry.attempts())),
        }
    }
}

fn with_attempts(error: RegistryError, attempts: u32) -> RegistryError {
    match error {
        RegistryError::Connect { host, source, .. } => RegistryError::Connect { host, attempts, source },
        RegistryError::Unavailable { host, source, .. } => RegistryError::Unavailable { host, attempts, source },
        other => other,
    }
}

impl Uploader<'_> {
    /// Stores the blob unless it is there.
    pub(super) async fn store(&self, blob: &Descriptor, content: &Content) -> Result<Stored, RegistryError> {
        if self.has(blob).await? { Ok(Stored::Present) } else { self.add(blob, content).await }
    }

    /// Stores a blob that is not there: mounts it, if it can be, or sends it.
    pub(super) async fn add(&self, blob: &Descriptor, content: &Content) -> Result<Stored, RegistryError> {
        let mut session = None;
        for source in self.registry.mount_sources(&self.scope.repository) {
            match self.mount(blob, source).await? {
                Mount::Done => return Ok(Stored::Mounted),
                Mount::Session(url) => {
                    session = Some(url);
                    break;
                }
                Mount::Refused => {}
            }
        }
        self.send(blob, content, session).await?;
        Ok(Stored::Uploaded)
    }

    /// Returns whether the registry has the blob, as far as a HEAD can tell.
    pub(super) async fn has(&self, blob: &Descriptor) -> Result<bool, RegistryError> {
        let url = self.url(&format!("blobs/{}", blob.digest))?;
        let answer = self.registry.transport().send(&Call::new(Method::HEAD, url, self.scope.clone())).await?;
        let home = self.registry.transport().is_home(&self.scope, &answer.url);
        match answer.status {
            StatusCode::OK => {
                let size = answer.header("content-length").and_then(|size| size.parse::<u64>().ok());
                Ok(size.is_none_or(|size| size == blob.size))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if home => {
                Err(self.registry.transport().refusal(&self.scope, &answer).await)
            }
            // Whatever else it says, an upload finds out.
            _ => Ok(false),
        }
    }

    /// Sends a blob, however often it takes, in `session` first if there is one.
    async fn send(&self, blob: &Descriptor, content: &Content, session: Option<Url>) -> Result<(), RegistryError> {
        let mut patience = self.patience();
        let mut session = session;
        let mut shape = Shape::Whole;
        loop {
            let setback = match self.attempt(blob, content, session.take(), shape).await {
                Ok(()) => return Ok(()),
                Err(setback) => setback,
            };
            match (setback, shape.smaller()) {
                (Setback::TooLarge(_), Some(smaller)) => shape = smaller,
                (setback, _) => patience.bear(setback).await?,
            }
            // The answer that was lost may have been a yes.
            if self.has(blob).await? {
                return Ok(());
            }
        }
    }

    fn patience(&self) -> Patience {
        Patience { retry: Retry::new(self.registry.transport().retry_for), sessions: 0, challenges: 0 }
    }

    async fn attempt(
        &self,
        blob: &Descriptor,
        content: &Content,
        session: Option<Url>,
        shape: Shape,
    ) -> Result<(), Setback> {
        // Before anything is announced: what cannot be read is not begun.
        let mut outgoing = Outgoing::start(content, Some(blob), self.progress).await?;
        let session = match session {
            Some(session) => session,
            None => self.open_session().await?,
        };
        let outcome = match shape {
            Shape::Whole => self.put_whole(blob, session, &mut outgoing).await,
            Shape::Chunks(index) => self.send_chunks(blob, session, &mut outgoing, CHUNK_SIZES[index]).await,
        };
        let read = outgoing.finish().await;
        if outcome.is_err() {
            outgoing.pace.take_back();
        }
        // If the source is at fault, that is why the request failed.
        read?;
        outcome
    }

    /// Opens an upload session and returns where to send the bytes.
    async fn open_session(&self) -> Result<Url, RegistryError> {
        let call = Call::new(Method::POST, self.url("blobs/uploads/")?, self.scope.clone());
        let answer = self.registry.transport().send(&call).await?;
        match answer.status.as_u16() {
            200..=202 => self.registry.transport().location(&self.scope, &answer),
            _ => Err(self.registry.transport().refusal(&self.scope, &answer).await),
        }
    }

    async fn put_whole(&self, blob: &Descriptor, session: Url, outgoing: &mut Outgoing) -> Result<(), Setback> {
        let url = with_digest(&session, blob);
        let answer = self.stream(Method::PUT, url, outgoing, Some(blob.size)).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.judge(&answer).await) }
    }

    /// Sends one streaming request, which cannot be repeated.
    async fn stream(
        &self,
        method: Method,
        url: Url,
        outgoing: &mut Outgoing,
        length: Option<u64>,
    ) -> Result<Answer, Setback> {
        let transport = self.registry.transport();
        let ticket = transport.ticket(&self.scope).await?;
        let mut request = Request::new(method.clone(), url.clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, OCTET_STREAM);
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        if let Some(authorization) = ticket.authorization.clone().filter(|_| transport.is_home(&self.scope, &url)) {
            headers.insert(AUTHORIZATION, authorization);
        }
        let stream = outgoing.stream();
        *request.body_mut() = Some(if length == Some(0) { Body::from("") } else { Body::wrap_stream(stream) });
        let response = self.execute(request, &url, &outgoing.pace).await?;
        let answer = receive(response, method, 64 << 10, Server::Registry).await?;
        if transport.is_challenge(&self.scope, &ticket, &answer) {
            return Err(self.new_token(&ticket, &answer).await?);
        }
        Ok(answer)
    }

    /// Waits for an answer for as long as the upload is getting on.
    async fn execute(&self, request: Request, url: &Url, pace: &Pace) -> Result<reqwest::Response, Lost> {
        let mut response = pin!(self.registry.transport().client.execute(request));
        loop {
            let deadline = pace.deadline();
            tokio::select! {
                response = &mut response => return response.map_err(|error| lost(url, error)),
                () = tokio::time::sleep_until(deadline) => {
                    if pace.deadline() <= deadline {
                        return Err(silent(url, IDLE_TIMEOUT));
                    }
                }
            }
        }
    }

    async fn new_token(&self, ticket: &Ticket, answer: &Answer) -> Result<Setback, RegistryError> {
        let authentication = &self.registry.transport().authentication;
        authentication.learn(&self.scope, ticket, answer).await?;
        Ok(Setback::NewToken(authentication.unauthorized(&self.scope, answer).await))
    }

    /// Judges an answer that says no to bytes.
    async fn judge(&self, answer: &Answer) -> Setback {
        let transport = self.registry.transport();
        if let Some(failure) = answer_failure(answer) {
            let error = answer.unavailable(self.scope.purpose, &transport.authentication, 1);
            return Setback::Broken { failure, error };
        }
        let refusal = transport.refusal(&self.scope, answer).await;
        match (answer.status.as_u16(), &refusal) {
            (413, _) => Setback::TooLarge(refusal),
            (404, RegistryError::Status { .. }) | (416, _) => Setback::SessionLost(refusal),
            _ => Setback::Final(refusal),
        }
    }

    /// Sends a blob in chunks, each held in memory: for registries behind proxies that limit the size of a request.
    async fn send_chunks(
        &self,
        blob: &Descriptor,
        session: Url,
        outgoing: &mut Outgoing,
        size: usize,
    ) -> Result<(), Setback> {
        // Each chunk is held in memory, so only few uploads may do this at once.
        let _permit = self.registry.chunk_permit().await;
        let mut session = session;
        let mut start = 0;
        while let Some(chunk) = collect(outgoing, size.min(LARGEST_CHUNK)).await {
            let Ok(chunk) = chunk else {
                // `finish` tells what the source did wrong.
                let reason = "the source ended early".to_owned();
                return Err(RegistryError::Protocol { request: "PATCH".to_owned(), reason }.into());
            };
            let range = format!("{start}-{}", start + chunk.len() as u64 - 1);
            let call = Call::new(Method::PATCH, session.clone(), self.scope.clone())
                .header(CONTENT_TYPE, OCTET_STREAM)
                .header(CONTENT_RANGE, HeaderValue::from_str(&range).unwrap_or(OCTET_STREAM))
                .body(chunk.clone());
            let answer = self.registry.transport().send(&call).await?;
            if !answer.status.is_success() {
                let limited = answer.status == StatusCode::RANGE_NOT_SATISFIABLE && start == 0;
                let setback = self.judge(&answer).await;
                return Err(match setback {
                    Setback::SessionLost(error) if limited => Setback::TooLarge(error),
                    other => other,
                });
            }
            start += chunk.len() as u64;
            outgoing.pace.send(chunk.len());
            session = self.registry.transport().location(&self.scope, &answer)?;
        }
        self.close_session(&session, blob).await
    }

    /// Completes an upload of which all bytes were sent.
    async fn close_session(&self, session: &Url, blob: &Descriptor) -> Result<(), Setback> {
        let call = Call::new(Method::PUT, with_digest(session, blob), self.scope.clone()).wait(FINISH_TIMEOUT);
        let answer = self.registry.transport().send(&call).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.judge(&answer).await) }
    }

    /// Compresses a layer and sends it at the same time, and returns its descriptor, known only then.
    pub(super) async fn compress(&self, media_type: &str, content: &Content) -> Result<Descriptor, RegistryError> {
        let mut patience = self.patience();
        let descriptor = |measured: Measured| Descriptor {
            digest: measured.digest,
            size: measured.size,
            ..Descriptor::of(media_type, &[])
        };
        loop {
            let setback = match self.compress_once(content).await {
                Ok((measured, session)) => {
                    let blob = descriptor(measured);
                    match self.close_session(&session, &blob).await {
                        Ok(()) => return Ok(blob),
                        // The answer that was lost may have been a yes.
                        Err(_) if self.has(&blob).await? => return Ok(blob),
                        Err(setback) => setback,
                    }
                }
                Err(setback) => setback,
            };
            if let Setback::TooLarge(_) | Setback::NoStreaming(_) = setback {
                // Compress twice: once to know what comes out, once to send it as what is known then.
                let blob = descriptor(self.measure(content).await?);
                self.store(&blob, content).await?;
                return Ok(blob);
            }
            patience.bear(setback).await?;
        }
    }

    async fn compress_once(&self, content: &Content) -> Result<(Measured, Url), Setback> {
        let mut outgoing = Outgoing::start(content, None, self.progress).await?;
        let session = self.open_session().await?;
        let outcome = self.stream(Method::PATCH, session, &mut outgoing, None).await;
        let read = outgoing.finish().await;
        let outcome = match outcome {
            Ok(answer) if answer.status.is_success() => Ok(answer),
            Ok(answer) => Err(match self.judge(&answer).await {
                Setback::Final(error) if refuses_streaming(&answer) => Setback::NoStreaming(error),
                Setback::SessionLost(error) => Setback::NoStreaming(error),
                other => other,
            }),
            Err(setback) => Err(setback),
        };
        if outcome.is_err() {
            outgoing.pace.take_back();
        }
        let Some(measured) = read? else {
            return Err(outcome.err().unwrap_or_else(|| Setback::Broken {
                failure: Failure::Transient,
                error: RegistryError::Protocol {
                    request: "PATCH".to_owned(),
                    reason: "it was answered before all of it was sent".to_owned(),
                },
            }));
        };
        let session = self.registry.transport().location(&self.scope, &outcome?)?;
        Ok((measured, session))
    }

    /// Reads content to its end for its digest and size.
    async fn measure(&self, content: &Content) -> Result<Measured, RegistryError> {
        let mut outgoing = Outgoing::start(content, None, self.progress).await?;
        while let Some(Ok(_)) = outgoing.next().await {}
        let measured = outgoing.finish().await?;
        measured.ok_or_else(|| RegistryError::Protocol {
            request: "compression".to_owned(),
            reason: "it did not come to its end".to_owned(),
        })
    }

    /// Tries to mount a blob from another repository of the same registry.
    async fn mount(&self, blob: &Descriptor, source: &Repository) -> Result<Mount, RegistryError> {
        let mut url = self.url("blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", &blob.digest.to_string()).append_pair("from", source.path());
        let scope = Scope { mount_from: Some(source.path().to_owned()), ..self.scope.clone() };
        let call = Call::new(Method::POST, url, scope);
        // Whatever goes wrong here, a plain upload works or says why it does not.
        let Ok(answer) = self.registry.transport().send(&call).await else { return Ok(Mount::Refused) };
        let stated = answer.header("docker-content-digest");
        let same = stated.is_none_or(|stated| stated == blob.digest.to_string());
        match answer.status {
            StatusCode::CREATED if same && self.has(blob).await? => Ok(Mount::Done),
            StatusCode::ACCEPTED => {
                Ok(self.registry.transport().location(&self.scope, &answer).map_or(Mount::Refused, Mount::Session))
            }
            _ => Ok(Mount::Refused),
        }
    }

    fn url(&self, rest: &str) -> Result<Url, RegistryError> {
        self.registry.transport().url(&self.scope.repository, rest)
    }
}

enum Mount {
    Done,
    /// Not mounted, but this is where it can be sent.
    Session(Url),
    Refused,
}

/// Returns whether the status of `answer` may mean that the registry takes no body without a length.
fn refuses_streaming(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 400 | 404 | 405 | 411 | 413 | 415 | 416 | 501)
}

/// Gathers the next `size` bytes, or what is left. `None`: nothing is.
async fn collect(outgoing: &mut Outgoing, size: usize) -> Option<std::io::Result<Bytes>> {
    let mut chunk = BytesMut::with_capacity(size);
    while chunk.len() < size {
        match outgoing.next().await {
            Some(Ok(bytes)) => chunk.extend_from_slice(&bytes),
            Some(Err(error)) => return Some(Err(error)),
            None => break,
        }
    }
    (!chunk.is_empty()).then(|| Ok(chunk.freeze()))
}

/// Returns where to complete an upload: the session, its query as it is, and the digest.
fn with_digest(session: &Url, blob: &Descriptor) -> Url {
    let mut url = session.clone();
    url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_added_to_whatever_query_a_session_has() {
        let blob = Descriptor::of("text/plain", b"{}");
        let hex = blob.digest.hex();
        let table = [
            ("https://r.example/u", format!("https://r.example/u?digest=sha256%3A{hex}")),
            (
                "https://r.example/u?_state=a%2Fb+c==",
                format!("https://r.example/u?_state=a%2Fb+c==&digest=sha256%3A{hex}"),
            ),
        ];

        for (session, expected) in table {
            assert_eq!(with_digest(&Url::parse(session).unwrap(), &blob).as_str(), expected);
        }
    }
}
