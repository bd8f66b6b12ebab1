"""Reads where this machine gets its distribution's packages from, in both formats of apt."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

SOURCES = Path("/etc/apt")


@dataclass(frozen=True)
class Source:
    """One archive: addresses, suites and components, with its other fields (Signed-By and the like) as written."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    fields: Mapping[str, str] = field(default_factory=dict)

    def stanza(self) -> str:
        """This source in the deb822 format."""
        own = {"Types": "deb", "URIs": " ".join(self.uris), "Suites": " ".join(self.suites)}
        if self.components:
            own["Components"] = " ".join(self.components)
        return "".join(f"{k}: {v}\n" for k, v in {**own, **self.fields}.items())


def parse_deb822(text: str) -> list[Source]:
    """The enabled binary sources of a `.sources` file."""
    found = []
    for block in text.split("\n\n"):
        fields: dict[str, str] = {}
        last = ""
        for line in block.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0] in " \t":
                fields[last] += "\n" + line
                continue
            last, _, value = line.partition(":")
            last = last.strip().lower()
            fields[last] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        rest = {k: v for k, v in fields.items() if k not in ("types", "uris", "suites", "components", "enabled")}
        found.append(
            Source(
                tuple(fields.get("uris", "").split()),
                tuple(fields.get("suites", "").split()),
                tuple(fields.get("components", "").split()),
                rest,
            )
        )
    return found


def parse_one_line(text: str) -> list[Source]:
    """The binary sources of a `.list` file: `deb [option=value ...] uri suite component...`."""
    found = []
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        if not line.startswith(("deb ", "deb\t")):
            continue
        line = line[3:].strip()
        fields: dict[str, str] = {}
        if line.startswith("["):
            options, _, line = line[1:].partition("]")
            pairs = (o.partition("=") for o in options.split())
            names = {"arch": "architectures"}
            fields = {names.get(k.lower(), k.lower()): v.replace(",", " ") for k, _, v in pairs}
        words = line.split()
        if len(words) >= 2:
            found.append(Source((words[0],), (words[1],), tuple(words[2:]), fields))
    return found


def machine_sources(root: Path = SOURCES) -> list[Source]:
    """Every enabled binary source of this machine."""
    found: list[Source] = []
    main, parts = root / "sources.list", root / "sources.list.d"
    for path in [main, *(sorted(parts.iterdir()) if parts.is_dir() else [])]:
        if path.suffix == ".list" and path.is_file():
            found += parse_one_line(path.read_text())
        elif path.suffix == ".sources" and path.is_file():
            found += parse_deb822(path.read_text())
    return found


def distribution() -> tuple[str, str]:
    """The distribution's family ('debian' or 'ubuntu') and its release's codename; '' where it is not told."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "", ""
    kin = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    family = next((k for k in kin if k in ("ubuntu", "debian")), "")
    return family, release.get("UBUNTU_CODENAME") or release.get("VERSION_CODENAME", "")


def _rank(source: Source) -> int:
    """How surely `source` is the distribution's own archive and not a third party's for the same suite: 0 is best."""
    signed = source.fields.get("signed-by", "")
    if "debian-archive" in signed or "ubuntu-archive" in signed:
        return 0
    return 2 if signed.startswith("/") else 1


def own_archive(sources: Iterable[Source], codename: str) -> list[Source]:
    """The distribution's main archive among `sources`, with its updates and security suites; empty if not there."""
    wanted = {codename, f"{codename}-updates", f"{codename}-security", f"{codename}/updates"}
    kept = [
        replace(s, suites=suites)
        for s in sources
        if (suites := tuple(x for x in s.suites if x in wanted)) and (not s.components or "main" in s.components)
    ]
    mains = [s for s in kept if codename in s.suites]
    if not mains:
        return []
    best = min(map(_rank, mains))
    return [s for s in kept if _rank(s) == best]


def other_suite(sources: Iterable[Source], codename: str, suite: str) -> list[Source]:
    """The same archive's `suite` (for example `sid`), from the mirror that serves `codename` here."""
    mains = [s for s in own_archive(sources, codename) if codename in s.suites]
    return [replace(s, suites=(suite,), components=("main",)) for s in mains[:1]]
