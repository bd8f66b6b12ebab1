"""The job file that `syncd init` writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.config import DdlPolicy, parse_job, skeleton
from syncd.errors import ConfigError
from syncd.model import TableId
from tests.unit.config.conftest import PLUGINS


@pytest.mark.parametrize(
    ("source", "sink", "options"),
    [
        ("mysql://sync@db:3307/shop", "http://ch:8123/shop", ("shop", "mysql://sync@db:3307", "http://ch:8123/shop")),
        ("mariadb://db/shop", "clickhouse://ch:8123", ("shop", "mysql://db", "http://ch:8123")),
        ("mysql://db", "chdb:///var/lib/copy", ("copy", "mysql://db", "chdb:///var/lib/copy")),
        ("mysql://db/", "chdb://copy", ("copy", "mysql://db", "chdb://copy")),
        ("mysql://a:hunter2@db/my shop!", "https://b:tiger@ch", ("my-shop", "mysql://a@db", "https://b@ch")),
    ],
)
def test_it_validates(source: str, sink: str, options: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_PASSWORD", "hunter2")
    monkeypatch.setenv("SINK_PASSWORD", "tiger")
    text = skeleton(source, sink)
    assert "hunter2" not in text
    assert "tiger" not in text
    job = parse_job(text, "new.yaml", [PLUGINS])
    assert (job.name, job.source.options.url, job.sinks["copy"].options.url) == options
    assert (job.source.options.password is not None) == ("@" in source)
    assert (job.sinks["copy"].options.password is not None) == ("@" in sink)
    assert job.findings == ()
    assert job.match(TableId("shop", "users")) is not None or "my shop!" in source


@pytest.mark.parametrize(
    ("source", "sink", "says"),
    [
        ("postgre://db", "http://ch", "'postgre' is not the scheme of a source; one of: mariadb://, mysql://"),
        ("mysqll://db", "http://ch", "'mysqll' is not the scheme of a source; did you mean 'mysql://'?"),
        ("db", "http://ch", "not the URL of a source; one of: mariadb://, mysql://"),
        ("mysql://db", "ftp://ch", "'ftp' is not the scheme of a sink"),
    ],
)
def test_it_refuses(source: str, sink: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        skeleton(source, sink)
    assert str(raised.value).startswith(says)


def test_every_commented_line_is_right_too() -> None:
    text = skeleton("mysql://db/shop", "chdb://copy")
    lines = [
        line.replace("# ", "", 1) if line.lstrip().startswith("# ") and ": {" in line else line
        for line in text.splitlines()
    ]
    assert parse_job("\n".join(lines), str(Path("new.yaml")), [PLUGINS]).policy.ddl == DdlPolicy()
