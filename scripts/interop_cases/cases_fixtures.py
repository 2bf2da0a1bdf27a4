"""Images that real cosign 2.5.0 and 3.1.1 signed, kept as the storage of a registry."""
import tarfile

from .cases import case
from .environment import FAILS, SCRIPTS, Failed
from .judges import COSIGNS, cosign_verify, touchmark_verify
from .services import docker_registry

FILES = SCRIPTS.parent.parent / "shared/fixtures/cosign"

# Image, public key, touchmark's exit status, and whether cosign 2 and cosign 3 accept it. They differ where touchmark
# reads what a cosign does not: cosign 2.5 reads no bundles of images, and neither verifies what cosign 3 signs with
# P-384, P-521 or Ed25519; and cosign 3 takes an attestation for a signature, which touchmark does not.
IMAGES = [
    ("app:amd64", "v2/cosign", 0, True, True),
    ("app:amd64", "v3/cosign", 12, False, False),
    ("app:arm64", "v2/cosign", 10, False, False),
    ("unsigned:v1", "v2/cosign", 10, False, False),
    ("unsigned:v2", "v2/cosign", 11, False, False),
    ("misc2:v1", "v2/cosign", 0, True, True),
    ("misc3:v1", "v3/cosign", 0, True, True),
    ("misc3:v1", "k2/cosign", 12, False, False),
    ("s3legacy:v1", "v3/cosign", 0, True, True),
    ("s3a:v1", "v3/cosign", 0, False, True),
    ("s3a:v1", "v2/cosign", 12, False, False),
    ("dmt2:v1", "v2/cosign", 0, True, True),
    ("dmt3:v1", "v3/cosign", 0, False, True),
    ("pay2:v1", "v2/cosign", 0, True, True),
    ("pay3:v1", "v3/cosign", 0, False, True),
    ("rk2:v1", "v2/cosign", 0, True, True),
    ("rk3:v1", "v3/cosign", 0, True, True),
    ("rec2:multi", "v2/cosign", 0, True, True),
    ("rec2:amd64", "v2/cosign", 0, True, True),
    ("rec2:arm64", "v2/cosign", 0, True, True),
    ("rec3:multi", "v3/cosign", 0, False, True),
    ("rec3:arm64", "v3/cosign", 0, False, True),
    ("nrec3:multi", "v3/cosign", 0, False, True),
    ("nrec3:amd64", "v3/cosign", 10, False, False),
    ("cert2:v1", "imported/imp-leaf.ec", 0, True, True),
    ("kt_rsa3072_2l:v1", "imported/imp-rsa3072", 0, True, True),
    ("kt_rsa3072_3b:v1", "imported/imp-rsa3072", 0, False, True),
    ("kt_rsa1_3l:v1", "imported/imp-rsa1", 0, True, True),
    ("kt_p384_2l:v1", "imported/imp-p384", 0, True, True),
    ("kt_p384_3b:v1", "imported/imp-p384", 0, False, False),
    ("kt_p384_3b:v1", "imported/imp-p521", 12, False, False),
    ("kt_p521_2l:v1", "imported/imp-p521", 0, True, True),
    ("kt_p521_3l:v1", "imported/imp-p521", 0, False, False),
    ("kt_ed_2l:v1", "imported/imp-ed", 0, True, True),
    ("kt_ed_3b:v1", "imported/imp-ed", 0, False, False),
    ("mixb:v1", "v3/cosign", 0, True, False),
    ("mixb:v1", "k2/cosign", 12, False, True),
    ("attonly:v1", "v3/cosign", 10, False, True),
    ("attc3legacy:v1", "v3/cosign", 10, False, False),
]


@case("verify images that real cosigns signed, of every key type and format")
def fixtures(env):
    if not FILES.is_dir():
        raise Failed("what real cosigns wrote is not there: shared/fixtures/cosign is wanted beside the checkout")
    with tarfile.open(FILES / "registry-storage.tar.gz") as archive:
        archive.extractall(env.tmp / "storage", filter="data")
    (env.tmp / "service").mkdir()
    wrong = []
    with docker_registry(env.tmp / "service", storage=env.tmp / "storage") as registry:
        for name, key, status, *accepted in IMAGES:
            image, public = f"{registry.address}/demo/{name}", FILES / f"keys/{key}.pub"
            ran = touchmark_verify(env, image, public, expect=None)
            if ran.code != status:
                wrong.append(f"{name} with {key}: exit status {ran.code}, and {status} was expected\n{ran.stderr}")
            for cosign, accepts in zip(COSIGNS, accepted):
                try:
                    cosign_verify(env, cosign, image, public, expect=0 if accepts else FAILS)
                except Failed as failure:
                    wrong.append(str(failure))
    if wrong:
        raise Failed("\n".join(wrong))
