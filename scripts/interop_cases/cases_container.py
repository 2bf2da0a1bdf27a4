"""The image as CI platforms run it: GitHub's runner contract, act, gitlab-ci-local; and the files that ship with it."""
import json
import os
import pathlib
import re
import shutil

from .cases import case
from .environment import PASSWORD, SCRIPTS, Failed, check

ROOT = SCRIPTS.parent
TAG = "v1"


def docker(env, *words, variables=None, expect=0):
    """Runs docker against the test's own engine, with the classic builder."""
    engine = {"DOCKER_HOST": env.services.docker_engine.host, "DOCKER_BUILDKIT": "0"}
    return env.run([env.peers("docker"), *words], env={**engine, **(variables or {})}, expect=expect)


def ours(env):
    """Builds our images once, from the binary, with nothing pulled: `touchmark:test` and `touchmark:test-debug`."""
    folder = env.services.folder / "our-image"
    if not folder.exists():
        env.run([SCRIPTS / "rootfs", env.binary, folder, env.peers("busybox")])
        shutil.copy(ROOT / "Dockerfile.prebuilt", folder / "Dockerfile")
        docker(env, "build", "-q", "-t", "touchmark:test", folder)
        docker(env, "build", "-q", "--build-arg", "ROOTFS=rootfs-debug.tar", "-t", "touchmark:test-debug", folder)
    return folder


def sample(env):
    """Builds an image with docker, as a job's earlier step does."""
    folder = env.tmp / "sample"
    folder.mkdir()
    (folder / "greeting").write_text("hello\n")
    shutil.copy(pathlib.Path(env.peers("busybox")).resolve(), folder / "busybox")
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY busybox /bin/busybox\nCOPY greeting /greeting\nCMD ["/bin/busybox", "cat", "/greeting"]\n')
    name = f"sample-{env.tmp.name}"
    docker(env, "build", "-q", "-t", name, folder)
    return name


def key(env, folder):
    shutil.copy(env.services.images.keys / "ours.key", folder / "cosign.key")
    return env.services.images.keys / "ours.pub"


def runner(env, inputs, *options, expect=0, image="touchmark:test"):
    """Runs the image as GitHub's runner does, and returns the folder of the command files and what was printed."""
    job = env.tmp / "job"
    folders = {name: job / name for name in ("temp", "home", "workflow", "file_commands", "workspace")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    for name in ("output", "summary", "artifacts"):
        (folders["file_commands"] / name).touch()
    os.chmod(folders["file_commands"], 0o755)
    variables = {
        "HOME": "/github/home", "GITHUB_ACTIONS": "true", "CI": "true", "GITHUB_WORKSPACE": "/github/workspace",
        "GITHUB_OUTPUT": "/github/file_commands/output", "GITHUB_STEP_SUMMARY": "/github/file_commands/summary",
        "GITHUB_ARTIFACTS": "/github/file_commands/artifacts", "RUNNER_TEMP": "/github/runner_temp",
        "GITHUB_SHA": "1f2d3c4b5a69788796a5b4c3d2e1f00112233445", "GITHUB_RUN_ID": "42", "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_REF": "refs/heads/main", "GITHUB_REPOSITORY": "acme/app", "GITHUB_WORKFLOW": "release",
        "GITHUB_SERVER_URL": "https://github.com", "GITHUB_ACTOR": "octo",
        **{f"INPUT_{name.upper()}": value for name, value in inputs.items()},
    }
    socket = env.services.docker_engine.host.removeprefix("unix://")
    words = ["run", "--rm", "--workdir", "/github/workspace", "--network", "host"]
    words += [word for name in variables for word in ("-e", name)]
    words += ["--entrypoint", "/touchmark", *options,
              "-v", f"{socket}:/var/run/docker.sock", "-v", f"{folders['temp']}:/github/runner_temp",
              "-v", f"{folders['home']}:/github/home", "-v", f"{folders['workflow']}:/github/workflow",
              "-v", f"{folders['file_commands']}:/github/file_commands", "-v", f"{folders['workspace']}:/github/workspace"]
    return folders, docker(env, *words, image, variables=variables, expect=expect)


def read_outputs(text):
    """Reads a command file as the runner does (FileCommandManager.EnvFileKeyValuePairs)."""
    values, lines = {}, iter(text.split("\n"))
    for line in lines:
        if not line:
            continue
        equals, heredoc = line.find("="), line.find("<<")
        if equals >= 0 and (heredoc < 0 or equals < heredoc):
            values[line[:equals]] = line[equals + 1:]
        elif heredoc >= 0:
            name, delimiter, value = line[:heredoc], line[heredoc + 2:], []
            for part in lines:
                if part == delimiter:
                    break
                value.append(part)
            else:
                raise Failed(f"no end of {name}")
            values[name] = "\n".join(value)
        else:
            raise Failed(f"the runner refuses the line {line!r}")
    return values


def verified(env, image, public, *annotations):
    words = [word for annotation in annotations for word in ("-a", annotation)]
    for cosign in ("cosign2", "cosign3"):
        env.run([env.peers(cosign), "verify", "--key", public, "--insecure-ignore-tlog", *words, image])


@case("container: GitHub's runner contract, from docker-daemon")
def runner_contract(env):
    ours(env)
    repository = env.repository(env.services.docker_registry)
    (env.tmp / "job/workspace").mkdir(parents=True)
    public = key(env, env.tmp / "job/workspace")
    inputs = {"image": f"{repository}:{TAG}", "source": f"docker-daemon:{sample(env)}", "key": "cosign.key",
              "key-password": PASSWORD, "tags": "latest\n", "username": "", "output-file": "result.json", "sbom": ""}
    folders, ran = runner(env, inputs)
    outputs = read_outputs((folders["file_commands"] / "output").read_text())
    digest = env.run([env.peers("crane"), "digest", f"{repository}:{TAG}"]).stdout.strip()
    check(outputs["digest"] == digest, f"{outputs} instead of {digest}")
    check(outputs["tags"] == f"{TAG}\nlatest", f"{outputs}")
    check(outputs["image"] == f"{repository}@{digest}", f"{outputs}")
    check(digest in (folders["file_commands"] / "summary").read_text(), "the summary does not name the digest")
    check((folders["file_commands"] / "artifacts").read_text() == f"oci://{repository}@{digest}\n", "no artifact")
    check(not list(folders["home"].iterdir()), "something was left in the home of the job")
    check(ran.stderr.index(f"::add-mask::{PASSWORD}") < ran.stderr.index("pushed "), ran.stderr)
    verified(env, f"{repository}:{TAG}", public, "sha=1f2d3c4b5a69788796a5b4c3d2e1f00112233445", "run_id=42", "run_attempt=1")
    result = folders["workspace"] / "result.json"
    env.run([env.peers("check-jsonschema"), "--schemafile", ROOT / "schema/result.schema.json", result])
    (folders["file_commands"] / "output").write_text("")
    runner(env, inputs)
    check(read_outputs((folders["file_commands"] / "output").read_text()) == outputs, "a second run has other outputs")
    # What was pushed runs.
    docker(env, "pull", "-q", f"{repository}@{digest}")
    check(docker(env, "run", "--rm", "--network", "host", f"{repository}@{digest}").stdout == "hello\n", "it does not run")


@case("container: names are resolved, in a scratch image, and another user and a read-only file system work")
def scratch_image(env):
    ours(env)
    port = env.services.referrers_registry.address.rpartition(":")[2]
    workspace = env.tmp / "job/workspace"
    workspace.mkdir(parents=True)
    key(env, workspace)
    (workspace / "cosign.key").chmod(0o644)
    repository = env.repository(env.services.referrers_registry)
    env.touchmark("publish", "--image", f"{repository}:base", "--sign", "false", "--source", f"oci:{small_layout(env)}")
    inputs = {"image": f"registry.test:{port}/{repository.partition('/')[2]}:base", "insecure": "true", "key": "cosign.key",
              "key-password": PASSWORD}
    runner(env, inputs, "--add-host", "registry.test:127.0.0.1", "--read-only")
    without_files = ["-e", "GITHUB_OUTPUT=", "-e", "GITHUB_STEP_SUMMARY=", "-e", "GITHUB_ARTIFACTS="]
    runner(env, inputs, "--add-host", "registry.test:127.0.0.1", "--user", "65532", *without_files)
    _, denied = runner(env, inputs, "--add-host", "registry.test:127.0.0.1", "--user", "65532", expect=30)
    check("hint: run the container as the user that owns the file" in denied.stderr, denied.stderr)
    version = docker(env, "run", "--rm", "--entrypoint", "/bin/sh", "touchmark:test-debug", "-c", "touchmark version; ls /tmp")
    check(version.stdout.startswith("touchmark "), version.stdout)


def small_layout(env):
    """Writes a layout with crane, from an image of one small layer."""
    folder = env.tmp / "layout"
    env.run([env.peers("crane"), "pull", "--format=oci", env.services.images.arm, folder])
    return folder


def job_image(env):
    """Builds the image in which act and gitlab-ci-local run a job's shell steps: busybox and nothing else."""
    folder = env.services.folder / "job-image"
    if not folder.exists():
        ours(env)
        folder.mkdir()
        shutil.copy(env.services.folder / "our-image/rootfs-debug.tar", folder)
        # gitlab-ci-local moves files with bash and rsync, which bring their libraries.
        tools = folder / "tools"
        (tools / "bin").mkdir(parents=True)
        shutil.copy(pathlib.Path(env.peers("bash")).resolve(), tools / "bin/bash")
        shutil.copy(pathlib.Path(env.peers("rsync")).resolve(), tools / "bin/rsync")
        for library in re.findall(r"(/\S+) \(0x", env.run(["ldd", tools / "bin/rsync"]).stdout):
            (tools / library.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, tools / library.lstrip("/"))
        (folder / "Dockerfile").write_text(
            'FROM scratch\nADD rootfs-debug.tar /\nCOPY tools /\nENV PATH=/bin\nCMD ["/bin/sh"]\n')
        docker(env, "build", "-q", "-t", "job:test", folder)
        docker(env, "tag", "job:test", "localhost/job:test")


@case("container: act runs the action (uses: ./)")
def act(env):
    ours(env)
    job_image(env)
    repository = env.repository(env.services.docker_registry)
    project = env.tmp / "project"
    (project / ".github/workflows").mkdir(parents=True)
    shutil.copy(ROOT / "action.yml", project)
    for name in ("Dockerfile", "rootfs.tar"):
        shutil.copy(env.services.folder / "our-image" / name, project)
    public = key(env, project)
    (project / ".github/workflows/test.yml").write_text(f"""
name: test
on: push
jobs:
  publish:
    runs-on: ubuntu-latest
    steps:
      - id: publish
        uses: ./
        with:
          image: {repository}:{TAG}
          source: oci:layout
          key: cosign.key
          key-password: {PASSWORD}
          token: ""
      - run: echo "digest=${{{{ steps.publish.outputs.digest }}}} tags=${{{{ steps.publish.outputs.tags }}}}"
        shell: sh
""")
    shutil.copytree(small_layout(env), project / "layout")
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "x"]):
        env.run(["git", *words], cwd=project)
    host = env.services.docker_engine.host
    ran = env.run([env.peers("act"), "push", "-b", "-P", "ubuntu-latest=localhost/job:test", "--pull=false",
                   "--action-offline-mode", "--container-daemon-socket", "-", "--no-cache-server", "--network", "host"],
                  cwd=project, env={"DOCKER_HOST": host, "DOCKER_BUILDKIT": "0", "XDG_CACHE_HOME": str(env.tmp / "cache")}, timeout=300)
    digest = env.run([env.peers("crane"), "digest", f"{repository}:{TAG}"]).stdout.strip()
    check(f"digest={digest} tags={TAG}" in ran.stdout, ran.stdout[-3000:])
    verified(env, f"{repository}:{TAG}", public)


def gitlab(env, job, project):
    """Runs a job of a pipeline with gitlab-ci-local, in containers of the test's own engine."""
    env.peers("rsync")
    return env.run([env.peers("gitlab-ci-local"), "--pull-policy", "if-not-present", "--helper-image", "job:test",
                    "--network", "host", "--file", ".gitlab-ci.yml", "--variable", f"COSIGN_PASSWORD={PASSWORD}", job],
                   cwd=project, env={"DOCKER_HOST": env.services.docker_engine.host}, timeout=300)


def pipeline(env, entry):
    ours(env)
    job_image(env)
    repository = env.repository(env.services.docker_registry)
    project = env.tmp / "project"
    project.mkdir()
    public = key(env, project)
    template = (ROOT / ".gitlab-ci-template.yml").read_text()
    template = template.replace("ghcr.io/touchmark-dev/touchmark:v0-debug", entry["image"])
    if entry["image"] == "touchmark:test":
        template = template.replace('    entrypoint: [""]\n', "")
    (project / "template.yml").write_text(template)
    (project / ".gitlab-ci.yml").write_text(f"""
include:
  - local: template.yml
stages: [deploy]
publish:
  extends: .touchmark
  variables:
    GIT_STRATEGY: none
    TOUCHMARK_IMAGE: {repository}:{TAG}
    TOUCHMARK_SOURCE: oci:layout
    TOUCHMARK_KEY: cosign.key
    TOUCHMARK_ANNOTATIONS: "auto"
""")
    shutil.copytree(small_layout(env), project / "layout")
    (project / ".gitignore").write_text(".gitlab-ci-local\n")
    for words in (["init", "-q", "-b", "main"], ["remote", "add", "origin", "git@gitlab.com:acme/app.git"], ["add", "-A"],
                  ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "x"]):
        env.run(["git", *words], cwd=project)
    ran = gitlab(env, "publish", project)
    digest = env.run([env.peers("crane"), "digest", f"{repository}:{TAG}"]).stdout.strip()
    verified(env, f"{repository}:{TAG}", public)
    return project, digest, ran


@case("container: gitlab-ci-local runs the template with the debug image")
def gitlab_debug(env):
    project, digest, ran = pipeline(env, {"image": "touchmark:test-debug"})
    found = list(project.rglob("touchmark.env"))
    check(found and f"TOUCHMARK_DIGEST={digest}\n" in found[0].read_text(), f"{found} {ran.stdout[-2000:]}{ran.stderr[-2000:]}")


@case("container: gitlab-ci-local runs the scratch image by its entrypoint")
def gitlab_entrypoint(env):
    pipeline(env, {"image": "touchmark:test"})


@case("files: schemas of action, template, workflows and result")
def schemas(env):
    check_jsonschema = env.peers("check-jsonschema")
    env.run([check_jsonschema, "--builtin-schema", "vendor.github-actions", ROOT / "action.yml"])
    workflows = [*ROOT.glob("examples/github-*.yml"), *ROOT.glob(".github/workflows/*.yml")]
    env.run([check_jsonschema, "--builtin-schema", "vendor.github-workflows", *workflows])
    pipelines = [ROOT / ".gitlab-ci-template.yml", ROOT / "examples/gitlab-ci.yml"]
    env.run([check_jsonschema, "--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci", *pipelines])
    broken = env.tmp / "broken.yml"
    broken.write_text((ROOT / "action.yml").read_text().replace("using: docker", "using: doocker"))
    env.run([check_jsonschema, "--builtin-schema", "vendor.github-actions", broken], expect=1)
    env.run([check_jsonschema, "--check-metaschema", ROOT / "schema/result.schema.json"])


@case("files: zizmor and actionlint find nothing")
def linters(env):
    workflows = [*ROOT.glob("examples/github-*.yml"), *ROOT.glob(".github/workflows/*.yml")]
    env.run([env.peers("zizmor"), "--offline", "--no-progress", ROOT / "action.yml", *workflows])
    module = pathlib.Path(env.peers("actionlint")).resolve() / "node.mjs"
    lint = ("const {createLinter} = await import(process.argv[1]); const fs = await import('node:fs'); const lint = await createLinter();"
            "console.log(JSON.stringify(process.argv.slice(2).flatMap(f => lint(fs.readFileSync(f, 'utf8'), f))))")
    found = lambda files: json.loads(env.run(["node", "--input-type=module", "-e", lint, module, *files]).stdout)
    check(found(workflows) == [], f"{found(workflows)}")
    broken = env.tmp / "broken.yml"
    broken.write_text("on: push\njobs:\n  x:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo ${{ nothing.here }}\n")
    check(found([broken]), "actionlint finds nothing in a workflow that is wrong")
