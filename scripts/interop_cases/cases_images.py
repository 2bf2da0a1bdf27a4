"""What is pushed is what was built: digests, bytes, indexes, and images that other tools pull and run."""
import json

from .cases import case, on_each_registry
from .environment import FAILS, check
from .images import GREETING, Layout
from .judges import COSIGNS, all_refuse, all_verify, cosign_sign, cosign_verify, publish, touchmark_verify
from .repository import Repository
from .services import recording

ANNOTATIONS = {"sha": "abc123", "run_id": "42"}


@on_each_registry("digests are those that crane, skopeo and oras give for the same layout")
def digests(env, repository):
    images, crane, skopeo, oras = env.services.images, env.peers("crane"), env.peers("skopeo"), env.peers("oras")
    env.run([crane, "push", images.layout, f"{repository.text}:crane"])
    env.run([skopeo, "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{images.skopeo_layout}:busybox",
             f"docker://{repository.text}:skopeo"])
    env.run([oras, "copy", "--to-plain-http", "--from-oci-layout", f"{images.oras_layout}:v1",
             f"{repository.text}:oras"])
    layouts = [f"oci:{images.layout}", str(images.layout), f"oci:{images.oras_layout}:v1",
               f"oci:{images.skopeo_layout}:busybox", f"oci-archive:{images.oci_archive}", str(images.oci_archive)]
    given = {words: publish(env, f"{repository.text}:ours", "--source", words)[0]["digest"] for words in layouts}
    wanted = {tag: repository.digest(tag) for tag in ("crane", "skopeo", "oras")}
    check(len({*given.values(), *wanted.values()}) == 1, f"{given}, {wanted}")
    said = env.run([crane, "digest", f"{repository.text}:ours"]).stdout.strip()
    check(said == wanted["crane"], f"crane digest says {said}")
    said = env.run([skopeo, "inspect", "--tls-verify=false", f"docker://{repository.text}:ours"]).stdout
    check(json.loads(said)["Digest"] == wanted["crane"], f"skopeo inspect says {said}")


@on_each_registry("a docker archive has one digest, however it is read and however often")
def archive_digests(env, repository):
    images = env.services.images
    runs = {
        "1 job": ("docker-archive:{}", ["--jobs", "1"]),
        "16 jobs": ("docker-archive:{}", ["--jobs", "16"]),
        "detected": ("{}", []),
        "named": ("docker-archive:{}:interop/twins:v1", []),
    }
    runs = {name: (words.format(images.legacy_archive), more) for name, (words, more) in runs.items()}
    runs["engine"] = f"docker-daemon:{images.twins_in_engine}", []
    engine = {"DOCKER_HOST": env.services.docker_engine.host}
    given = {name: publish(env, f"{repository.text}:v1", "--source", source, *more, variables=engine)[0]["digest"]
             for name, (source, more) in runs.items()}
    check(len(set(given.values())) == 1, f"{given}")
    layers = json.loads(repository.manifest("v1")[0])["layers"]
    check(len(layers) == 3 and layers[1] == layers[2], f"two layers are identical, and the registry has {layers}")


@on_each_registry("crane, skopeo and oras pull what was pushed")
def others_pull(env, repository):
    images, image = env.services.images, f"{repository.text}:v1"
    for source in (images.layout, images.legacy_archive, images.crane_archive):
        digest = publish(env, image, "--source", source)[0]["digest"]
        name = source.name
        env.run([env.peers("crane"), "pull", "--format=oci", image, f"crane-{name}"])
        env.run([env.peers("skopeo"), "--insecure-policy", "copy", "--src-tls-verify=false", "--preserve-digests",
                 f"docker://{image}", f"oci:skopeo-{name}:v1"])
        env.run([env.peers("oras"), "copy", "--from-plain-http", "--to-oci-layout", image, f"oras-{name}:v1"])
        for tool in ("crane", "skopeo", "oras"):
            [entry] = Layout(env.tmp / f"{tool}-{name}").index()["manifests"]
            check(entry["digest"] == digest, f"{tool} pulled {entry['digest']}, and {digest} was pushed")
        env.run([env.peers("crane"), "validate", "--remote", image])


@on_each_registry("Docker Engine pulls and runs what was pushed from each source")
def engine_runs(env, repository):
    images, engine = env.services.images, {"DOCKER_HOST": env.services.docker_engine.host}
    sources = {
        "layout": f"oci:{images.layout}",
        "oci-archive": f"oci-archive:{images.oci_archive}",
        "legacy-archive": f"docker-archive:{images.legacy_archive}",
        "skopeo-archive": f"docker-archive:{images.skopeo_archive}",
        "crane-archive": f"docker-archive:{images.crane_archive}",
        "engine": f"docker-daemon:{images.in_engine}",
    }
    for tag, source in sources.items():
        outputs, _ = publish(env, f"{repository.text}:{tag}", "--source", source, variables=engine)
        pulled = env.run([env.peers("docker"), "pull", outputs["image"]], env=engine).stdout
        check(outputs["digest"] in pulled, pulled)
        said = env.run([env.peers("docker"), "run", "--rm", "--network", "host", outputs["image"]], env=engine).stdout
        check(said == f"{GREETING}\n", f"the container of {source} said {said!r}")
    said = env.run([env.peers("docker"), "run", "--rm", "--network", "host", f"{repository.text}:legacy-archive", "cat",
                    "/etc/greeting"], env=engine).stdout
    check(said == f"{GREETING}\n", f"the second layer holds {said!r}")


@on_each_registry("an index: every platform verifies by its digest")
def platforms(env, repository):
    key = env.services.images.keys / "ours.pub"
    image, source = f"{repository.text}:v1", f"oci:{env.services.images.platforms_layout}:v1"
    outputs, _ = publish(env, image, "--source", source, annotations=ANNOTATIONS)
    children = json.loads(repository.manifest("v1")[0])["manifests"]
    listed = {f"{child['platform']['os']}/{child['platform']['architecture']}": child["digest"] for child in children}
    check(sorted(listed) == ["linux/amd64", "linux/arm64"], f"the index holds {listed}")
    check(json.loads(outputs["platforms"]) == listed, f"the output says {outputs['platforms']}, the index {listed}")
    all_verify(env, image, key, ANNOTATIONS, outputs["digest"])
    for digest in listed.values():
        all_verify(env, f"{repository.text}@{digest}", key, ANNOTATIONS, digest)
        all_refuse(env, f"{repository.text}@{digest}", key, {"sha": "abc124"})
    for platform in listed:
        pulled = env.run([env.peers("crane"), "digest", "--platform", platform, image]).stdout.strip()
        check(pulled == listed[platform], f"crane gets {pulled} for {platform}")


@on_each_registry("an index, not recursive: the index alone is signed")
def not_recursive(env, repository):
    key = env.services.images.keys / "ours.pub"
    image = f"{repository.text}:v1"
    outputs, _ = publish(env, image, "--source", f"oci:{env.services.images.platforms_layout}:v1", "--recursive=false",
                         annotations=ANNOTATIONS)
    all_verify(env, image, key, ANNOTATIONS, outputs["digest"])
    for child in json.loads(repository.manifest("v1")[0])["manifests"]:
        pinned = f"{repository.text}@{child['digest']}"
        for cosign in COSIGNS:
            cosign_verify(env, cosign, pinned, key, expect=FAILS)
        touchmark_verify(env, pinned, key, expect=10)
    env.touchmark("sign", "--recursive", "--key", env.services.images.keys / "ours.key", "-a", "late=yes", image)
    for child in json.loads(repository.manifest("v1")[0])["manifests"]:
        all_verify(env, f"{repository.text}@{child['digest']}", key, {"late": "yes"}, child["digest"])


@on_each_registry("cosign signs an index recursively, touchmark verifies each platform")
def cosign_recursive(env, repository):
    keys = env.services.images.keys
    env.run([env.peers("oras"), "copy", "--to-plain-http", "--from-oci-layout",
             f"{env.services.images.platforms_layout}:v1", f"{repository.text}:v1"])
    digest = repository.digest("v1")
    for cosign in COSIGNS:
        cosign_sign(env, cosign, f"{repository.text}@{digest}", keys / "ours.key", {"by": cosign}, ["--recursive"])
    children = [child["digest"] for child in json.loads(repository.manifest(digest)[0])["manifests"]]
    for one in (digest, *children):
        for cosign in COSIGNS:
            touchmark_verify(env, f"{repository.text}@{one}", keys / "ours.pub", {"by": cosign})


@on_each_registry("an index by BuildKit: the attestation manifest keeps its bytes, and is not signed")
def attestation_manifest(env, repository):
    key = env.services.images.keys / "ours.pub"
    layout = Layout(env.services.images.attested_layout)
    image = f"{repository.text}:v1"
    outputs, _ = publish(env, image, "--source", f"oci:{layout.folder}", annotations=ANNOTATIONS)
    [entry] = layout.index()["manifests"]
    check(outputs["digest"] == entry["digest"], f"the index was {entry['digest']}, and is {outputs['digest']}")
    check(repository.manifest("v1")[0] == layout.blob(entry["digest"]), "the index has other bytes")
    platform, attestation = json.loads(repository.manifest("v1")[0])["manifests"]
    written = layout.blob(attestation["digest"])
    check(repository.manifest(attestation["digest"])[0] == written, "the attestation manifest has other bytes")
    for blob in json.loads(written)["layers"]:
        check(repository.blob(blob["digest"]) == layout.blob(blob["digest"]), "the statement has other bytes")
    check(json.loads(outputs["platforms"]) == {"linux/amd64": platform["digest"]}, outputs["platforms"])
    all_verify(env, image, key, ANNOTATIONS, outputs["digest"])
    all_verify(env, f"{repository.text}@{platform['digest']}", key, ANNOTATIONS, platform["digest"])
    check(repository.signatures(attestation["digest"]) == (None, []), "the attestation manifest is signed")
    # Without --fast, crane takes the statement for a compressed layer.
    env.run([env.peers("crane"), "validate", "--fast", "--remote", image])


def register_refusals(name, refused):
    """While the registry refuses something, the tag stays away, and then comes with the same job."""
    @on_each_registry(f"no tag while the registry refuses {name}")
    def refusal(env, repository):
        registry = getattr(env.services, "referrers_registry" if repository.has_referrers_api() else "docker_registry")
        layout = f"oci:{env.services.images.layout}"
        with recording(registry) as proxy:
            behind = Repository(f"{proxy.address}/{repository.text.split('/', 1)[1]}")
            proxy.refuse = refused
            _, ran = publish(env, f"{behind.text}:v1", "--source", layout, expect=(21, 24, 25))
            check(any(request.status == 403 for request in proxy.requests), "nothing was refused")
            check(behind.digest("v1") is None, f"the tag is there after exit status {ran.code}")
            proxy.refuse = lambda method, path, body: False
            outputs, _ = publish(env, f"{behind.text}:v1", "--source", layout)
            check(behind.digest("v1") == outputs["digest"], "the tag is not there after the second run")
            all_verify(env, f"{behind.text}:v1", env.services.images.keys / "ours.pub", digest=outputs["digest"])


register_refusals("legacy signatures", lambda method, path, body: method == "PUT" and path.endswith(".sig"))
register_refusals("bundles", lambda method, path, body: method == "PUT" and b'"subject"' in body)
register_refusals("blobs", lambda method, path, body: method in ("POST", "PATCH", "PUT") and "/blobs/" in path)


# In a payload, in a bundle, and in a manifest.
ONE_BYTE = [(b'"run_id":"42"', b'"run_id":"43"'), (b'"payload":"ey', b'"payload":"ez'), (b"sha256:", b"sha256;")]


@case("what was changed in the registry's storage is not believed")
def storage(env):
    registry = env.services.docker_registry
    repository = Repository(env.repository(registry))
    key = env.services.images.keys / "ours.pub"
    outputs, _ = publish(env, f"{repository.text}:v1", "--source", f"oci:{env.services.images.platforms_layout}:v1",
                         annotations={**ANNOTATIONS, "case": env.tmp.name})
    digest = outputs["digest"]
    legacy, [bundle] = repository.signatures(digest)
    legacy_manifest = repository.digest(digest.replace(":", "-") + ".sig")
    stored = {
        "the payload and the bundle": [legacy["layers"][0]["digest"], bundle["layers"][0]["digest"]],
        "the manifests of both signatures": [legacy_manifest, *repository.referrers(digest)],
    }
    for name, digests in stored.items():
        all_verify(env, f"{repository.text}:v1", key, ANNOTATIONS, digest)
        places = [registry.storage / f"docker/registry/v2/blobs/sha256/{one[7:9]}/{one[7:]}/data" for one in digests]
        whole = [place.read_bytes() for place in places]
        for place, content in zip(places, whole):
            changed = next((content.replace(old, new, 1) for old, new in ONE_BYTE if old in content), content)
            check(changed != content, f"nothing to change in {content}")
            place.write_bytes(changed)
        ran = touchmark_verify(env, f"{repository.text}:v1", key, ANNOTATIONS, expect=(12, 21, 25))
        for cosign in COSIGNS:
            cosign_verify(env, cosign, f"{repository.text}:v1", key, ANNOTATIONS, expect=FAILS)
        check("Found" not in ran.stderr, f"{name}: {ran.stderr}")
        for place, content in zip(places, whole):
            place.write_bytes(content)
    all_verify(env, f"{repository.text}:v1", key, ANNOTATIONS, digest)
