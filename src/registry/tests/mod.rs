//! The client against a small registry with faults.

mod server;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Credential, CredentialsSpec, Look, ManifestTarget, PlainHttp, Progress, PushedImage, ReferrersListing, Registry,
    RegistryError, RegistrySpec,
};
use crate::http::{HttpSpec, Proxies};
use crate::oci::{DefaultRegistry, Descriptor, Digest, Manifest, Reference, Repository, media_type};
use crate::secret::Secret;
use crate::source::{LayeredImage, ManifestGraph, Source, SourceError, SourceImage, SourceLayer};
use server::{Fault, Server};

struct MemorySource {
    image: SourceImage,
    content: BTreeMap<Digest, Vec<u8>>,
}

impl Source for MemorySource {
    fn image(&self) -> &SourceImage {
        &self.image
    }

    fn open(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        Ok(Box::new(std::io::Cursor::new(self.content[digest].clone())))
    }
}

/// Bytes that do not repeat within a chunk.
fn noise(seed: u8, size: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// An image of layers of these sizes.
fn image(sizes: &[usize]) -> MemorySource {
    let config = br#"{"architecture":"amd64","os":"linux"}"#.to_vec();
    let layers: Vec<_> = (0..).zip(sizes).map(|(seed, size)| noise(seed, *size)).collect();
    let config_descriptor = Descriptor::of(media_type::OCI_CONFIG, &config);
    let layer_descriptors: Vec<_> =
        layers.iter().map(|layer| Descriptor::of(media_type::OCI_LAYER_GZIP, layer)).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": config_descriptor,
        "layers": layer_descriptors,
    });
    let manifest = Manifest::parse(manifest.to_string().into_bytes(), None).unwrap();
    let blobs = std::iter::once(config_descriptor).chain(layer_descriptors).collect();
    MemorySource {
        image: SourceImage::Manifests(ManifestGraph { manifests: vec![manifest], blobs }),
        content: std::iter::once(config).chain(layers).map(|bytes| (Digest::of(&bytes), bytes)).collect(),
    }
}

fn spec(retry_for: Duration) -> RegistrySpec {
    RegistrySpec {
        http: HttpSpec { certificate_authorities: Vec::new(), proxies: Proxies::default(), retry_for },
        plain_http: PlainHttp::LoopbackOnly,
        credentials: CredentialsSpec::default(),
        jobs: 16,
        mount_from: Vec::new(),
    }
}

fn client() -> Registry {
    Registry::connect(&spec(Duration::from_secs(20))).unwrap()
}

fn repository(server: &Server) -> Repository {
    let name = format!("{}/app", server.address);
    Reference::parse(&name, DefaultRegistry::None).unwrap().repository().clone()
}

async fn push(client: &Registry, server: &Server, source: MemorySource) -> Result<PushedImage, RegistryError> {
    let source: Arc<dyn Source> = Arc::new(source);
    client.push_image(&source, &repository(server), &Arc::new(Progress::default())).await
}

/// Pushes with one fault on the way, and checks that the registry has everything afterwards.
async fn push_through(request: &str, fault: Fault) -> Server {
    let server = Server::start().await;
    server.fault(request, fault);

    let pushed = push(&client(), &server, image(&[1000, 300_000])).await.unwrap();

    assert_eq!(server.state.blobs.lock().unwrap().len(), 3);
    assert!(server.state.manifests.lock().unwrap().contains_key(&pushed.image.digest().to_string()));
    assert!(server.state.faults.lock().unwrap().is_empty(), "the fault did not happen");
    server
}

#[tokio::test]
async fn a_second_push_sends_nothing() {
    let server = Server::start().await;

    let first = push(&client(), &server, image(&[0, 1000, 5_000_000])).await.unwrap();
    let second = push(&client(), &server, image(&[0, 1000, 5_000_000])).await.unwrap();

    assert_eq!((first.statistics.blobs_uploaded, first.statistics.manifests_uploaded), (4, 1));
    assert_eq!((second.statistics.blobs_uploaded, second.statistics.manifests_uploaded), (0, 0));
    assert_eq!((second.statistics.blobs_present, second.statistics.manifests_present), (4, 1));
    assert_eq!(first.image, second.image);
    assert_eq!(server.count("PUT"), 5);
    assert_eq!(server.count("GET /v2/ "), 0);
}

#[tokio::test]
async fn a_whole_push_takes_one_token_and_one_401() {
    let server = Server::start().await;
    *server.state.token.lock().unwrap() = Some("nobody has it yet".to_owned());

    push(&client(), &server, image(&[1000; 40])).await.unwrap();

    assert_eq!(*server.state.issued.lock().unwrap(), 1);
    let log = server.state.log.lock().unwrap();
    assert_eq!(log.iter().filter(|line| line.starts_with("HEAD") && !line.contains("Bearer")).count(), 1);
}

#[tokio::test]
async fn a_token_that_expires_during_an_upload_is_replaced() {
    let server = Server::start().await;
    *server.state.token.lock().unwrap() = Some("nobody has it yet".to_owned());
    let challenge = format!(r#"Bearer realm="http://{}/token""#, server.address);
    server.fault("PUT /v2/app/blobs/uploads/", Fault::Answer(401, vec![("www-authenticate", challenge)], ""));

    push(&client(), &server, image(&[1000, 300_000])).await.unwrap();

    assert_eq!(*server.state.issued.lock().unwrap(), 2);
    assert_eq!(server.state.blobs.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_registry_that_never_accepts_a_token_is_refused_after_two() {
    let server = Server::start().await;
    let challenge = format!(r#"Bearer realm="http://{}/token""#, server.address);
    for _ in 0..10 {
        server.fault("HEAD", Fault::Answer(401, vec![("www-authenticate", challenge.clone())], ""));
    }

    let error = push(&client(), &server, image(&[10])).await.unwrap_err();

    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error:?}");
    assert_eq!(*server.state.issued.lock().unwrap(), 2);
    assert!(error.hint().unwrap().contains("`username`"));
}

#[tokio::test]
async fn faults_that_pass_are_ridden_out() {
    let faults = [
        Fault::Answer(503, vec![], ""),
        Fault::Answer(429, vec![("retry-after", "0".to_owned())], ""),
        Fault::Answer(500, vec![], ""),
        Fault::Break,
        Fault::LoseAnswer,
    ];
    let requests = [
        "HEAD /v2/app/manifests/",
        "HEAD /v2/app/blobs/",
        "POST /v2/app/blobs/uploads/",
        "PUT /v2/app/blobs/uploads/",
        "PUT /v2/app/manifests/",
    ];

    for request in requests {
        for fault in &faults {
            drop(push_through(request, fault.clone()).await);
        }
    }
}

#[tokio::test]
async fn a_lost_session_is_opened_anew() {
    let body = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#;
    drop(push_through("PUT /v2/app/blobs/uploads/", Fault::Answer(404, vec![], body)).await);
    drop(push_through("PUT /v2/app/blobs/uploads/", Fault::Answer(416, vec![], "")).await);
}

#[tokio::test]
async fn a_blob_that_is_too_large_for_one_request_is_sent_in_chunks() {
    let server = Server::start().await;
    server.fault("PUT /v2/app/blobs/uploads/", Fault::Answer(413, vec![], ""));

    let bytes = noise(0, 9_000_000);
    let blob = client().push_blob(&repository(&server), "text/plain", bytes.clone()).await.unwrap();

    assert_eq!(server.state.blobs.lock().unwrap()[&blob.digest.to_string()], bytes);
    assert_eq!(server.count("PATCH"), 3);
}

#[tokio::test]
async fn what_cannot_succeed_is_tried_once() {
    for (status, body) in [(400, r#"{"errors":[{"code":"MANIFEST_INVALID"}]}"#), (403, ""), (415, "")] {
        let server = Server::start().await;
        server.fault("PUT /v2/app/manifests/", Fault::Answer(status, vec![], body));

        let error = push(&client(), &server, image(&[10])).await.unwrap_err();

        assert!(!error.is_source(), "{error:?}");
        assert_eq!(server.count("PUT /v2/app/manifests/"), 1);
    }
}

#[tokio::test]
async fn a_blob_that_the_registry_said_it_had_is_sent_when_it_turns_out_missing() {
    let server = Server::start().await;
    let source = image(&[1000]);
    server.fault("HEAD /v2/app/blobs/", Fault::Answer(200, vec![], ""));
    for _ in 0..4 {
        let body = r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#;
        server.fault("PUT /v2/app/manifests/", Fault::Answer(400, vec![], body));
    }

    push(&client(), &server, source).await.unwrap();

    assert_eq!(server.state.blobs.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_source_that_is_not_what_it_says_is_never_completed() {
    let mutations: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes[0] ^= 1,
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.push(0),
    ];
    for size in [1, 1000, 128 << 10, 300_000] {
        for mutate in mutations {
            let server = Server::start().await;
            let mut source = image(&[size]);
            let layer = Digest::of(&noise(0, size));
            mutate(source.content.get_mut(&layer).unwrap());

            let error = push(&client(), &server, source).await.unwrap_err();

            assert!(matches!(&error, RegistryError::SourceContent { digest, .. } if *digest == layer), "{error:?}");
            assert!(error.is_source());
            assert!(!server.state.blobs.lock().unwrap().contains_key(&layer.to_string()));
            assert_eq!(server.count("PUT /v2/app/manifests/"), 0);
        }
    }
}

fn layered(layers: &[Vec<u8>]) -> MemorySource {
    let layer = |bytes: &Vec<u8>| SourceLayer { diff_id: Digest::of(bytes), size: bytes.len() as u64 };
    MemorySource {
        image: SourceImage::Layers(LayeredImage {
            config: br#"{"architecture":"amd64","os":"linux"}"#.to_vec(),
            layers: layers.iter().map(layer).collect(),
        }),
        content: layers.iter().map(|bytes| (Digest::of(bytes), bytes.clone())).collect(),
    }
}

#[tokio::test]
async fn uncompressed_layers_are_compressed_on_the_way_each_once() {
    let (server, again) = (Server::start().await, Server::start().await);
    let layers = [noise(1, 500_000), vec![0; 500_000], noise(1, 500_000)];

    let pushed = push(&client(), &server, layered(&layers)).await.unwrap();
    again.fault("PATCH", Fault::Answer(405, vec![], ""));
    again.fault("PATCH", Fault::Break);
    let pushed_again = push(&client(), &again, layered(&layers)).await.unwrap();

    let manifest = pushed.manifest.as_image().unwrap();
    assert_eq!(manifest.layers.len(), 3);
    assert_eq!(manifest.layers[0], manifest.layers[2]);
    assert_eq!(server.state.blobs.lock().unwrap().len(), 3);
    for layer in &manifest.layers {
        let blobs = server.state.blobs.lock().unwrap();
        assert_eq!(blobs[&layer.digest.to_string()].len() as u64, layer.size);
    }
    assert_eq!(pushed.manifest.bytes(), pushed_again.manifest.bytes());
}

#[tokio::test]
async fn a_layer_with_another_diff_id_is_never_completed() {
    let server = Server::start().await;
    let layers = [noise(1, 500_000)];
    let mut source = layered(&layers);
    source.content.get_mut(&Digest::of(&layers[0])).unwrap()[499_999] ^= 1;

    let error = push(&client(), &server, source).await.unwrap_err();

    assert!(matches!(error, RegistryError::SourceContent { .. }), "{error:?}");
    assert_eq!(server.count("PUT /v2/app/manifests/"), 0);
    assert_eq!(server.state.blobs.lock().unwrap().len(), 1, "the config");
}

#[tokio::test]
async fn credentials_do_not_follow_a_location_to_another_origin() {
    let (server, other) = (Server::start().await, Server::start().await);
    let mut spec = spec(Duration::ZERO);
    let credential = Credential::Basic { username: "ann".to_owned(), password: Secret::new("hunter2") };
    spec.credentials.explicit = vec![(server.address.to_string(), credential)];
    server.fault("HEAD", Fault::Answer(401, vec![("www-authenticate", "Basic realm=x".to_owned())], ""));
    let location = format!("http://{}/v2/app/blobs/uploads/0?_state=a%2Fb", other.address);
    server.fault("POST", Fault::Answer(202, vec![("location", location)], ""));

    let pushed = Registry::connect(&spec).unwrap().push_blob(&repository(&server), "text/plain", vec![1; 100]).await;

    assert!(pushed.is_err(), "the other origin knows nothing of this upload");
    let with = |server: &Server| server.state.log.lock().unwrap().iter().filter(|line| line.contains("Basic")).count();
    assert_eq!(other.count("PUT"), 1);
    assert_eq!((with(&server) > 0, with(&other)), (true, 0));
}

#[tokio::test]
async fn a_secret_that_the_registry_repeats_is_not_shown() {
    let server = Server::start().await;
    let mut spec = spec(Duration::ZERO);
    let credential = Credential::Basic { username: "ann".to_owned(), password: Secret::new("hunter2") };
    spec.credentials.explicit = vec![(server.address.to_string(), credential)];
    server.fault("HEAD", Fault::Answer(401, vec![("www-authenticate", "Basic realm=x".to_owned())], ""));
    let echo = r#"{"errors":[{"code":"DENIED","message":"Basic YW5uOmh1bnRlcjI= is hunter2\n::set-output::"}]}"#;
    server.fault("POST", Fault::Answer(403, vec![], echo));

    let error =
        Registry::connect(&spec).unwrap().push_blob(&repository(&server), "text/plain", vec![1]).await.unwrap_err();

    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "POST /v2/app/blobs/uploads/: 403 DENIED: Basic *** is *** ::set-output::");
    assert!(!format!("{error:?}").contains("hunter2"));
}

/// Pushes a manifest for `subject` and returns its descriptor.
async fn referrer(client: &Registry, server: &Server, subject: &Descriptor, name: &str) -> Descriptor {
    let config = client.push_blob(&repository(server), media_type::OCI_EMPTY, b"{}".to_vec()).await.unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": "test/type",
        "config": config,
        "layers": [],
        "subject": subject,
        "annotations": { "name": name },
    });
    let bytes = manifest.to_string().into_bytes();
    let target = ManifestTarget::Digest;
    client.push_manifest(&repository(server), &target, media_type::OCI_MANIFEST, &bytes).await.unwrap();
    Descriptor { artifact_type: Some("test/type".to_owned()), ..Descriptor::of(media_type::OCI_MANIFEST, &bytes) }
}

#[tokio::test]
async fn no_referrer_is_lost_when_many_are_listed_at_once() {
    let server = Server::start().await;
    let pushed = push(&client(), &server, image(&[10])).await.unwrap();
    let list = async |number: usize| {
        let client = client();
        let referrer = referrer(&client, &server, pushed.manifest.descriptor(), &number.to_string()).await;
        client.list_referrer(&pushed.image, &referrer, Look::Again).await.unwrap();
        referrer.digest
    };

    let mut listed = futures_util::future::join_all((0..6).map(list)).await;

    let referrers = client().referrers(&pushed.image).await.unwrap();
    let found: Vec<_> = referrers.manifests.into_iter().map(|descriptor| descriptor.digest).collect();
    listed.sort();
    assert_eq!(referrers.listing, ReferrersListing::FallbackTag);
    assert_eq!(found, listed);
}

#[tokio::test]
async fn an_outage_is_not_an_image_without_referrers() {
    let server = Server::start().await;
    let pushed = push(&client(), &server, image(&[10])).await.unwrap();
    let hasty = || Registry::connect(&spec(Duration::ZERO)).unwrap();

    for status in [401, 403, 500, 503] {
        server.fault("GET /v2/app/referrers/", Fault::Answer(status, vec![], ""));
        assert!(hasty().referrers(&pushed.image).await.is_err(), "{status}");
    }
    server.fault("GET /v2/app/referrers/", Fault::Break);
    assert!(hasty().referrers(&pushed.image).await.is_err());
    server.fault("GET /v2/app/manifests/sha256-", Fault::Answer(500, vec![], ""));
    assert!(hasty().referrers(&pushed.image).await.is_err());

    let referrers = hasty().referrers(&pushed.image).await.unwrap();
    assert_eq!(referrers.listing, ReferrersListing::Nothing);
}

#[tokio::test]
async fn a_listing_is_read_page_by_page_on_its_own_host_and_not_for_ever() {
    let server = Server::start().await;
    let pushed = push(&client(), &server, image(&[10])).await.unwrap();
    let page = |link: &str| {
        let headers = vec![("content-type", media_type::OCI_INDEX.to_owned()), ("link", link.to_owned())];
        Fault::Answer(200, headers, r#"{"schemaVersion":2,"manifests":[]}"#)
    };
    let path = format!("/v2/app/referrers/{}", pushed.image.digest());

    server.fault("GET /v2/app/referrers/", page(&format!("<{path}?n=2>; rel=\"next\"")));
    server.fault("GET /v2/app/referrers/", page("<x>; rel=\"prev\""));
    let referrers = client().referrers(&pushed.image).await.unwrap();
    assert_eq!((referrers.listing, server.count("GET /v2/app/referrers/")), (ReferrersListing::Api, 2));

    server.fault("GET /v2/app/referrers/", page("<http://169.254.169.254/>; rel=next"));
    let error = client().referrers(&pushed.image).await.unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error:?}");

    for _ in 0..200 {
        server.fault("GET /v2/app/referrers/", page(&format!("<{path}>; rel=next")));
    }
    let error = client().referrers(&pushed.image).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooManyReferrers { .. }), "{error:?}");
}

#[tokio::test]
async fn a_manifest_that_is_not_what_was_asked_for_is_refused() {
    let server = Server::start().await;
    let pushed = push(&client(), &server, image(&[10])).await.unwrap();
    let digest = pushed.image.digest().to_string();
    assert!(client().manifest(&pushed.image).await.is_ok());

    let garbled = Fault::Answer(200, vec![("docker-content-digest", digest)], r#"{"schemaVersion":2}"#);
    server.fault("GET", garbled.clone());
    assert!(client().manifest(&pushed.image).await.is_ok(), "once may have been an accident");
    server.fault("GET", garbled.clone());
    server.fault("GET", garbled);
    let error = client().manifest(&pushed.image).await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "{error:?}");

    let lie = Digest::of(b"something else").to_string();
    server.fault("PUT /v2/app/manifests/", Fault::Answer(201, vec![("docker-content-digest", lie)], ""));
    let target = ManifestTarget::Tag("v1".parse().unwrap());
    let (manifest, repository) = (&pushed.manifest, repository(&server));
    let pushed = client().push_manifest(&repository, &target, manifest.media_type(), manifest.bytes()).await;
    assert!(matches!(pushed, Err(RegistryError::Digest { .. })), "{pushed:?}");
}

#[tokio::test]
async fn a_blob_is_checked_against_its_descriptor() {
    let server = Server::start().await;
    let repository = repository(&server);
    let blob = client().push_blob(&repository, "text/plain", b"content".to_vec()).await.unwrap();
    let smaller = Descriptor { size: 6, ..blob.clone() };
    let larger = Descriptor { size: 8, ..blob.clone() };

    assert_eq!(client().blob(&repository, &blob, 7).await.unwrap(), b"content");
    assert!(matches!(client().blob(&repository, &blob, 6).await, Err(RegistryError::TooLarge { .. })));
    assert!(matches!(client().blob(&repository, &smaller, 100).await, Err(RegistryError::TooLarge { .. })));
    assert!(matches!(client().blob(&repository, &larger, 100).await, Err(RegistryError::Protocol { .. })));
    server.fault("GET", Fault::Answer(200, vec![], "CONTENT"));
    server.fault("GET", Fault::Answer(200, vec![], "CONTENT"));
    assert!(matches!(client().blob(&repository, &blob, 100).await, Err(RegistryError::Digest { .. })));
}

#[tokio::test]
async fn a_tag_is_resolved_with_head_or_with_get_where_head_says_too_little() {
    let server = Server::start().await;
    let pushed = push(&client(), &server, image(&[10])).await.unwrap();
    let repository = repository(&server);
    let (manifest, target) = (&pushed.manifest, ManifestTarget::Tag("v1".parse().unwrap()));
    client().push_manifest(&repository, &target, manifest.media_type(), manifest.bytes()).await.unwrap();
    let tagged = |tag: &str| Reference::parse(&format!("{repository}:{tag}"), DefaultRegistry::None).unwrap();

    assert_eq!(client().resolve(&tagged("v1")).await.unwrap().as_ref(), Some(&pushed.image));
    assert_eq!(client().resolve(&tagged("v2")).await.unwrap(), None);
    for fault in [Fault::Answer(405, vec![], ""), Fault::Answer(200, vec![], "")] {
        server.fault("HEAD", fault);
        assert_eq!(client().resolve(&tagged("v1")).await.unwrap().as_ref(), Some(&pushed.image));
    }
}

#[tokio::test]
async fn a_candidate_to_mount_from_is_used_if_the_registry_plays_along() {
    let server = Server::start().await;
    let mut spec = spec(Duration::ZERO);
    let name = format!("{}/base/app", server.address);
    spec.mount_from = vec![Reference::parse(&name, DefaultRegistry::None).unwrap().repository().clone()];
    let client = Registry::connect(&spec).unwrap();

    server.fault("POST /v2/app/blobs/uploads/?mount=", Fault::Answer(401, vec![], ""));
    client.push_blob(&repository(&server), "text/plain", vec![1]).await.unwrap();
    client.push_blob(&repository(&server), "text/plain", vec![2]).await.unwrap();

    assert_eq!(server.count("POST /v2/app/blobs/uploads/?mount=sha256%3A"), 2);
    assert_eq!(server.count("POST /v2/app/blobs/uploads/ "), 1, "the second goes on in the session of the mount");
    assert_eq!(server.state.blobs.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_blob_may_be_redirected_to_storage_without_the_credentials_and_not_in_circles() {
    let (server, storage) = (Server::start().await, Server::start().await);
    let mut spec = spec(Duration::ZERO);
    let credential = Credential::Basic { username: "ann".to_owned(), password: Secret::new("hunter2") };
    spec.credentials.explicit = vec![(server.address.to_string(), credential)];
    let blob = client().push_blob(&repository(&storage), "text/plain", b"content".to_vec()).await.unwrap();
    let path = format!("/v2/app/blobs/{}", blob.digest);
    server.fault("GET", Fault::Answer(401, vec![("www-authenticate", "Basic realm=x".to_owned())], ""));
    let away = vec![("location", format!("http://{}{path}", storage.address))];
    server.fault("GET", Fault::Answer(307, away, ""));
    let client = Registry::connect(&spec).unwrap();

    assert_eq!(client.blob(&repository(&server), &blob, 100).await.unwrap(), b"content");
    assert_eq!(server.count(&format!("GET {path} Basic")), 1);
    assert_eq!(storage.count(&format!("GET {path} Basic")), 0);

    for _ in 0..10 {
        server.fault("GET", Fault::Answer(302, vec![("location", path.clone())], ""));
    }
    let error = client.blob(&repository(&server), &blob, 100).await.unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error:?}");
}

#[tokio::test]
async fn a_401_from_where_the_registry_redirects_to_is_not_answered_with_credentials() {
    let (server, other) = (Server::start().await, Server::start().await);
    let mut spec = spec(Duration::ZERO);
    let credential = Credential::Basic { username: "ann".to_owned(), password: Secret::new("hunter2") };
    spec.credentials.explicit = vec![(server.address.to_string(), credential)];
    let away = vec![("location", format!("http://{}/v2/app/manifests/v1", other.address))];
    server.fault("GET", Fault::Answer(302, away, ""));
    other.fault("GET", Fault::Answer(401, vec![("www-authenticate", "Basic realm=x".to_owned())], ""));

    let error = Registry::connect(&spec).unwrap().find_manifest(&repository(&server), "v1").await.unwrap_err();

    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error:?}");
    assert_eq!(other.state.log.lock().unwrap().iter().filter(|line| line.contains("Basic")).count(), 0);
    assert_eq!(other.count("GET"), 1);
}

#[tokio::test]
async fn the_fallback_tag_may_be_something_else() {
    let server = Server::start().await;
    let pushed = push(&client(), &server, image(&[10])).await.unwrap();
    let tag = ManifestTarget::Tag(pushed.image.digest().to_string().replace(':', "-").parse().unwrap());
    let (manifest, repository) = (&pushed.manifest, repository(&server));

    // GitLab serves the subject itself.
    client().push_manifest(&repository, &tag, manifest.media_type(), manifest.bytes()).await.unwrap();
    assert_eq!(client().referrers(&pushed.image).await.unwrap().listing, ReferrersListing::Nothing);

    let other = String::from_utf8(manifest.bytes().to_vec()).unwrap() + " ";
    client().push_manifest(&repository, &tag, manifest.media_type(), other.as_bytes()).await.unwrap();
    let error = client().referrers(&pushed.image).await.unwrap_err();
    assert!(matches!(error, RegistryError::ReferrersTag { .. }), "{error:?}");
}
