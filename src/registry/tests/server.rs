//! A registry in a few lines, with faults on demand. The one that speaks the whole protocol is in `tests/integration`.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use crate::oci::Digest;

type Answer = Response<Full<Bytes>>;

/// What happens to one request instead of its proper treatment.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// This answer, with these headers.
    Answer(u16, Vec<(&'static str, String)>, &'static str),
    /// The connection breaks before the body is read.
    Break,
    /// The request is carried out, and the connection breaks before the answer.
    LoseAnswer,
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) state: Arc<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) blobs: Mutex<BTreeMap<String, Bytes>>,
    pub(super) manifests: Mutex<BTreeMap<String, (String, Bytes)>>,
    uploads: Mutex<BTreeMap<String, Vec<u8>>>,
    /// One line for each request: method, path, and the authorisation if there was one.
    pub(super) log: Mutex<Vec<String>>,
    /// The next request whose line starts with the text gets the fault.
    pub(super) faults: Mutex<VecDeque<(String, Fault)>>,
    /// The token that is valid, if tokens are asked for.
    pub(super) token: Mutex<Option<String>>,
    pub(super) issued: Mutex<usize>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        drop(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| Arc::clone(&state).serve(address, request));
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                drop(tokio::spawn(async move { drop(connection.await) }));
            }
        }));
        Self { address, state }
    }

    pub(super) fn fault(&self, request: &str, fault: Fault) {
        self.state.faults.lock().unwrap().push_back((request.to_owned(), fault));
    }

    /// Returns how many requests had a line that starts with `request`.
    pub(super) fn count(&self, request: &str) -> usize {
        self.state.log.lock().unwrap().iter().filter(|line| line.starts_with(request)).count()
    }
}

impl State {
    async fn serve(self: Arc<Self>, address: SocketAddr, request: Request<Incoming>) -> Result<Answer, Broken> {
        let authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let line = format!("{} {}", request.method(), request.uri());
        self.log.lock().unwrap().push(format!("{line} {}", authorization.clone().unwrap_or_default()));
        let fault = {
            let mut faults = self.faults.lock().unwrap();
            let position = faults.iter().position(|(start, _)| line.starts_with(start.as_str()));
            position.and_then(|position| faults.remove(position)).map(|(_, fault)| fault)
        };
        match &fault {
            Some(Fault::Answer(status, headers, body)) => {
                let mut answer = Response::builder().status(*status);
                for (name, value) in headers {
                    answer = answer.header(*name, value);
                }
                drop(request.into_body().collect().await);
                return Ok(answer.body(Full::from(*body)).unwrap());
            }
            Some(Fault::Break) => return Err(Broken),
            _ => {}
        }
        let answer = self.treat(address, request, authorization).await?;
        if matches!(fault, Some(Fault::LoseAnswer)) { Err(Broken) } else { Ok(answer) }
    }

    async fn treat(
        &self,
        address: SocketAddr,
        request: Request<Incoming>,
        authorization: Option<String>,
    ) -> Result<Answer, Broken> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        if path == "/token" {
            let mut issued = self.issued.lock().unwrap();
            *issued += 1;
            let token = format!("token-{issued}");
            *self.token.lock().unwrap() = Some(token.clone());
            return Ok(answer(200, &[], format!(r#"{{"token":"{token}","expires_in":300}}"#)));
        }
        let expected = self.token.lock().unwrap().clone();
        if let Some(token) = expected
            && authorization.as_deref() != Some(&format!("Bearer {token}"))
        {
            let challenge = format!(r#"Bearer realm="http://{address}/token",service="test""#);
            return Ok(answer(401, &[("www-authenticate", &challenge)], "{}"));
        }
        let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
        let (_, rest) = path.strip_prefix("/v2/").unwrap().split_once("app/").unwrap();
        Ok(match (parts.method.as_str(), rest.split_once('/').unwrap()) {
            ("HEAD" | "GET", ("manifests", target)) => self.manifest(target),
            ("PUT", ("manifests", target)) => {
                let digest = Digest::of(&body).to_string();
                let media_type = parts.headers["content-type"].to_str().unwrap().to_owned();
                let mut manifests = self.manifests.lock().unwrap();
                manifests.insert(digest.clone(), (media_type.clone(), body.clone()));
                manifests.insert(target.to_owned(), (media_type, body));
                answer(201, &[("docker-content-digest", &digest)], "")
            }
            (_, ("blobs", rest)) => self.blob(&parts, rest, &body),
            _ => answer(404, &[], "404 page not found"),
        })
    }

    fn manifest(&self, target: &str) -> Answer {
        match self.manifests.lock().unwrap().get(target) {
            Some((media_type, bytes)) => {
                let digest = Digest::of(bytes).to_string();
                answer(200, &[("content-type", media_type), ("docker-content-digest", &digest)], bytes.clone())
            }
            None => answer(404, &[], r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        }
    }

    fn blob(&self, parts: &hyper::http::request::Parts, rest: &str, body: &Bytes) -> Answer {
        let mut uploads = self.uploads.lock().unwrap();
        let query = |name: &str| {
            let pairs = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
            pairs.into_owned().find(|(known, _)| known == name).map(|(_, value)| value)
        };
        match (parts.method.as_str(), rest.strip_prefix("uploads/")) {
            ("POST", Some(_)) => {
                let id = format!("{}", uploads.len());
                uploads.insert(id.clone(), Vec::new());
                // Truly relative, with a state that has to be sent back.
                answer(202, &[("location", &format!("{id}?_state=a%2Fb"))], "")
            }
            ("PATCH", Some(id)) => {
                let Some(upload) = uploads.get_mut(id) else { return answer(404, &[], "") };
                if parts.headers.get("content-range").is_some_and(|range| {
                    range.to_str().unwrap() != format!("{}-{}", upload.len(), upload.len() + body.len() - 1)
                }) {
                    return answer(416, &[], "");
                }
                upload.extend_from_slice(body);
                answer(202, &[("location", &format!("{id}?_state=a%2Fb"))], "")
            }
            ("PUT", Some(id)) => {
                assert_eq!(query("_state").as_deref(), Some("a/b"));
                let Some(mut upload) = uploads.remove(id) else {
                    return answer(404, &[], r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#);
                };
                upload.extend_from_slice(body);
                let digest = query("digest").unwrap();
                if Digest::of(&upload).to_string() != digest {
                    return answer(400, &[], r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                }
                self.blobs.lock().unwrap().insert(digest, upload.into());
                answer(201, &[], "")
            }
            (_, None) => match self.blobs.lock().unwrap().get(rest) {
                Some(bytes) => answer(200, &[], bytes.clone()),
                None => answer(404, &[], r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#),
            },
            _ => answer(405, &[], ""),
        }
    }
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(Full::new(body.into())).unwrap()
}

/// Ends the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is broken on purpose")]
pub(super) struct Broken;

impl From<Infallible> for Broken {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
