"""Unpacks Debian or Ubuntu packages with all their libraries into the cache folder; nothing is installed.

Neither root nor Docker is needed, no maintainer script runs, no service appears. The packages come from the archive
that the machine's own apt sources name, checked by apt with that archive's key.

    python3 -m syncd.testing.servers.debroot [--suite SUITE] [--only] PACKAGE...      prints the folder
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from syncd.testing.servers import apt_sources
from syncd.testing.servers.cache import Say, build_once, cache_dir, locked, say_stderr
from syncd.testing.servers.errors import ServerUnavailable

INDEX_MAX_AGE = 12 * 3600.0
"""Seconds after which the list of packages is fetched again."""

_APT_CONF = """\
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Get::List-Cleanup "false";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::PDiffs "false";
Acquire::Retries "3";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Debug::NoLocking "true";
Dir::Etc::sourcelist "{home}/syncd.sources";
Dir::Etc::sourceparts "{home}/parts";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{home}/parts";
Dir::State::lists "{home}/lists";
Dir::State::status "{home}/status";
Dir::State::extended_states "{home}/extended";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""


@dataclass(frozen=True)
class Root:
    """A folder of unpacked packages, laid out like `/`."""

    path: Path

    def library_dirs(self) -> list[str]:
        """The folders that hold its shared libraries."""
        found = [*self.path.glob("usr/lib/*-linux-gnu*"), *self.path.glob("lib/*-linux-gnu*")]
        return [str(p) for p in found if p.is_dir()]

    def command(self, program: str, *, own_loader: bool = True) -> list[str]:
        """The words that start `program` (a path inside this root) with this root's own loader and libraries."""
        target = str(self.path / program)
        if not own_loader:
            return [target]
        # the one among the libraries first: the usual /lib64 name can be an absolute link to the machine's own loader
        patterns = ("lib/*-linux-gnu*", "usr/lib/*-linux-gnu*", "lib*", "usr/lib*")
        loaders = [p for pattern in patterns for p in sorted(self.path.glob(f"{pattern}/ld-linux*.so*")) if p.exists()]
        if not loaders:
            raise ServerUnavailable(f"no dynamic loader among the packages unpacked in {self.path}")
        return [str(loaders[0]), "--library-path", ":".join(self.library_dirs()), target]

    def find(self, name: str) -> Path:
        """The first file called `name` (a glob pattern) anywhere in this root."""
        for found in sorted(self.path.rglob(name)):
            return found
        raise ServerUnavailable(f"no {name} among the packages unpacked in {self.path}")


class Apt:
    """apt with a private state under `home`: it sees only `sources`, thinks nothing is installed, needs no root."""

    def __init__(self, home: Path, sources: Sequence[apt_sources.Source], say: Say) -> None:
        self.home = home
        self.say = say
        for folder in ("lists/partial", "parts"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        (home / "status").touch()
        arch = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True)
        (home / "syncd.sources").write_text("\n".join(s.stanza() for s in sources))
        (home / "apt.conf").write_text(_APT_CONF.format(arch=arch.stdout.strip(), home=home))

    def run(self, *args: str, cwd: Path | None = None, program: str = "apt-get") -> str:
        """Run apt-get, or another program of apt, and return what it printed; ServerUnavailable when it fails."""
        done = subprocess.run(
            [program, "-c", str(self.home / "apt.conf"), *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        )
        if done.returncode:
            # apt names the mirror in its messages, and that address can be private: only the reasons are shown
            reasons = [re.sub(r"\S+://\S+", "<mirror>", x) for x in done.stderr.splitlines() if x[:2] in ("E:", "W:")]
            hint = "see that `apt-get update` works on this machine"
            raise ServerUnavailable(f"{program} {args[-1]} failed", reasons[-5:], hint)
        return done.stdout

    def refresh(self, *, force: bool = False) -> None:
        """Fetch the list of packages if there is none, or if it is old."""
        stamp = self.home / "fetched"
        if not force and stamp.exists() and time.time() - stamp.stat().st_mtime < INDEX_MAX_AGE:
            return
        self.say("fetching the list of packages with apt (about 10 MB for each release)")
        self.run("-qq", "update", "-o", "APT::Update::Error-Mode=any")
        stamp.touch()

    def pick(self, names: str) -> str:
        """The first of `names`, which `|` separates, that the archive has; the last one if it has none."""
        choices = names.split("|")
        known = set(self.run("pkgnames", program="apt-cache").split()) if len(choices) > 1 else set()
        return next((c for c in choices if c in known), choices[-1])

    def download(self, packages: Sequence[str], into: Path, what: str, *, only: bool) -> None:
        """Put the .deb files of `packages`, with their dependencies unless `only`, into `into`."""
        (into / "partial").mkdir(parents=True, exist_ok=True)
        packages = [self.pick(p) for p in packages]
        archives = f"Dir::Cache::archives={into}"
        if only:
            listed = self.run("-qq", "--print-uris", "download", *packages)
        else:
            listed = self.run("-qq", "-y", "-o", archives, "--print-uris", "install", *packages)
        sizes = [int(m) for m in re.findall(r"^'\S+' \S+ (\d+)", listed, re.MULTILINE)]
        self.say(f"{what}: downloading {len(sizes)} packages, {sum(sizes) / 1e6:.1f} MB, with apt into {cache_dir()}")
        if only:
            self.run("-qq", "download", *packages, cwd=into)  # it knows no target but the current folder
        else:
            self.run("-qq", "-y", "-o", archives, "--download-only", "install", *packages)


def _extract(deb: Path, root: Path) -> None:
    """Unpack one package into `root`, without documents and translations."""
    skip = [f"--exclude=./usr/share/{d}" for d in ("doc", "man", "locale", "info")]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as packed:
        tar = ["tar", "-x", "--no-same-owner", "--keep-directory-symlink", "-C", str(root), *skip]
        subprocess.run(tar, check=True, stdin=packed.stdout)
    if packed.returncode:
        raise ServerUnavailable(f"dpkg-deb cannot read {deb.name}")


def _relink(root: Path) -> None:
    """Turn absolute links whose target was unpacked too into relative ones, so that they stay inside `root`."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            link = Path(folder, name)
            if not link.is_symlink() or not (target := os.readlink(link)).startswith("/"):
                continue
            inside = root / target.lstrip("/")
            if os.path.lexists(inside):
                link.unlink()
                link.symlink_to(os.path.relpath(inside, folder))


def _sources(suite: str | None) -> tuple[str, list[apt_sources.Source]]:
    """The suite's name and where it comes from; ServerUnavailable when this machine cannot have it."""
    for program in ("apt-get", "dpkg-deb", "tar"):
        if not shutil.which(program):
            hint = "use a Debian or Ubuntu machine, or install the server so that it is on PATH"
            raise ServerUnavailable(f"packages cannot be unpacked here: there is no {program}", hint=hint)
    family, codename = apt_sources.distribution()
    everything = apt_sources.machine_sources()
    if suite is None or suite == codename:
        found = apt_sources.own_archive(everything, codename)
    elif family == "debian":
        found = apt_sources.other_suite(everything, codename, suite)
    else:
        found = []
    if not found:
        what = f"the apt sources of this machine ({family or 'no Debian'} {codename}) give no {suite or 'main'} archive"
        raise ServerUnavailable(what, hint="add your distribution's main archive to /etc/apt/sources.list.d")
    return suite or codename, found


def unpack(
    packages: Sequence[str], *, suite: str | None = None, only: bool = False, what: str = "", say: Say = say_stderr
) -> Root:
    """Return a root that holds `packages` (of the machine's own release, or of `suite`), unpacking them at need.

    A name may be several, `a|b`: the first that the archive has. With `only`, their dependencies are left out.
    `what` names the purpose in the line that tells the download's size.
    ServerUnavailable when apt is absent, fails, or does not know the packages.
    """
    name, sources = _sources(suite)
    key = hashlib.sha256(" ".join([name, str(only), *sorted(packages)]).encode()).hexdigest()[:8]

    def build(target: Path) -> None:
        with locked(f"apt-{name}"):
            apt = Apt(cache_dir() / "apt" / name, sources, say)
            apt.refresh()
            debs = target / ".debs"
            _twice(lambda: apt.download(packages, debs, what or packages[0], only=only), apt)
        for deb in sorted(debs.glob("*.deb")):
            _extract(deb, target)
        shutil.rmtree(debs)
        _relink(target)

    return Root(build_once(cache_dir() / "roots" / f"{packages[0].partition('|')[0]}-{name}-{key}", build))


def _twice(download: Callable[[], None], apt: Apt) -> None:
    """Run `download`, once more with a fresh list of packages if the archive has moved on since the last one."""
    try:
        download()
    except ServerUnavailable:
        apt.refresh(force=True)
        download()
