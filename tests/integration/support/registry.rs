//! A registry in process: the distribution protocol over plain HTTP on loopback, with the referrers API or without.
//!
//! It stores what it is given after checking it as a registry does, keeps a log of requests, and can stop the world at
//! any of them. The quickstart example uses it too, so it needs nothing of the other test support.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use touchmark::oci::Digest;

/// Whether the registry lists referrers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReferrersApi {
    /// It does.
    Supported,
    /// It does not know the path, as docker-registry 2.8.
    Unsupported,
}

/// When a request is held, as seen from the registry's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Nothing of it was carried out.
    Before,
    /// It was carried out, and the answer is never sent.
    After,
}

/// A running registry. It stops when this is dropped.
pub(crate) struct TestRegistry {
    address: SocketAddr,
    state: Arc<State>,
    _runtime: tokio::runtime::Runtime,
}

impl TestRegistry {
    /// Starts an empty registry on a port of its own.
    pub(crate) fn start(referrers: ReferrersApi) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a loopback port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let state = Arc::new(State { referrers, stored: Mutex::default(), held: Mutex::default() });
        drop(runtime.spawn(accept(listener, Arc::clone(&state))));
        Self { address, state, _runtime: runtime }
    }

    /// Returns the host and port.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Asks for a user name and password (Basic) from now on.
    pub(crate) fn require_login(&self, username: &str, password: &str) {
        use base64::Engine as _;
        let encoded = base64::prelude::BASE64_STANDARD.encode(format!("{username}:{password}"));
        self.state.stored().login = Some(format!("Basic {encoded}"));
    }

    /// Answers 403 to everything that would change something from now on.
    pub(crate) fn deny_writes(&self) {
        self.state.stored().read_only = true;
    }

    /// Returns what a tag points at.
    pub(crate) fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        self.state.stored().tags.get(&(repository.to_owned(), tag.to_owned())).cloned()
    }

    /// Returns the digests of all manifests.
    pub(crate) fn manifests(&self) -> Vec<String> {
        self.state.stored().manifests.keys().cloned().collect()
    }

    /// Returns a manifest.
    pub(crate) fn manifest(&self, digest: &str) -> Option<Vec<u8>> {
        self.state.stored().manifests.get(digest).map(|manifest| manifest.bytes.to_vec())
    }

    /// Serves other bytes for a blob from now on, as a registry that was broken into would.
    pub(crate) fn replace_blob(&self, digest: &str, bytes: &[u8]) {
        self.state.stored().blobs.insert(digest.to_owned(), Bytes::copy_from_slice(bytes));
    }

    /// Makes a tag point elsewhere.
    pub(crate) fn move_tag(&self, repository: &str, tag: &str, digest: &str) {
        self.state.stored().tags.insert((repository.to_owned(), tag.to_owned()), digest.to_owned());
    }

    /// Returns the requests so far, as `METHOD path`.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state.stored().log.clone()
    }

    /// Forgets the requests so far.
    pub(crate) fn clear_log(&self) {
        self.state.stored().log.clear();
    }

    /// Fails the next requests whose `METHOD path` contains `part` with `status`, `times` times.
    pub(crate) fn fail(&self, part: &str, status: u16, times: usize) {
        self.state.stored().faults.push(Fault { part: part.to_owned(), status, times });
    }

    /// Never answers the request at `position` (from 0, counted from now); the receiver is told when it is there.
    pub(crate) fn hold(&self, position: usize, moment: Moment) -> Receiver<String> {
        let (told, receiver) = channel();
        let mut held = self.state.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(Held { left: position, moment, told });
        receiver
    }

    /// Answers every request again.
    pub(crate) fn release(&self) {
        *self.state.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

struct State {
    referrers: ReferrersApi,
    stored: Mutex<Stored>,
    held: Mutex<Option<Held>>,
}

#[derive(Default)]
struct Stored {
    blobs: BTreeMap<String, Bytes>,
    manifests: BTreeMap<String, StoredManifest>,
    tags: BTreeMap<(String, String), String>,
    uploads: BTreeMap<String, Vec<u8>>,
    log: Vec<String>,
    faults: Vec<Fault>,
    login: Option<String>,
    read_only: bool,
    next_upload: u64,
}

struct StoredManifest {
    media_type: String,
    bytes: Bytes,
}

struct Fault {
    part: String,
    status: u16,
    times: usize,
}

struct Held {
    left: usize,
    moment: Moment,
    told: Sender<String>,
}

type Answer = Response<Full<Bytes>>;

async fn accept(listener: tokio::net::TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        let service = service_fn(move |request| serve(Arc::clone(&state), request));
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        drop(tokio::spawn(async move { drop(connection.await) }));
    }
}

async fn serve(state: Arc<State>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (parts, body) = request.into_parts();
    let line = format!("{} {}", parts.method, parts.uri);
    let moment = state.moment(&line);
    if moment == Some(Moment::Before) {
        std::future::pending::<()>().await;
    }
    // A client that goes away in the middle of a body has stored nothing.
    let Ok(body) = body.collect().await else { return Ok(answer(StatusCode::BAD_REQUEST, &[], Bytes::new())) };
    let answer = state.treat(&parts, &line, body.to_bytes());
    if moment == Some(Moment::After) {
        std::future::pending::<()>().await;
    }
    Ok(answer)
}

impl State {
    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moment(&self, line: &str) -> Option<Moment> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = held.as_mut()?;
        if wanted.left > 0 {
            wanted.left -= 1;
            return None;
        }
        // Whoever waits may be gone; every later request is held all the same.
        drop(wanted.told.send(line.to_owned()));
        Some(wanted.moment)
    }

    fn treat(&self, parts: &hyper::http::request::Parts, line: &str, body: Bytes) -> Answer {
        let mut stored = self.stored();
        stored.log.push(line.to_owned());
        if let Some(fault) = stored.faults.iter_mut().find(|fault| fault.times > 0 && line.contains(&fault.part)) {
            fault.times -= 1;
            return error(StatusCode::from_u16(fault.status).expect("a status"), "UNAVAILABLE");
        }
        let authorization = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
        if stored.login.is_some() && stored.login.as_deref() != authorization {
            let challenge = [("www-authenticate", r#"Basic realm="test""#.to_owned())];
            return answer(StatusCode::UNAUTHORIZED, &challenge, Bytes::from_static(b"{}"));
        }
        let method = parts.method.as_str();
        if stored.read_only && !matches!(method, "GET" | "HEAD") {
            return error(StatusCode::FORBIDDEN, "DENIED");
        }
        let path = parts.uri.path().strip_prefix("/v2/").unwrap_or_default();
        let query = parts.uri.query().unwrap_or_default();
        for (kind, treat) in
            [("/manifests/", Stored::manifest as Treat), ("/blobs/uploads/", Stored::upload), ("/blobs/", Stored::blob)]
        {
            if let Some((repository, rest)) = path.split_once(kind) {
                let media_type = parts.headers.get("content-type").and_then(|value| value.to_str().ok());
                let ask = Ask { method, repository, rest, query, media_type, referrers: self.referrers, body };
                return treat(&mut stored, &ask);
            }
        }
        match path.split_once("/referrers/") {
            Some((_, digest)) if self.referrers == ReferrersApi::Supported => stored.referrers(digest),
            _ => answer(StatusCode::NOT_FOUND, &[], Bytes::from_static(b"404 page not found\n")),
        }
    }
}

type Treat = fn(&mut Stored, &Ask<'_>) -> Answer;

struct Ask<'a> {
    method: &'a str,
    repository: &'a str,
    rest: &'a str,
    query: &'a str,
    media_type: Option<&'a str>,
    referrers: ReferrersApi,
    body: Bytes,
}

impl Ask<'_> {
    fn parameter(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

impl Stored {
    fn blob(&mut self, ask: &Ask<'_>) -> Answer {
        let Some(bytes) = self.blobs.get(ask.rest).cloned() else {
            return error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
        };
        let headers = [("docker-content-digest", ask.rest.to_owned()), ("content-length", bytes.len().to_string())];
        match ask.method {
            "HEAD" => answer(StatusCode::OK, &headers, Bytes::new()),
            _ => answer(StatusCode::OK, &headers[..1], bytes),
        }
    }

    fn upload(&mut self, ask: &Ask<'_>) -> Answer {
        let location = |id: &str| ("location", format!("/v2/{}/blobs/uploads/{id}", ask.repository));
        match ask.method {
            "POST" => {
                if let Some(digest) = ask.parameter("mount").filter(|digest| self.blobs.contains_key(digest)) {
                    return answer(StatusCode::CREATED, &[("docker-content-digest", digest)], Bytes::new());
                }
                self.next_upload += 1;
                let id = self.next_upload.to_string();
                self.uploads.insert(id.clone(), Vec::new());
                answer(StatusCode::ACCEPTED, &[location(&id)], Bytes::new())
            }
            "PATCH" => {
                let Some(upload) = self.uploads.get_mut(ask.rest) else {
                    return error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
                };
                upload.extend_from_slice(&ask.body);
                let range = ("range", format!("0-{}", upload.len().saturating_sub(1)));
                answer(StatusCode::ACCEPTED, &[location(ask.rest), range], Bytes::new())
            }
            "PUT" => {
                let Some(mut upload) = self.uploads.remove(ask.rest) else {
                    return error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
                };
                upload.extend_from_slice(&ask.body);
                let digest = Digest::of(&upload).to_string();
                if ask.parameter("digest").as_deref() != Some(&digest) {
                    return error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
                }
                self.blobs.insert(digest.clone(), upload.into());
                answer(StatusCode::CREATED, &[("docker-content-digest", digest)], Bytes::new())
            }
            _ => answer(StatusCode::NO_CONTENT, &[], Bytes::new()),
        }
    }

    fn manifest(&mut self, ask: &Ask<'_>) -> Answer {
        if ask.method == "PUT" {
            return self.put_manifest(ask);
        }
        let tagged = self.tags.get(&(ask.repository.to_owned(), ask.rest.to_owned())).cloned();
        let digest = tagged.unwrap_or_else(|| ask.rest.to_owned());
        let Some(manifest) = self.manifests.get(&digest) else {
            return error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
        };
        let mut headers = vec![("docker-content-digest", digest), ("content-type", manifest.media_type.clone())];
        if ask.method == "HEAD" {
            headers.push(("content-length", manifest.bytes.len().to_string()));
            return answer(StatusCode::OK, &headers, Bytes::new());
        }
        answer(StatusCode::OK, &headers, manifest.bytes.clone())
    }

    /// Accepts a manifest only if everything it consists of is there.
    fn put_manifest(&mut self, ask: &Ask<'_>) -> Answer {
        let digest = Digest::of(&ask.body).to_string();
        let Ok(parsed) = serde_json::from_slice::<serde_json::Value>(&ask.body) else {
            return error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID");
        };
        let digests = |field: &str| -> Vec<String> {
            let items = parsed[field].as_array().cloned().unwrap_or_default();
            items.iter().filter_map(|item| item["digest"].as_str().map(str::to_owned)).collect()
        };
        let config = parsed["config"]["digest"].as_str().map(str::to_owned);
        let blobs = digests("layers").into_iter().chain(config).all(|blob| self.blobs.contains_key(&blob));
        let children = digests("manifests").iter().all(|child| self.manifests.contains_key(child));
        // The index under the fallback tag may list what this registry never had.
        let is_list_of_referrers = ask.rest.starts_with("sha256-") && !ask.rest.contains('.');
        if !blobs || !(children || is_list_of_referrers) {
            return error(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN");
        }
        if ask.rest.starts_with("sha256:") && ask.rest != digest {
            return error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
        }
        if !ask.rest.starts_with("sha256:") {
            self.tags.insert((ask.repository.to_owned(), ask.rest.to_owned()), digest.clone());
        }
        let mut headers = vec![("docker-content-digest", digest.clone())];
        headers.push(("location", format!("/v2/{}/manifests/{digest}", ask.repository)));
        if let Some(subject) = parsed["subject"]["digest"].as_str().filter(|_| ask.referrers == ReferrersApi::Supported)
        {
            headers.push(("oci-subject", subject.to_owned()));
        }
        let media_type = ask.media_type.unwrap_or_default().to_owned();
        self.manifests.insert(digest, StoredManifest { media_type, bytes: ask.body.clone() });
        answer(StatusCode::CREATED, &headers, Bytes::new())
    }

    fn referrers(&self, subject: &str) -> Answer {
        let mut listed = Vec::new();
        for (digest, manifest) in &self.manifests {
            let Ok(parsed) = serde_json::from_slice::<serde_json::Value>(&manifest.bytes) else { continue };
            if parsed["subject"]["digest"] == subject {
                listed.push(serde_json::json!({
                    "mediaType": manifest.media_type, "size": manifest.bytes.len(), "digest": digest,
                    "artifactType": parsed["artifactType"], "annotations": parsed["annotations"],
                }));
            }
        }
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": listed,
        });
        let content_type = ("content-type", "application/vnd.oci.image.index.v1+json".to_owned());
        answer(StatusCode::OK, &[content_type], index.to_string().into())
    }
}

fn error(status: StatusCode, code: &str) -> Answer {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"by the test registry"}}]}}"#);
    answer(status, &[("content-type", "application/json".to_owned())], body.into())
}

fn answer(status: StatusCode, headers: &[(&str, String)], body: Bytes) -> Answer {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, value);
    }
    answer.body(Full::new(body)).expect("headers of a test are well formed")
}
