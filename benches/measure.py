"""Runs whole commands in turn, each against a fresh docker-registry, and prints medians and ratios.

Wall seconds, CPU seconds and peak memory are the operating system's own accounting of the finished process (wait4). The
registry is a new process with an empty folder for every run, on a memory-backed file system where there is one.
"""
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def peer(name):
    """Returns the path of a real tool, which is installed if need be."""
    return subprocess.run([ROOT / "scripts/peers", "path", name], check=True, capture_output=True, text=True).stdout.strip()


def scratch():
    """Returns a folder for storage, in memory where that is possible."""
    shm = pathlib.Path("/dev/shm")
    free = shutil.disk_usage(shm).free if shm.is_dir() else 0
    return tempfile.TemporaryDirectory(dir=shm if free > 6 << 30 else None)


class Registry:
    """A docker-registry with nothing in it."""

    def __init__(self, access_log=None):
        self.access_log = access_log

    def __enter__(self):
        self.folder = scratch()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        config = pathlib.Path(self.folder.name) / "config.yml"
        config.write_text(
            "version: 0.1\n"
            f"log: {{level: error, accesslog: {{disabled: {str(not self.access_log).lower()}}}}}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.folder.name}/data}}}}\n"
            f"http: {{addr: 127.0.0.1:{self.port}}}\n")
        log = open(self.access_log or os.devnull, "wb")
        self.process = subprocess.Popen([peer("docker-registry"), "serve", config], stdout=log, stderr=log)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return self
            except OSError:
                time.sleep(0.02)
        sys.exit("docker-registry does not start")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.folder.cleanup()


def run(command, environment=None):
    """Runs a command and returns (wall, cpu, peak memory in MiB). One that fails ends the bench."""
    with tempfile.TemporaryFile() as output:
        started = time.monotonic()
        process = subprocess.Popen([str(word) for word in command], stdout=output, stderr=output,
                                   env={**os.environ, **(environment or {})})
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(map(str, command))}\n{output.read().decode(errors='replace')[-2000:]}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def rounds(contestants, runs):
    """Runs each contestant once to warm up, then `runs` times in turn. A contestant takes a registry's port.

    Returns the figures of each, one tuple a run.
    """
    figures = {name: [] for name in contestants}
    for number in range(runs + 1):
        for name, contestant in contestants.items():
            with Registry() as registry:
                measured = contestant(registry.port)
            if number:
                figures[name].append(measured)
    return figures


def table(title, figures, ours="touchmark"):
    """Prints medians, and what ours takes for each peer's one."""
    print(f"\n### {title}\n\n| | wall s (min–max) | CPU s | peak MiB | touchmark / it |\n| --- | --- | --- | --- | --- |")
    wall = {name: statistics.median(run[0] for run in runs) for name, runs in figures.items()}
    for name, runs in figures.items():
        low, high = min(run[0] for run in runs), max(run[0] for run in runs)
        cpu, memory = statistics.median(run[1] for run in runs), max(run[2] for run in runs)
        ratio = f"{wall[ours] / wall[name]:.2f}" if name != ours else ""
        print(f"| {name} | {wall[name]:.2f} ({low:.2f}–{high:.2f}) | {cpu:.2f} | {memory:.0f} | {ratio} |", flush=True)
