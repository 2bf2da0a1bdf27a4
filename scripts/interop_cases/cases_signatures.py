"""Who signed does not matter: what any of the three signs, each of them verifies, and nobody's signature is lost."""
from .cases import on_each_registry
from .environment import FAILS, check
from .judges import COSIGNS, all_refuse, all_verify, cosign_sign, cosign_verify, publish, touchmark_verify

SIGNERS = {
    "cosign 2": ("cosign2", []),
    "cosign 3 with a bundle": ("cosign3", []),
    "cosign 3 without a bundle": ("cosign3", ["--new-bundle-format=false"]),
}
ANNOTATIONS = {"sha": "abc123", "run_id": "42"}


def push(env, repository):
    """Pushes an image with crane, and returns `NAME@DIGEST`."""
    return env.run([env.peers("crane"), "push", env.services.images.layout, f"{repository.text}:v1"]).stdout.strip()


def register(title, cosign, words):
    @on_each_registry(f"verify what {title} signed")
    def signed(env, repository):
        keys = env.services.images.keys
        pinned = push(env, repository)
        cosign_sign(env, cosign, pinned, keys / "ours.key", ANNOTATIONS, words)

        touchmark_verify(env, pinned, keys / "ours.pub", ANNOTATIONS)
        touchmark_verify(env, f"{repository.text}:v1", keys / "ours.pub")
        touchmark_verify(env, pinned, keys / "other.pub", ANNOTATIONS, expect=12)
        touchmark_verify(env, pinned, keys / "ours.pub", {"sha": "abc124"}, expect=12)
        touchmark_verify(env, pinned, keys / "ours.pub", {**ANNOTATIONS, "url": "x"}, expect=12)


for title, (cosign, words) in SIGNERS.items():
    register(title, cosign, words)


@on_each_registry("say that an image is unsigned, or absent")
def unsigned_or_absent(env, repository):
    key = env.services.images.keys / "ours.pub"
    pinned = push(env, repository)

    touchmark_verify(env, pinned, key, expect=10)
    touchmark_verify(env, f"{repository.text}:v1", key, expect=10)
    touchmark_verify(env, f"{repository.text}:absent", key, expect=11)
    touchmark_verify(env, f"{repository.text}@sha256:{'0' * 64}", key, expect=11)
    touchmark_verify(env, f"{repository.text}/absent:v1", key, expect=11)


@on_each_registry("sign after cosign 2 and before cosign 3: all three signatures stay")
def signers_append(env, repository):
    folder = env.services.images.keys
    pinned = push(env, repository)
    third = env.tmp / "third"
    env.touchmark("generate-key-pair", "--output-key-prefix", third)

    cosign_sign(env, "cosign2", pinned, folder / "ours.key", {"by": "cosign2"})
    env.touchmark("sign", "--key", folder / "other.key", "-a", "by=touchmark", pinned)
    cosign_sign(env, "cosign3", pinned, f"{third}.key", {"by": "cosign3"})
    cosign_sign(env, "cosign3", pinned, f"{third}.key", {"by": "cosign3"}, ["--new-bundle-format=false"])

    cosign_verify(env, "cosign2", pinned, folder / "ours.pub", {"by": "cosign2"})
    touchmark_verify(env, pinned, folder / "ours.pub", {"by": "cosign2"})
    all_verify(env, pinned, folder / "other.pub", {"by": "touchmark"})
    all_verify(env, pinned, f"{third}.pub", {"by": "cosign3"})
    # Bundles are there, so cosign 3 looks at the older signature only when it is told to.
    cosign_verify(env, "cosign3", pinned, folder / "ours.pub", {"by": "cosign2"}, words=["--new-bundle-format=false"])
    all_refuse(env, pinned, folder / "other.pub", {"by": "cosign2"})


@on_each_registry("publish over cosign's signatures keeps them and adds ours")
def publish_over_signatures(env, repository):
    folder = env.services.images.keys
    pinned = push(env, repository)
    cosign_sign(env, "cosign2", pinned, folder / "other.key", {"by": "cosign2"})
    cosign_sign(env, "cosign3", pinned, folder / "other.key", {"by": "cosign3"})

    publish(env, f"{repository.text}:v1", "--source", env.services.images.layout, annotations={"by": "touchmark"})

    all_verify(env, pinned, folder / "ours.pub", {"by": "touchmark"})
    cosign_verify(env, "cosign2", pinned, folder / "other.pub", {"by": "cosign2"})
    cosign_verify(env, "cosign3", pinned, folder / "other.pub", {"by": "cosign3"})
    for signer in COSIGNS:
        touchmark_verify(env, pinned, folder / "other.pub", {"by": signer})


@on_each_registry("sign again adds nothing; another annotation adds a signature")
def sign_again(env, repository):
    folder = env.services.images.keys
    pinned = push(env, repository)
    digest = pinned.split("@")[1]
    counts = []
    for value in ("1", "1", "2"):
        env.touchmark("sign", "--key", folder / "ours.key", "-a", f"n={value}", pinned)
        legacy, bundles = repository.signatures(digest)
        counts.append((len(legacy["layers"]), len(bundles)))
    check(counts == [(1, 1), (1, 1), (2, 2)], f"signatures after each run: {counts}")
    for value in ("1", "2"):
        all_verify(env, pinned, folder / "ours.pub", {"n": value}, digest)


@on_each_registry("write bundles alone")
def bundle_alone(env, repository):
    key = env.services.images.keys / "ours.pub"
    outputs, _ = publish(env, f"{repository.text}:v1", "--source", env.services.images.layout, "--format", "bundle",
                         annotations=ANNOTATIONS)
    legacy, bundles = repository.signatures(outputs["digest"])
    check(legacy is None and len(bundles) == 1, f"{legacy}, {bundles}")
    cosign_verify(env, "cosign3", outputs["image"], key, ANNOTATIONS)
    touchmark_verify(env, outputs["image"], key, ANNOTATIONS)
    # cosign 2.5 reads no bundles of images.
    cosign_verify(env, "cosign2", outputs["image"], key, expect=FAILS)
    cosign_verify(env, "cosign3", outputs["image"], key, {"sha": "abc124"}, expect=FAILS)
    touchmark_verify(env, outputs["image"], key, {"sha": "abc124"}, expect=12)


@on_each_registry("write legacy signatures alone")
def legacy_alone(env, repository):
    key = env.services.images.keys / "ours.pub"
    outputs, _ = publish(env, f"{repository.text}:v1", "--source", env.services.images.layout, "--format", "legacy",
                         annotations=ANNOTATIONS)
    legacy, bundles = repository.signatures(outputs["digest"])
    check(legacy and not bundles, f"{legacy}, {bundles}")
    all_verify(env, outputs["image"], key, ANNOTATIONS, outputs["digest"])
    all_refuse(env, outputs["image"], key, {"sha": "abc124"})


@on_each_registry("keys by touchmark in both cosigns, keys by both cosigns in touchmark")
def keys(env, repository):
    pinned = push(env, repository)
    env.touchmark("generate-key-pair", "--output-key-prefix", env.tmp / "touchmark")
    for cosign in COSIGNS:
        env.run([env.peers(cosign), "generate-key-pair", "--output-key-prefix", cosign])
        cosign_sign(env, cosign, pinned, env.tmp / "touchmark.key", {"by": cosign, "key": "touchmark"})
        env.touchmark("sign", "--key", env.tmp / f"{cosign}.key", "-a", f"key={cosign}", pinned)
        public = env.touchmark("public-key", "--key", env.tmp / f"{cosign}.key").stdout
        check(public == (env.tmp / f"{cosign}.pub").read_text(), f"public-key of {cosign}'s key: {public}")
        public = env.run([env.peers(cosign), "public-key", "--key", env.tmp / "touchmark.key"]).stdout
        check(public == (env.tmp / "touchmark.pub").read_text(), f"{cosign} public-key of touchmark's key: {public}")
    cosign_verify(env, "cosign2", pinned, env.tmp / "touchmark.pub", {"by": "cosign2"})
    cosign_verify(env, "cosign3", pinned, env.tmp / "touchmark.pub", {"by": "cosign3"})
    for cosign in COSIGNS:
        touchmark_verify(env, pinned, env.tmp / "touchmark.pub", {"by": cosign, "key": "touchmark"})
        all_verify(env, pinned, env.tmp / f"{cosign}.pub", {"key": cosign})
        touchmark_verify(env, pinned, env.tmp / f"{cosign}.pub", {"key": "touchmark"}, expect=12)


@on_each_registry("triangulate as cosign does")
def triangulate(env, repository):
    pinned = push(env, repository)
    for name in (pinned, f"{repository.text}:v1"):
        ours = env.touchmark("triangulate", name).stdout
        theirs = env.run([env.peers("cosign2"), "triangulate", name]).stdout
        check(ours == theirs, f"{ours!r}, {theirs!r}")


@on_each_registry("every verify command of the outputs passes as it stands")
def verify_command(env, repository):
    outputs, _ = publish(env, f"{repository.text}:v1", "--source", env.services.images.layout, annotations=ANNOTATIONS)
    commands = [line for line in outputs["verify-command"].splitlines() if line.strip()]
    check(commands, f"no command: {outputs}")
    place = env.tmp / "bin"
    place.mkdir()
    (place / "touchmark").symlink_to(env.binary)
    (env.tmp / "cosign.pub").write_text((env.services.images.keys / "ours.pub").read_text())
    for cosign in COSIGNS:
        (place / "cosign").unlink(missing_ok=True)
        (place / "cosign").symlink_to(env.peers(cosign))
        for command in commands:
            env.run(["sh", "-ec", f'PATH="{place}:$PATH"; {command}'])
