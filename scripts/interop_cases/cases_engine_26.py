"""Docker Engine 26, whose `docker save` writes an OCI layout beside the old files."""
import shutil
import tarfile

from .cases import case
from .environment import check
from .services import docker_engine


@case("engine 26: docker save in the OCI-compatible layout, and the engine itself, give one digest")
def oci_compatible_save(env):
    folder = env.tmp / "context"
    folder.mkdir()
    (folder / "greeting").write_text("hello\n")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY greeting /a\nCOPY greeting /b\nCOPY greeting /a\n")
    keys = env.services.images.keys
    shutil.copy(keys / "ours.key", env.tmp / "cosign.key")
    repository = env.repository(env.services.docker_registry)
    engine_folder = env.tmp / "engine"
    engine_folder.mkdir()
    with docker_engine(engine_folder, "dockerd-new") as engine:
        docker = lambda *words: env.run([env.peers("docker"), *words], env={"DOCKER_HOST": engine.host, "DOCKER_BUILDKIT": "0"})
        docker("build", "-q", "-t", "sample:v1", folder)
        docker("save", "-o", env.tmp / "saved.tar", "sample:v1")
        with tarfile.open(env.tmp / "saved.tar") as archive:
            names = archive.getnames()
        check("oci-layout" in names and "manifest.json" in names, f"not the layout that was to be tried: {names}")
        for tag, source in [("saved", "docker-archive:saved.tar"), ("engine", "docker-daemon:sample:v1")]:
            env.touchmark("publish", "--image", f"{repository}:{tag}", "--source", source, "--key", "cosign.key", cwd=env.tmp,
                          env={"DOCKER_HOST": engine.host})
    digests = {env.run([env.peers("crane"), "digest", f"{repository}:{tag}"]).stdout for tag in ("saved", "engine")}
    check(len(digests) == 1, f"{digests}")
    for cosign in ("cosign2", "cosign3"):
        env.run([env.peers(cosign), "verify", "--key", keys / "ours.pub", "--insecure-ignore-tlog", f"{repository}:saved"])
    env.run([env.peers("crane"), "validate", "--remote", f"{repository}:saved"])
