"""Runs a server's program out of an image, on a machine that has a Docker engine.

The container shares the network, the user and the server's folder with the machine, so that a server in it is started,
reached and cleaned up like any other; only signals go through the engine.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess

from syncd.testing.servers.errors import ServerUnavailable


def engine_runs() -> bool:
    """Whether `docker` is on PATH and its engine answers."""
    if not shutil.which("docker"):
        return False
    answer = subprocess.run(["docker", "info"], capture_output=True, timeout=20)
    return answer.returncode == 0


def new_name() -> str:
    """A name for a container, like no other."""
    return f"syncd-{secrets.token_hex(6)}"


def run_command(image: str, program: str, *, folder: str, name: str) -> list[str]:
    """The words before the arguments of `program` that run it in a container with `folder` in the same place."""
    user = f"{os.geteuid()}:{os.getegid()}"
    shared = ["--network=host", f"--user={user}", f"--volume={folder}:{folder}", f"--workdir={folder}"]
    return ["docker", "run", "--rm", "--init=false", f"--name={name}", *shared, f"--entrypoint={program}", image]


def signal_container(name: str, signal: str) -> None:
    """Send `signal` (such as SIGKILL) to the program in the container `name`."""
    done = subprocess.run(["docker", "kill", f"--signal={signal}", name], capture_output=True, text=True)
    if done.returncode:
        raise ServerUnavailable(f"docker cannot send {signal} to {name}", done.stderr.splitlines()[-3:])
