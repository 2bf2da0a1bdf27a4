"""The commands that sign and verify, of touchmark and of both cosigns."""
import json

from .environment import FAILS, Failed

COSIGNS = ("cosign2", "cosign3")


def annotation_words(annotations):
    return [word for key, value in annotations.items() for word in ("-a", f"{key}={value}")]


def cosign_verify(env, cosign, image, key, annotations=(), expect=0, words=()):
    return env.run([env.peers(cosign), "verify", "--key", key, "--insecure-ignore-tlog=true",
                    *annotation_words(dict(annotations)), *words, image], expect=expect)


def touchmark_verify(env, image, key, annotations=(), expect=0):
    return env.touchmark("verify", "--key", key, *annotation_words(dict(annotations)), image, expect=expect)


def all_verify(env, image, key, annotations=(), digest=None):
    """cosign 2, cosign 3 and touchmark accept the image, and say that it is `digest` that is signed."""
    for cosign in COSIGNS:
        said = cosign_verify(env, cosign, image, key, annotations)
        if digest and cosign == "cosign2":
            signed = [entry["critical"]["image"]["docker-manifest-digest"] for entry in json.loads(said.stdout)]
            if digest not in signed:
                raise Failed(f"cosign2 verified {signed}, not {digest}")
    touchmark_verify(env, image, key, annotations)


def all_refuse(env, image, key, annotations=(), status=12):
    """None of them accepts it, and none because it found no signature at all."""
    for cosign in COSIGNS:
        ran = cosign_verify(env, cosign, image, key, annotations, expect=FAILS)
        for absence in ("no signatures found", "MANIFEST_UNKNOWN", "connection refused", "unknown flag"):
            if absence in ran.stderr and status == 12:
                raise Failed(f"{cosign} refused {image} for another reason:\n{ran.stderr}")
    touchmark_verify(env, image, key, annotations, expect=status)


def cosign_sign(env, cosign, image, key, annotations=(), words=()):
    services = ["--use-signing-config=false"] if cosign == "cosign3" else []
    return env.run([env.peers(cosign), "sign", "--key", key, *services, "--tlog-upload=false", "--yes",
                    *annotation_words(dict(annotations)), *words, image])


def publish(env, image, *words, annotations=(), key=None, expect=0, variables=None, outputs="outputs"):
    """Publishes as a GitHub job does, and returns the outputs."""
    key = key or env.services.images.keys / "ours.key"
    place = env.tmp / outputs
    place.write_text("")
    annotated = [word for item in dict(annotations).items() for word in ("--annotations", "=".join(item))]
    runner = {"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": str(place), "GITHUB_WORKSPACE": str(env.tmp),
              "RUNNER_TEMP": str(env.tmp)}
    ran = env.touchmark("publish", "--image", image, "--key", key, "--retry-for", "20s", *annotated, *words,
                        env={**runner, **(variables or {})}, expect=expect)
    return read_outputs(place.read_text()), ran


def read_outputs(text):
    """Reads what is appended to GITHUB_OUTPUT: `name=value`, or `name<<DELIMITER`, lines, DELIMITER."""
    outputs, lines = {}, iter(text.splitlines())
    for line in lines:
        name, heredoc, delimiter = line.partition("<<")
        if heredoc and "=" not in name:
            value = []
            for line in lines:
                if line == delimiter:
                    break
                value.append(line)
            outputs[name] = "\n".join(value)
        else:
            name, _, value = line.partition("=")
            outputs[name] = value
    return outputs
