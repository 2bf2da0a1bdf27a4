"""Reads and writes a repository by hand, so that what tools say can be compared, and what is stored can be changed."""
import hashlib
import json
import urllib.error
import urllib.request

from .environment import Failed

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ACCEPTED = ", ".join([MANIFEST, INDEX, "application/vnd.docker.distribution.manifest.v2+json",
                      "application/vnd.docker.distribution.manifest.list.v2+json"])
SIGNATURE = "dev.cosignproject.cosign/signature"


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Repository:
    """A repository of a registry on loopback, written `HOST:PORT/NAME`."""

    def __init__(self, text):
        self.text = text
        host, name = text.split("/", 1)
        self.base = f"http://{host}/v2/{name}"

    def ask(self, method, path, body=None, headers=None, expect=(200,)):
        url = path if path.startswith("http") else f"{self.base}{path}"
        request = urllib.request.Request(url, method=method, data=body, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                status, headers, content = response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            status, headers, content = error.code, error.headers, error.read()
        if status not in expect:
            raise Failed(f"{method} {url}: {status} {content[:500]!r}")
        return status, headers, content

    def manifest(self, target):
        """Returns the bytes and the media type of a manifest, or None."""
        status, headers, content = self.ask("GET", f"/manifests/{target}", headers={"Accept": ACCEPTED},
                                            expect=(200, 404))
        return (content, headers["Content-Type"]) if status == 200 else None

    def digest(self, target):
        """Returns the digest that a tag points at, or None."""
        found = self.manifest(target)
        return found and digest_of(found[0])

    def blob(self, digest):
        return self.ask("GET", f"/blobs/{digest}")[2]

    def push_blob(self, content):
        _, headers, _ = self.ask("POST", "/blobs/uploads/", body=b"", expect=(202,))
        place = headers["Location"]
        if place.startswith("/"):
            place = "/".join(self.base.split("/")[:3]) + place
        place += ("&" if "?" in place else "?") + f"digest={digest_of(content)}"
        self.ask("PUT", place, body=content, headers={"Content-Type": "application/octet-stream"}, expect=(201,))
        return digest_of(content)

    def push_manifest(self, content, media_type, tag=None):
        self.ask("PUT", f"/manifests/{tag or digest_of(content)}", body=content, headers={"Content-Type": media_type},
                 expect=(201,))
        return digest_of(content)

    def delete(self, digest):
        self.ask("DELETE", f"/manifests/{digest}", expect=(202,))

    def has_referrers_api(self):
        return self.ask("GET", f"/referrers/sha256:{'0' * 64}", expect=(200, 404))[0] == 200

    def referrers(self, digest):
        """Returns the digests of what refers to `digest`: the API's answer, or what the fallback tag holds."""
        if self.has_referrers_api():
            content = self.ask("GET", f"/referrers/{digest}")[2]
        else:
            found = self.manifest(digest.replace(":", "-"))
            content = found[0] if found else b'{"manifests":[]}'
        return [child["digest"] for child in json.loads(content)["manifests"] or []]

    def signatures(self, digest):
        """Returns the legacy manifest (or None) and the bundle manifests of an image, as JSON."""
        legacy = self.manifest(digest.replace(":", "-") + ".sig")
        bundles = [json.loads(self.manifest(bundle)[0]) for bundle in self.referrers(digest)]
        bundles = [bundle for bundle in bundles if "bundle" in bundle.get("artifactType", "")]
        return legacy and json.loads(legacy[0]), bundles


def transplant(source, digest, target, image=lambda content: content, payload=lambda content: content,
               signature=lambda text: text, envelope=lambda content: content):
    """Copies an image and all its signatures by hand into the repository `target`, and returns its digest there.

    The functions change, on the way, the image's manifest, the legacy payload, the legacy signature, and the bundle's
    content. The signatures are stored as those of the image that is written, whatever they are over.
    """
    content, media_type = source.manifest(digest)
    copy_blobs(source, target, json.loads(content))
    content = image(content)
    written = target.push_manifest(content, media_type)
    legacy, bundles = source.signatures(digest)
    if legacy is None or not bundles:
        raise Failed(f"{source.text}@{digest} has not both formats: {legacy}, {bundles}")
    copy_blobs(source, target, {"config": legacy["config"]})
    for layer in legacy["layers"]:
        changed = payload(source.blob(layer["digest"]))
        layer.update(digest=target.push_blob(changed), size=len(changed))
        layer["annotations"][SIGNATURE] = signature(layer["annotations"][SIGNATURE])
    target.push_manifest(json.dumps(legacy).encode(), MANIFEST, written.replace(":", "-") + ".sig")
    entries = []
    for bundle in bundles:
        copy_blobs(source, target, {"config": bundle["config"]})
        [layer] = bundle["layers"]
        changed = envelope(source.blob(layer["digest"]))
        layer.update(digest=target.push_blob(changed), size=len(changed))
        bundle["subject"] = {"mediaType": media_type, "digest": written, "size": len(content)}
        raw = json.dumps(bundle).encode()
        entries.append({"mediaType": MANIFEST, "digest": target.push_manifest(raw, MANIFEST), "size": len(raw),
                        "artifactType": bundle["artifactType"], "annotations": bundle.get("annotations", {})})
    if not target.has_referrers_api():
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        target.push_manifest(json.dumps(index).encode(), INDEX, written.replace(":", "-"))
    return written


def copy_blobs(source, target, manifest):
    for descriptor in [manifest["config"], *manifest.get("layers", [])]:
        target.push_blob(source.blob(descriptor["digest"]))
