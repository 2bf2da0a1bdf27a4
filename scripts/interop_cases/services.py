"""Starts the services that cases speak to, on free loopback ports, and stops each by its process ID."""
import collections
import contextlib
import http.client
import http.server
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

from .environment import PEERS, Failed, peer, variables

# `kind` is "docker-registry" or "referrers-registry"; `storage` is the folder that holds what was pushed.
Registry = collections.namedtuple("Registry", "address storage kind")
Engine = collections.namedtuple("Engine", "host")


@contextlib.contextmanager
def docker_registry(folder, storage=None):
    """Docker's registry 2.8, which has no referrers API. `storage` may hold images already."""
    folder = pathlib.Path(folder)
    storage = pathlib.Path(storage or folder / "storage")
    storage.mkdir(exist_ok=True)

    def command(address):
        place = folder / "registry.yml"
        place.write_text("version: 0.1\n"
                         f"storage:\n  filesystem:\n    rootdirectory: {storage}\n  delete:\n    enabled: true\n"
                         f"http:\n  addr: {address}\n")
        return [peer("docker-registry"), "serve", place]

    with listening(command, folder, "/v2/") as address:
        yield Registry(address, storage, "docker-registry")


@contextlib.contextmanager
def referrers_registry(folder):
    """A registry with the referrers API. Manifests live in its memory."""
    storage = pathlib.Path(folder) / "blobs"
    storage.mkdir()
    with listening(lambda address: [peer("referrers-registry"), address, storage], folder, "/v2/") as address:
        yield Registry(address, storage, "referrers-registry")


@contextlib.contextmanager
def docker_engine(folder, dockerd="dockerd-old"):
    """Docker Engine 20.10, or 26.1 as `dockerd-new`, with a containerd of its own, without networks: containers run with
    `--network host`."""
    folder = pathlib.Path(folder)
    for name in ("dockerd-old", dockerd, "docker"):
        peer(name)
    if os.geteuid() != 0:
        raise Failed("Docker Engine needs root")
    # A socket's path may have 107 bytes.
    host = f"unix://{folder}/e.sock"
    words = [PEERS / dockerd, "--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile",
             folder / "pid", "-H", host, "--storage-driver=vfs", "--iptables=false", "--bridge=none"]
    with unmounted(folder), running(words, folder) as process:
        def ready():
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"{folder}/e.sock")
                client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in client.recv(100)
        wait_until(ready, process, folder, 60)
        yield Engine(host)


@contextlib.contextmanager
def unmounted(folder):
    """Unmounts what the engine leaves mounted under `folder`, which could not be removed otherwise."""
    try:
        yield
    finally:
        mounts = [line.split()[1] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
        for place in sorted(mounts, reverse=True):
            if pathlib.Path(place).is_relative_to(folder.resolve()):
                subprocess.run(["umount", "-l", place], check=True)


@contextlib.contextmanager
def listening(command, folder, path):
    """Runs what `command(ADDRESS)` gives on a free port, and waits until it answers `path` with 200."""
    for attempt in range(5):
        address = free_address()
        with running(command(address), folder) as process:
            try:
                wait_until(lambda: answers(address, path), process, folder, 30)
            except Died:
                # Someone else took the port in between.
                if attempt == 4:
                    raise
                continue
            yield address
            return


@contextlib.contextmanager
def running(words, folder):
    with open(pathlib.Path(folder) / "log", "ab") as log:
        process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   cwd=folder, env=variables(folder), start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Died(Failed):
    """A service ended instead of serving."""


def wait_until(condition, process, folder, seconds):
    deadline = time.monotonic() + seconds
    log = pathlib.Path(folder) / "log"
    while True:
        if process.poll() is not None:
            raise Died(f"{process.args[0]} ended with {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
        try:
            if condition():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise Failed(f"{process.args[0]} is not ready:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def answers(address, path):
    with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status == 200


Request = collections.namedtuple("Request", "method path status body")


class Recording:
    """What passed through a recording proxy. `refuse` is a function of method, path and body: what it is true for gets
    403 and does not reach the registry."""

    def __init__(self, address, registry):
        self.address = address
        self.registry = registry
        self.storage = registry.storage
        self.kind = registry.kind
        self.requests = []
        self.refuse = lambda method, path, body: False

    def writes(self):
        """Returns the manifests that were written, in order: (tag or digest, bytes)."""
        return [(request.path.rsplit("/", 1)[1], request.body) for request in self.requests
                if request.method == "PUT" and "/manifests/" in request.path and request.status == 201]

    def uploads(self):
        """Returns how many blobs were written."""
        return sum(1 for request in self.requests if request.status == 201 and "/blobs/uploads/" in request.path
                   and request.method in ("PUT", "POST"))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        # A client may hang up whenever it likes.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def recording(registry):
    """A proxy before `registry` that remembers every request. The registry sees the proxy's host name, so that the
    places it names are the proxy's."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def forward(self):
            body = self.read_body()
            if record.refuse(self.command, self.path, body):
                answer = (403, [("Content-Type", "application/json")],
                          b'{"errors":[{"code":"DENIED","message":"refused by the test"}]}')
            else:
                answer = self.ask(body)
            status, headers, content = answer
            kept = body if "/manifests/" in self.path else b""
            record.requests.append(Request(self.command, self.path.split("?")[0], status, kept))
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def read_body(self):
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def ask(self, body):
            with contextlib.closing(http.client.HTTPConnection(registry.address, timeout=60)) as connection:
                headers = {name: value for name, value in self.headers.items()
                           if name.lower() not in ("transfer-encoding", "content-length", "connection", "expect")}
                connection.request(self.command, self.path, body=body, headers=headers)
                response = connection.getresponse()
                content = response.read()
                dropped = ("transfer-encoding", "connection") if self.command == "HEAD" else (
                    "transfer-encoding", "connection", "content-length")
                kept = [item for item in response.getheaders() if item[0].lower() not in dropped]
                return response.status, kept, content

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = forward

    server = Server(("127.0.0.1", 0), Handler)
    record = Recording(f"127.0.0.1:{server.server_port}", registry)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield record
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
