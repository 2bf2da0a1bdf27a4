//! Small images, written as the tools write them. Everything is the same each time.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use touchmark::oci::Digest;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes an OCI layout with one image of two layers, and returns the image's digest.
pub(crate) fn layout(folder: &Path) -> String {
    let descriptor = image(folder, "amd64");
    finish(folder, &format!("[{descriptor}]"));
    digest_in(&descriptor)
}

/// Writes an OCI layout as BuildKit does: an index of two platform images, and an attestation manifest for the first.
pub(crate) fn multi_platform_layout(folder: &Path) -> String {
    let platform = |descriptor: &str, architecture: &str| {
        let platform = format!(r#","platform":{{"architecture":"{architecture}","os":"linux"}}}}"#);
        format!("{}{platform}", &descriptor[..descriptor.len() - 1])
    };
    let (first, second) = (image(folder, "amd64"), image(folder, "arm64"));
    let attestation = attestation(folder, &digest_in(&first));
    // White space and key order of BuildKit, which must survive.
    let index = format!(
        "{{\n  \"schemaVersion\": 2,\n  \"mediaType\": \"{INDEX}\",\n  \"manifests\": [{}, {}, {attestation}]\n}}",
        platform(&first, "amd64"),
        platform(&second, "arm64"),
    );
    let descriptor = blob(folder, INDEX, index.as_bytes());
    finish(folder, &format!("[{descriptor}]"));
    digest_in(&descriptor)
}

/// Writes a `docker save` archive of the old kind, with two equal layers.
pub(crate) fn docker_archive(file: &Path) {
    let layer = tar(&[("hello.txt", b"hello\n")]);
    let diff_id = Digest::of(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}","{diff_id}"]}}}}"#
    );
    let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let manifest =
        format!(r#"[{{"Config":"{name}","RepoTags":["app:latest"],"Layers":["a/layer.tar","b/layer.tar"]}}]"#);
    let entries: [(&str, &[u8]); 4] = [
        ("a/layer.tar", &layer),
        ("b/layer.tar", &layer),
        (&name, config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ];
    fs::write(file, tar(&entries)).expect("the archive is written");
}

fn image(folder: &Path, architecture: &str) -> String {
    let layers: Vec<Vec<u8>> = [("etc/motd", architecture), ("app", "the application")]
        .into_iter()
        .map(|(name, text)| tar(&[(name, text.as_bytes())]))
        .collect();
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    );
    let config = blob(folder, "application/vnd.oci.image.config.v1+json", config.as_bytes());
    let layers: Vec<String> =
        layers.iter().map(|layer| blob(folder, "application/vnd.oci.image.layer.v1.tar+gzip", &gzip(layer))).collect();
    let manifest =
        format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{}]}}"#, layers.join(","));
    blob(folder, MANIFEST, manifest.as_bytes())
}

fn attestation(folder: &Path, subject: &str) -> String {
    let statement = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v0.2","subject":[{{"name":"app","digest":{{"sha256":"{}"}}}}],"predicate":{{}}}}"#,
        &subject["sha256:".len()..]
    );
    let layer = blob(folder, "application/vnd.in-toto+json", statement.as_bytes());
    let config = blob(
        folder,
        "application/vnd.oci.image.config.v1+json",
        br#"{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#,
    );
    let manifest = format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layer}]}}"#);
    let descriptor = blob(folder, MANIFEST, manifest.as_bytes());
    format!(
        r#"{},"annotations":{{"vnd.docker.reference.digest":"{subject}","vnd.docker.reference.type":"attestation-manifest"}},"platform":{{"architecture":"unknown","os":"unknown"}}}}"#,
        &descriptor[..descriptor.len() - 1]
    )
}

fn finish(folder: &Path, manifests: &str) {
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("the layout is written");
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":{manifests}}}"#);
    fs::write(folder.join("index.json"), index).expect("the layout is written");
}

/// Writes a blob, and returns its descriptor.
fn blob(folder: &Path, media_type: &str, bytes: &[u8]) -> String {
    let digest = Digest::of(bytes);
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("the layout is written");
    fs::write(blobs.join(digest.hex()), bytes).expect("the layout is written");
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#, bytes.len())
}

fn digest_in(descriptor: &str) -> String {
    let parsed: serde_json::Value = serde_json::from_str(descriptor).expect("a descriptor is JSON");
    parsed["digest"].as_str().expect("a descriptor has a digest").to_owned()
}

fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        builder.append_data(&mut header, name, *bytes).expect("a tar is written to memory");
    }
    builder.into_inner().expect("a tar is written to memory")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("gzip to memory");
    encoder.finish().expect("gzip to memory")
}
