"""Builds the sample images with the real tools. Each is made when it is first asked for, and kept for all cases."""
import functools
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile

from .environment import PASSWORD, Failed, peer, variables

GREETING = "the image runs"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Images:
    """Sample images, and the key pairs `keys/ours` and `keys/other`, made by cosign 2."""

    def __init__(self, folder, services):
        self.folder = folder
        self.services = services

    def run(self, *words, env=None, cwd=None):
        words = [str(word) for word in words]
        ran = subprocess.run(words, capture_output=True, text=True, cwd=cwd or self.folder, timeout=300,
                             env={**variables(self.folder), **(env or {})})
        if ran.returncode:
            raise Failed(f"$ {' '.join(words)}\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
        return ran.stdout.strip()

    @functools.cached_property
    def keys(self):
        folder = self.folder / "keys"
        folder.mkdir()
        for name in ("ours", "other"):
            self.run(peer("cosign2"), "generate-key-pair", "--output-key-prefix", name,
                     env={"COSIGN_PASSWORD": PASSWORD}, cwd=folder)
        return folder

    @functools.cached_property
    def busybox(self):
        """A reference in the referrers registry: busybox, which prints GREETING; made by crane."""
        return self.crane_image("busybox", [self.layers["busybox"]])

    @functools.cached_property
    def twins(self):
        """A reference: the image with one layer twice."""
        return self.crane_image("twins", [self.layers["busybox"], self.layers["greeting"], self.layers["greeting"]])

    @functools.cached_property
    def arm(self):
        """A reference: an image for arm64, which nobody runs."""
        return self.crane_image("arm", [self.layers["greeting"]], "linux/arm64")

    def crane_image(self, name, layers, platform="linux/amd64"):
        crane, reference = peer("crane"), f"{self.services.referrers_registry.address}/images/{name}:v1"
        files = [word for layer in layers for word in ("-f", layer)]
        self.run(crane, "append", "--oci-empty-base", *files, "-t", reference)
        self.run(crane, "mutate", reference, "--set-platform", platform, "--entrypoint", "/bin/busybox", "--cmd",
                 f"echo,{GREETING}", "-t", reference)
        return reference

    @functools.cached_property
    def layers(self):
        folder = self.folder / "layers"
        folder.mkdir()
        busybox = pathlib.Path(peer("busybox")).resolve().read_bytes()
        files = {"busybox": [("bin/busybox", busybox, 0o755)],
                 "greeting": [("etc/greeting", GREETING.encode() + b"\n", 0o644)]}
        for name, members in files.items():
            with gzip.GzipFile(folder / f"{name}.tar.gz", "wb", mtime=0) as packed, \
                    tarfile.open(fileobj=packed, mode="w") as archive:
                for path, content, mode in members:
                    member = tarfile.TarInfo(path)
                    member.size, member.mode = len(content), mode
                    archive.addfile(member, io.BytesIO(content))
        return {name: folder / f"{name}.tar.gz" for name in files}

    @functools.cached_property
    def layout(self):
        """An OCI layout by crane: one image, without a name."""
        self.run(peer("crane"), "pull", "--format=oci", self.busybox, self.folder / "layout")
        return self.folder / "layout"

    @functools.cached_property
    def oras_layout(self):
        """An OCI layout by oras, with the tag v1."""
        self.run(peer("oras"), "copy", "--from-plain-http", "--to-oci-layout", self.busybox,
                 f"{self.folder}/oras-layout:v1")
        return self.folder / "oras-layout"

    @functools.cached_property
    def skopeo_layout(self):
        """An OCI layout by skopeo, with two images: `busybox` and `twins`."""
        place = self.folder / "skopeo-layout"
        for name, reference in (("busybox", self.busybox), ("twins", self.twins)):
            self.skopeo("copy", "--src-tls-verify=false", f"docker://{reference}", f"oci:{place}:{name}")
        return place

    def skopeo(self, *words):
        return self.run(peer("skopeo"), "--insecure-policy", *words)

    @functools.cached_property
    def oci_archive(self):
        """An OCI archive by skopeo."""
        self.skopeo("copy", f"oci:{self.skopeo_layout}:busybox", f"oci-archive:{self.folder}/oci-archive.tar:v1")
        return self.folder / "oci-archive.tar"

    @functools.cached_property
    def skopeo_archive(self):
        """A docker archive by skopeo."""
        place = self.folder / "skopeo-archive.tar"
        self.skopeo("copy", f"oci:{self.skopeo_layout}:twins", f"docker-archive:{place}:interop/twins:v1")
        return place

    @functools.cached_property
    def crane_archive(self):
        """A docker archive by crane, whose layers are compressed."""
        self.run(peer("crane"), "pull", "--format=tarball", self.busybox, self.folder / "crane-archive.tar")
        return self.folder / "crane-archive.tar"

    @functools.cached_property
    def in_engine(self):
        """The name of an image in Docker Engine, which was built there."""
        place = self.folder / "build"
        place.mkdir()
        shutil.copy(pathlib.Path(peer("busybox")).resolve(), place / "busybox")
        (place / "Dockerfile").write_text("FROM scratch\nCOPY busybox /bin/busybox\nLABEL made.by=interop\n"
                                          f'ENTRYPOINT ["/bin/busybox"]\nCMD ["echo", "{GREETING}"]\n')
        self.docker("build", "-t", "interop/built:v1", place)
        return "interop/built:v1"

    @functools.cached_property
    def twins_in_engine(self):
        """The name of an image in Docker Engine that has two identical layers. It was pulled."""
        self.docker("pull", self.twins)
        self.docker("tag", self.twins, "interop/twins:v1")
        return "interop/twins:v1"

    @functools.cached_property
    def legacy_archive(self):
        """What `docker save` of Docker Engine 20.10 writes, of an image with two identical layers."""
        self.docker("save", "-o", self.folder / "legacy-archive.tar", self.twins_in_engine)
        with tarfile.open(self.folder / "legacy-archive.tar") as archive:
            layers = json.load(archive.extractfile("manifest.json"))[0]["Layers"]
            if len(layers) != 3 or not any(archive.getmember(layer).issym() for layer in layers):
                raise Failed(f"docker save wrote no link for the second of two identical layers: {layers}")
        return self.folder / "legacy-archive.tar"

    def docker(self, *words):
        return self.run(peer("docker"), *words,
                        env={"DOCKER_HOST": self.services.docker_engine.host, "DOCKER_BUILDKIT": "0"})

    @functools.cached_property
    def platforms_layout(self):
        """An OCI layout by oras with the tag v1: an index by crane of an amd64 and an arm64 image."""
        reference = f"{self.services.referrers_registry.address}/images/platforms:v1"
        self.run(peer("crane"), "index", "append", "-m", self.busybox, "-m", self.arm, "-t", reference)
        self.run(peer("oras"), "copy", "--from-plain-http", "--to-oci-layout", reference,
                 f"{self.folder}/platforms-layout:v1")
        return self.folder / "platforms-layout"

    @functools.cached_property
    def attested_layout(self):
        """An OCI layout as BuildKit exports it: an index of an image and of the attestation manifest about it."""
        place = self.folder / "attested-layout"
        shutil.copytree(self.platforms_layout, place)
        layout = Layout(place)
        image = next(child for child in layout.index_of_images()["manifests"]
                     if child["platform"]["architecture"] == "amd64")
        statement = layout.add({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{"name": "pkg:docker/app@v1?platform=linux%2Famd64",
                         "digest": {"sha256": image["digest"].removeprefix("sha256:")}}],
            "predicate": {"builder": {"id": ""}, "buildType": "https://mobyproject.org/buildkit@v1"},
        }, "application/vnd.in-toto+json")
        statement["annotations"] = {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
        config = layout.add({
            "architecture": "unknown", "os": "unknown", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [statement["digest"]]},
        }, "application/vnd.oci.image.config.v1+json")
        attestation = layout.add({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [statement],
        }, MANIFEST)
        attestation["annotations"] = {"vnd.docker.reference.digest": image["digest"],
                                      "vnd.docker.reference.type": "attestation-manifest"}
        attestation["platform"] = {"architecture": "unknown", "os": "unknown"}
        index = layout.add({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image, attestation]}, INDEX)
        index["annotations"] = {"io.containerd.image.name": "docker.io/library/app:v1",
                                "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
                                "org.opencontainers.image.ref.name": "v1"}
        layout.write_index([index])
        return place


class Layout:
    """An OCI layout on disk."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def index(self):
        return json.loads((self.folder / "index.json").read_text())

    def index_of_images(self):
        """Returns the index that is named in `index.json`; oras lists the images in it beside it, without names."""
        [entry] = [entry for entry in self.index()["manifests"] if "annotations" in entry]
        return json.loads(self.blob(entry["digest"]))

    def blob(self, digest):
        return (self.folder / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()

    def add(self, content, media_type):
        """Adds JSON as a blob, indented as BuildKit does, and returns its descriptor."""
        content = json.dumps(content, indent=2).encode()
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / "blobs/sha256" / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def write_index(self, manifests):
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        place = self.folder / "index.json"
        place.with_suffix(".new").write_text(json.dumps(index))
        os.replace(place.with_suffix(".new"), place)
