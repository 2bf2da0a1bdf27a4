"""Each source, to each registry: published, verified by everybody, refused when anything is changed, and run again."""
import base64
import json

from .cases import REGISTRIES, case
from .environment import check
from .judges import all_refuse, all_verify, publish
from .repository import Repository, transplant
from .services import recording

ANNOTATIONS = {"sha": "0f4ad1f1c8a1e4d2b3c5a69788f0e1d2c3b4a596", "run_id": "4711", "run_attempt": "2"}


def layout(env, repository):
    return f"oci:{env.services.images.layout}", {}


def layout_with_name(env, repository):
    return f"oci:{env.services.images.skopeo_layout}:twins", {}


def oci_archive(env, repository):
    return f"oci-archive:{env.services.images.oci_archive}", {}


def legacy_archive(env, repository):
    return f"docker-archive:{env.services.images.legacy_archive}", {}


def skopeo_archive(env, repository):
    return f"docker-archive:{env.services.images.skopeo_archive}:interop/twins:v1", {}


def crane_archive(env, repository):
    return f"docker-archive:{env.services.images.crane_archive}", {}


def engine(env, repository):
    return f"docker-daemon:{env.services.images.in_engine}", {"DOCKER_HOST": env.services.docker_engine.host}


def engine_twins(env, repository):
    return f"docker-daemon:{env.services.images.twins_in_engine}", {"DOCKER_HOST": env.services.docker_engine.host}


def in_registry(env, repository):
    """The image is there under its digest, without a tag."""
    images = env.services.images
    pinned = f"{repository}@{env.run([env.peers('crane'), 'digest', images.busybox]).stdout.strip()}"
    env.run([env.peers("crane"), "push", images.layout, pinned])
    return f"registry:{pinned}", {}


SOURCES = {
    "an OCI layout by crane": layout,
    "a named image of an OCI layout by skopeo": layout_with_name,
    "an OCI archive by skopeo": oci_archive,
    "a docker archive by docker save with two identical layers": legacy_archive,
    "a docker archive by skopeo": skopeo_archive,
    "a docker archive by crane": crane_archive,
    "Docker Engine": engine,
    "an image of Docker Engine with two identical layers": engine_twins,
    "an image that is in the registry": in_registry,
}


def register(title, source, registry):
    @case(f"publish {title} to the {registry.replace('_', ' ')}")
    def published(env):
        with recording(getattr(env.services, registry)) as proxy:
            judge(env, proxy, source)


for title, source in SOURCES.items():
    for registry in REGISTRIES:
        register(title, source, registry)


def judge(env, proxy, source):
    keys = env.services.images.keys
    repository = Repository(env.repository(proxy))
    tagged = f"{repository.text}:v1"
    words, variables = source(env, repository.text)
    check(repository.digest("v1") is None, "the tag exists before anything is published")
    del proxy.requests[:]

    outputs, _ = publish(env, tagged, "--source", words, annotations=ANNOTATIONS, variables=variables)

    digest = outputs["digest"]
    check(repository.digest("v1") == digest, f"the tag points at {repository.digest('v1')}, the output says {digest}")
    written = [target for target, _ in proxy.writes()]
    check(written[-1] == "v1" and written.count("v1") == 1, f"the tag is not what is written last: {written}")
    check(outputs["image"] == f"{repository.text}@{digest}", f"outputs: {outputs}")
    all_verify(env, tagged, keys / "ours.pub", ANNOTATIONS, digest)
    all_verify(env, outputs["image"], keys / "ours.pub", ANNOTATIONS, digest)
    env.run([env.peers("crane"), "validate", "--remote", tagged])
    all_refuse(env, tagged, keys / "other.pub", ANNOTATIONS)
    all_refuse(env, tagged, keys / "ours.pub", {**ANNOTATIONS, "run_id": "4712"})
    all_refuse(env, tagged, keys / "ours.pub", {**ANNOTATIONS, "unheard": "of"})
    refused_when_changed(env, repository, digest)
    again(env, proxy, repository, words, variables, outputs)


def refused_when_changed(env, repository, digest):
    """One byte at a time, in a repository of its own that holds everything else as it was signed."""
    key = env.services.images.keys / "ours.pub"
    copies = {
        "untouched": {},
        "image": {"image": lambda content: content + b"\n"},
        "payload": {"payload": change_payload, "envelope": change_statement},
        "signature": {"signature": change_base64, "envelope": change_signature},
    }
    for name, changes in copies.items():
        copy = Repository(f"{repository.text}-{name}")
        written = transplant(repository, digest, copy, **changes)
        pinned = f"{copy.text}@{written}"
        if not changes:
            all_verify(env, pinned, key, ANNOTATIONS, digest)
        else:
            all_verify(env, f"{repository.text}@{digest}", key, ANNOTATIONS, digest)
            all_refuse(env, pinned, key, ANNOTATIONS)


def change_payload(content):
    changed = content.replace(b'"run_id":"4711"', b'"run_id":"4712"')
    check(changed != content, f"the payload has no run_id: {content}")
    return changed


def change_statement(content):
    bundle = json.loads(content)
    envelope = bundle["dsseEnvelope"]
    statement = base64.b64decode(envelope["payload"])
    changed = statement.replace(b'"run_attempt":"2"', b'"run_attempt":"3"')
    check(changed != statement, f"the statement has no run_attempt: {statement}")
    envelope["payload"] = base64.b64encode(changed).decode()
    return json.dumps(bundle).encode()


def change_signature(content):
    bundle = json.loads(content)
    [signature] = bundle["dsseEnvelope"]["signatures"]
    signature["sig"] = change_base64(signature["sig"])
    return json.dumps(bundle).encode()


def change_base64(text):
    raw = bytearray(base64.b64decode(text))
    raw[len(raw) // 2] ^= 1
    return base64.b64encode(raw).decode()


def again(env, proxy, repository, words, variables, outputs):
    """The same job once more writes no manifest, stores nothing new, and gives the same outputs.

    Where layers are not compressed yet, their digests are not known before they were sent: those are sent again.
    """
    before = stored(proxy, repository)
    del proxy.requests[:]

    repeated, _ = publish(env, f"{repository.text}:v1", "--source", words, annotations=ANNOTATIONS, variables=variables,
                          outputs="outputs-again")

    check(proxy.writes() == [], f"the second run wrote {[target for target, _ in proxy.writes()]}")
    uncompressed = words.startswith("docker-daemon:") or "legacy-archive" in words or "skopeo-archive" in words
    check(uncompressed or proxy.uploads() == 0, f"the second run uploaded {proxy.uploads()} blobs")
    check(stored(proxy, repository) == before, "the second run changed what the registry stores")
    different = {name: (outputs.get(name), repeated.get(name)) for name in {*outputs, *repeated}
                 if outputs.get(name) != repeated.get(name)}
    check(not different, f"the second run gave other outputs: {different}")


def stored(proxy, repository):
    """Returns every file that the registry keeps for the repository: digests of manifests and blobs, and tags."""
    if proxy.kind != "docker-registry":
        return json.loads(repository.ask("GET", "/tags/list")[2])
    folder = proxy.storage / "docker/registry/v2/repositories" / repository.text.split("/", 1)[1]
    return sorted((str(path.relative_to(folder)), path.read_text()) for path in folder.rglob("link"))
