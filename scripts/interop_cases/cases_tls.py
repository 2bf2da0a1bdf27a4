"""A registry behind TLS, with a certificate of an authority that nobody knows."""
import contextlib
import socket

from .cases import case
from .environment import check
from .services import free_address, running, wait_until


def certificate(env, names, days="2"):
    """Makes an authority and a server certificate for `names`; returns their paths: ca, certificate, key."""
    openssl = lambda *words: env.run(["openssl", *words])
    authority, key, request, issued = (env.tmp / name for name in ("ca.pem", "tls.key", "tls.csr", "tls.pem"))
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test authority",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
            "-keyout", env.tmp / "ca.key", "-out", authority)
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=registry", "-keyout", key, "-out", request)
    extensions = env.tmp / "extensions"
    extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")
    openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", env.tmp / "ca.key", "-CAcreateserial", "-days", days,
            "-extfile", extensions, "-out", issued)
    return authority, issued, key


@contextlib.contextmanager
def registry(env, issued, key):
    address = free_address()
    host, port = address.split(":")
    folder = env.tmp / "registry"
    folder.mkdir()
    (folder / "registry.yml").write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {folder}/storage\n"
        f"http:\n  addr: {address}\n  tls:\n    certificate: {issued}\n    key: {key}\n")

    def ready():
        socket.create_connection((host, int(port)), 1).close()
        return True

    with running([env.peers("docker-registry"), "serve", folder / "registry.yml"], folder) as process:
        wait_until(ready, process, folder, 30)
        yield address


def layout(env):
    env.run([env.peers("crane"), "pull", "--format=oci", env.services.images.arm, env.tmp / "layout"])


@case("tls: registry-ca is trusted; an unknown authority and another host's certificate are refused")
def authorities(env):
    layout(env)
    authority, issued, key = certificate(env, "IP:127.0.0.1")
    with registry(env, issued, key) as address:
        words = ["publish", "--image", f"{address}/tls/app:v1", "--sign", "false", "--source", "oci:layout"]
        env.touchmark(*words, "--registry-ca", authority, cwd=env.tmp)
        # Another name for the same machine: an authority that is not known, before it is known.
        _, _, other = certificate_of_another(env)
        unknown = env.touchmark(*words, "--registry-ca", other, cwd=env.tmp, expect=21)
        check("was issued by an unknown authority" in unknown.stderr and "registry-ca" in unknown.stderr, unknown.stderr)
        elsewhere = env.touchmark("publish", "--image", f"localhost:{address.rpartition(':')[2]}/tls/app:v1", "--sign", "false",
                                  "--source", "oci:layout", "--registry-ca", authority, cwd=env.tmp, expect=21)
        check("certificate of" in elsewhere.stderr and "is refused" in elsewhere.stderr, elsewhere.stderr)
        missing = env.touchmark(*words, "--registry-ca", "none.pem", cwd=env.tmp, expect=21)
        check("cannot read the certificate authorities in `none.pem`" in missing.stderr, missing.stderr)


def certificate_of_another(env):
    """Makes a second authority beside the first, and returns it in the place of the key."""
    authority = env.tmp / "other-ca.pem"
    env.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
             "/CN=other authority", "-keyout", env.tmp / "other-ca.key", "-out", authority])
    return None, None, authority
