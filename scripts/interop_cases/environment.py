"""What a case is given: the binary, a folder of its own, the real tools, and services that all cases share."""
import collections
import functools
import os
import pathlib
import subprocess
import sys

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent
PEERS = pathlib.Path(os.environ.get("TOUCHMARK_CACHE", pathlib.Path.home() / ".cache/touchmark")) / "peers/bin"
PASSWORD = "testpw"
# An exit status for `expect`: any but 0.
FAILS = "not 0"

Ran = collections.namedtuple("Ran", "code stdout stderr")


class Failed(Exception):
    """What was asked of touchmark or of a real tool did not come true."""


def check(condition, message):
    """Fails the case unless `condition` holds."""
    if not condition:
        raise Failed(message)


@functools.cache
def peer(name):
    """Returns the path of a real tool, installing it if need be."""
    if name == "dockerd-old":
        for needed in ("docker-proxy", "docker", "containerd", "containerd-shim-runc-v2", "runc", "docker-init"):
            peer(needed)
    ran = subprocess.run([sys.executable, SCRIPTS / "peers", "path", name], capture_output=True, text=True)
    if ran.returncode:
        raise Failed(f"{name} cannot be had:\n{ran.stdout}{ran.stderr}")
    return ran.stdout.strip()


def variables(home):
    """Returns the environment of every child: nothing of the caller's but the path, and a home of its own."""
    return {"PATH": f"{PEERS}:{os.environ['PATH']}", "HOME": str(home), "COSIGN_PASSWORD": PASSWORD, "LANG": "C.UTF-8"}


class Environment:
    """One case's view: `binary`, `tmp` (removed afterwards), `peers(NAME)`, `run(WORDS)`, `services`."""

    def __init__(self, binary, tmp, services):
        self.binary = str(binary)
        self.tmp = tmp
        self.services = services

    def peers(self, name):
        return peer(name)

    def run(self, words, env=None, expect=0, cwd=None, timeout=120, stdin=None):
        """Runs a command to its end and returns its exit status and output. Fails unless the status is `expect`: a
        number, several, FAILS, or None for any. `env` is added to the variables that every child has.
        """
        words = [str(word) for word in words]
        home = self.tmp / "home"
        home.mkdir(exist_ok=True)
        ran = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=timeout, input=stdin,
                             cwd=cwd or self.tmp, env={**variables(home), **(env or {})})
        wanted = {None: lambda code: True, FAILS: lambda code: code != 0}.get(
            expect, lambda code: code in (expect if isinstance(expect, (tuple, list, set)) else (expect,)))
        if not wanted(ran.returncode):
            raise Failed(f"$ {' '.join(words)}\nexit status {ran.returncode}, and {expect} was expected\n"
                         f"{ran.stdout[-4000:]}{ran.stderr[-4000:]}")
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def touchmark(self, *words, env=None, expect=0, cwd=None):
        return self.run([self.binary, *words], env=env, expect=expect, cwd=cwd)

    def repository(self, registry):
        """Returns a repository in `registry` that no other case uses."""
        return f"{registry.address}/interop/{self.tmp.name}"


class Services:
    """Services that all cases share; each is started when it is first asked for."""

    def __init__(self, folder, stack):
        self.folder = folder
        self.stack = stack

    def _start(self, context, name):
        folder = self.folder / name
        folder.mkdir()
        return self.stack.enter_context(context(folder))

    @functools.cached_property
    def docker_registry(self):
        from .services import docker_registry
        return self._start(docker_registry, "docker-registry")

    @functools.cached_property
    def referrers_registry(self):
        from .services import referrers_registry
        return self._start(referrers_registry, "referrers-registry")

    @functools.cached_property
    def docker_engine(self):
        from .services import docker_engine
        return self._start(docker_engine, "docker-engine")

    @functools.cached_property
    def images(self):
        from .images import Images
        folder = self.folder / "images"
        folder.mkdir()
        return Images(folder, self)
