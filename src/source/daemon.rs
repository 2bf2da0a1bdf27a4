//! Docker and Podman Engines, over their Unix socket and without their command lines.
//!
//! The engine's export is what `docker save` writes. It names its layers only at its end, so it is kept in a temporary file
//! that has no name: nothing is left behind, whatever happens.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::error::clean;
use super::store::is_absent;
use super::{Source, SourceError, archive::Archive, docker_archive};

/// How long the engine may be silent: it gathers an image's layers before the first byte.
const IDLE: Duration = Duration::from_secs(600);
/// The most bytes of an answer that is read as a whole.
const MAX_ANSWER: usize = 4 << 20;

/// Exports the image `name` and reads it as a docker archive.
pub(super) async fn open(name: &str, socket: &Path, spool: &[PathBuf]) -> Result<Box<dyn Source>, SourceError> {
    check_socket(socket).await?;
    let engine = Engine { client: client(socket)? };
    let name = engine.resolve(name).await?;
    let file = engine.export(&name, spool).await?;
    let path = PathBuf::from(format!("docker-daemon:{name}"));
    let read =
        tokio::task::spawn_blocking(move || docker_archive::open(Archive::of(file, &path)?, "docker-daemon:", None))
            .await;
    read.map_err(|error| SourceError::Read { path: "docker-daemon".to_owned(), source: io::Error::other(error) })?
}

/// Connects once, since the client's own errors do not tell an absent socket from a forbidden one.
async fn check_socket(socket: &Path) -> Result<(), SourceError> {
    let path = socket.to_owned();
    match UnixStream::connect(socket).await {
        Ok(_) => Ok(()),
        Err(error) if is_absent(&error) => Err(SourceError::NoSocket { socket: path }),
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            Err(SourceError::SocketDenied { socket: path, source })
        }
        Err(source) => Err(SourceError::EngineSilent { socket: path, source }),
    }
}

/// A client that speaks plain HTTP to the socket and to nothing else.
fn client(socket: &Path) -> Result<Client, reqwest::Error> {
    Client::builder()
        .unix_socket(socket)
        .tls_certs_only([])
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .read_timeout(IDLE)
        .user_agent(concat!("touchmark/", env!("CARGO_PKG_VERSION")))
        .build()
}

struct Engine {
    client: Client,
}

/// What `GET /images/{name}/json` says, as far as we care.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
}

impl Engine {
    /// Checks that the image exists, and returns the name to export it by.
    ///
    /// A repository without a tag would export all of its tags.
    async fn resolve(&self, name: &str) -> Result<String, SourceError> {
        let response = self.client.get(url(name, "json")?).send().await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(SourceError::ImageNotInEngine { name: clean(name) });
        }
        let answer = read_answer(accept(response).await?).await?;
        let inspected: Inspected = serde_json::from_slice(&answer)
            .map_err(|source| SourceError::Json { path: format!("docker-daemon:{name}"), source })?;
        let last = name.rsplit('/').next().unwrap_or(name);
        let is_id = inspected.id.strip_prefix("sha256:").is_some_and(|id| id.starts_with(name));
        if is_id || last.contains([':', '@']) { Ok(name.to_owned()) } else { Ok(format!("{name}:latest")) }
    }

    /// Writes the export to a temporary file in the first directory that can take it.
    async fn export(&self, name: &str, spool: &[PathBuf]) -> Result<File, SourceError> {
        let mut directories: Vec<PathBuf> = Vec::new();
        for directory in spool.iter().cloned().chain([std::env::temp_dir(), PathBuf::from(".")]) {
            if !directories.contains(&directory) {
                directories.push(directory);
            }
        }
        let tried = || directories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let mut refused = None;
        let mut full = false;
        for directory in &directories {
            let file = match tempfile::tempfile_in(directory) {
                Ok(file) => file,
                Err(error) => {
                    tracing::debug!(directory = %directory.display(), %error, "no temporary file here");
                    refused = Some(error);
                    continue;
                }
            };
            match self.export_to(name, file).await {
                Err(SourceError::Read { source, .. }) if is_full(&source) => full = true,
                result => return result,
            }
        }
        match refused {
            Some(source) if !full => Err(SourceError::NoSpool { tried: tried(), source }),
            _ => Err(SourceError::NoSpace { tried: tried() }),
        }
    }

    async fn export_to(&self, name: &str, file: File) -> Result<File, SourceError> {
        let failed = |source| SourceError::Read { path: "the temporary file".to_owned(), source };
        let mut response = accept(self.client.get(url(name, "get")?).send().await?).await?;
        let mut output = tokio::fs::File::from_std(file);
        while let Some(bytes) = response.chunk().await? {
            output.write_all(&bytes).await.map_err(failed)?;
        }
        output.flush().await.map_err(failed)?;
        Ok(output.into_std().await)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Returns the URL of an image's resource. The name goes into the path part by part, so that it cannot leave it.
fn url(name: &str, resource: &str) -> Result<Url, SourceError> {
    let refuse = || SourceError::EngineName { name: clean(name) };
    let allowed = |character: char| character.is_ascii_alphanumeric() || "._-/:@".contains(character);
    let sound = name.split('/').all(|part| !matches!(part, "" | "." | "..")) && name.chars().all(allowed);
    if !sound {
        return Err(refuse());
    }
    Url::parse(&format!("http://engine/images/{name}/{resource}")).map_err(|_| refuse())
}

/// How the engine says no.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// Turns a refusal into an error with the engine's own words.
async fn accept(response: Response) -> Result<Response, SourceError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let answer = read_answer(response).await?;
    let message = serde_json::from_slice::<Refusal>(&answer).map(|refusal| refusal.message);
    let message = message.unwrap_or_else(|_| String::from_utf8_lossy(&answer).into_owned());
    Err(SourceError::EngineStatus { status: status.as_u16(), message: clean(&message) })
}

async fn read_answer(mut response: Response) -> Result<Vec<u8>, SourceError> {
    let mut answer = Vec::new();
    while let Some(bytes) = response.chunk().await? {
        if answer.len() + bytes.len() > MAX_ANSWER {
            let size = (answer.len() + bytes.len()) as u64;
            return Err(SourceError::TooLarge {
                path: "the engine's answer".to_owned(),
                size,
                limit: MAX_ANSWER as u64,
            });
        }
        answer.extend_from_slice(&bytes);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixListener;

    use super::super::fixture::{Files, directory, refusal, root, shown};
    use super::*;
    use crate::oci::Digest;

    /// An engine that has one image, `app:latest`, and answers on `socket` until the test ends.
    fn serve(socket: &Path, export: Vec<u8>) {
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let export = export.clone();
                tokio::spawn(async move {
                    let mut request = vec![0; 4096];
                    let count = stream.read(&mut request).await.unwrap_or(0);
                    let request = String::from_utf8_lossy(&request[..count]).into_owned();
                    let (status, body) = match request.split(' ').nth(1) {
                        Some("/images/app/json" | "/images/app:latest/json") => {
                            (200, br#"{"Id":"sha256:abc"}"#.to_vec())
                        }
                        Some("/images/app:latest/get") => (200, export),
                        Some("/images/broken/json") => (500, b"{\"message\":\"disk \\u001b[31mon fire\"}".to_vec()),
                        _ => (404, br#"{"message":"No such image"}"#.to_vec()),
                    };
                    let head =
                        format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                    stream.write_all(head.as_bytes()).await.unwrap_or(());
                    stream.write_all(&body).await.unwrap_or(());
                });
            }
        });
    }

    fn image() -> (Vec<u8>, Digest) {
        let mut files = Files::layout();
        let image = files.image("one");
        let manifest = files.0.iter().find(|(name, _)| name.ends_with(image.digest.hex())).unwrap().1.clone();
        let manifest = crate::oci::Manifest::parse(manifest, None).unwrap();
        let manifest = manifest.as_image().unwrap();
        let name = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let list = format!(
            r#"[{{"Config":"{}","RepoTags":null,"Layers":["{}"]}}]"#,
            name(&manifest.config.digest),
            name(&manifest.layers[0].digest)
        );
        files.add("manifest.json", list.as_bytes());
        (files.list(std::slice::from_ref(&image)).tar(), image.digest)
    }

    #[tokio::test]
    async fn an_image_is_read_from_the_engine() {
        let parent = directory();
        let socket = parent.path().join("engine.sock");
        let (export, digest) = image();
        serve(&socket, export);
        let absent = parent.path().join("absent");
        let spool = [absent, parent.path().to_owned()];

        for name in ["app", "app:latest"] {
            let source = open(name, &socket, &spool).await.unwrap();

            assert_eq!(root(&*source), digest);
            assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1, "a file was left behind");
        }
    }

    #[tokio::test]
    async fn an_engine_that_refuses_is_quoted() {
        let parent = directory();
        let socket = parent.path().join("engine.sock");
        serve(&socket, Vec::new());
        let refused = async |name: &str| shown(&refusal(open(name, &socket, &[]).await), parent.path());

        insta::assert_snapshot!(refused("other:1").await, @r"
        the engine has no image `other:1`
        hint: `docker images` lists what the engine has; the image must be loaded: `docker build --load`
        ");
        insta::assert_snapshot!(refused("broken").await, @r"
        the engine answers 500: disk [31mon fire
        hint:
        ");
        insta::assert_snapshot!(refused("a/../../containers").await, @r"
        `a/../../containers` is not the name of an image in an engine
        hint:
        ");
        assert!(matches!(refusal(open("app", &socket, &[]).await), SourceError::Archive { .. }));
    }

    #[tokio::test]
    async fn an_absent_engine_is_explained() {
        let parent = directory();
        let socket = parent.path().join("engine.sock");

        let absent = refusal(open("app", &socket, &[]).await);
        drop(UnixListener::bind(&socket).unwrap());
        let dead = refusal(open("app", &socket, &[]).await);

        insta::assert_snapshot!(shown(&absent, parent.path()), @r"
        there is no engine socket `TMP/engine.sock`
        hint: mount the engine's socket: `docker run -v /var/run/docker.sock:TMP/engine.sock ...`, or name it in `DOCKER_HOST`
        ");
        assert!(matches!(dead, SourceError::EngineSilent { .. }));
    }
}
