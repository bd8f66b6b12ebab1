"""Both formats of apt's sources are read, and the distribution's own archive is told from a third party's."""

from __future__ import annotations

from pathlib import Path

from syncd.testing.servers.apt_sources import (
    Source,
    machine_sources,
    other_suite,
    own_archive,
    parse_deb822,
    parse_one_line,
)

DEBIAN = """\
Types: deb deb-src
# a comment
URIs: http://mirror.example/debian
Suites: trixie trixie-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://vendor.example/debian
Suites: trixie
Components: main
Signed-By: /etc/apt/keyrings/vendor.asc

Enabled: no
Types: deb
URIs: http://mirror.example/debian
Suites: sid
Components: main
"""


def test_deb822() -> None:
    first, security, vendor = parse_deb822(DEBIAN)
    assert first == Source(
        ("http://mirror.example/debian",),
        ("trixie", "trixie-updates"),
        ("main", "contrib"),
        {"signed-by": "/usr/share/keyrings/debian-archive-keyring.gpg"},
    )
    assert own_archive([vendor, security, first], "trixie") == [security, first]


def test_key_inside_the_file_is_kept() -> None:
    text = (
        "Types: deb\nURIs: http://m.example/ubuntu\nSuites: noble\nComponents: main\nSigned-By:\n -----BEGIN\n .\n x\n"
    )
    (source,) = parse_deb822(text)
    assert source.stanza().endswith("signed-by: \n -----BEGIN\n .\n x\n")


def test_one_line() -> None:
    text = """
        # deb http://off.example/debian sid main
        deb [arch=amd64,arm64 signed-by=/k/debian-archive-keyring.gpg] http://m.example/debian bookworm main contrib # x
        deb-src http://m.example/debian bookworm main
        deb http://m.example/debian bookworm-backports main
    """
    main, backports = parse_one_line(text)
    assert main.fields == {"architectures": "amd64 arm64", "signed-by": "/k/debian-archive-keyring.gpg"}
    assert main.components == ("main", "contrib")
    assert own_archive([main, backports], "bookworm") == [main]


def test_another_suite_comes_from_the_same_mirror() -> None:
    (sid,) = other_suite(parse_deb822(DEBIAN), "trixie", "sid")
    assert sid.stanza() == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: sid\nComponents: main\n"
        "signed-by: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
    assert other_suite([], "trixie", "sid") == []


def test_machine_sources_reads_every_file(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://m.example/debian bookworm main\n")
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "a.sources").write_text(DEBIAN)
    (parts / "b.list.disabled").write_text("deb http://off.example/debian bookworm main\n")
    assert len(machine_sources(tmp_path)) == 4
