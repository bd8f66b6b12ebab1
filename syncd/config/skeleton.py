"""A job file to begin with, from two URLs: `syncd init`."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit, urlunsplit

from syncd.config.faults import did_you_mean
from syncd.errors import ConfigError

SOURCES = {"mysql": "mysql", "mariadb": "mysql"}
SINKS = {"http": "clickhouse", "https": "clickhouse", "clickhouse": "clickhouse", "chdb": "clickhouse"}

_TEXT = """\
# A syncd job: what goes where. Try it with `syncd validate`, `syncd check`, `syncd plan`, `syncd run`. Each of them
# needs the variables that are named here as ${{env:NAME}}, also `validate`, which connects to nothing.
# All settings: docs/configuration.md, or `syncd explain CODE` for what a message means.
job: {job}

source:
  {source}:
    url: "{source_url}"
{source_password}
# A table, a glob ("shop.*") or a regular expression; the most specific pattern wins.
tables:
  "{database}.*": {{}}
  # "{some}.secrets": {{skip: true}}
  # "{some}.users": {{mask: {{email: hash}}, where: "country = 'DE'", columns: {{exclude: [notes]}}}}

sinks:
  copy:
    {sink}:
      url: "{sink_url}"
{sink_password}
# What to do in cases that have more than one right answer.
# policy: {{ddl: apply, zero_date: fail}}
"""


def skeleton(source_url: str, sink_url: str) -> str:
    """A commented job that validates. Where a URL names a user, its password is `${env:SOURCE_PASSWORD}` or alike."""
    source, sink = _split(source_url, SOURCES, "source"), _split(sink_url, SINKS, "sink")
    database = source.path.strip("/")
    source_plugin, sink_plugin = SOURCES[source.scheme], SINKS[sink.scheme]
    sink_scheme = "http" if sink.scheme == "clickhouse" else sink.scheme
    return _TEXT.format(
        job=re.sub(r"[^A-Za-z0-9_-]+", "-", database).strip("-_") or "copy",
        source=source_plugin,
        source_url=_quoted(_without_password(source._replace(scheme="mysql", path=""))),
        source_password=_password("    ", "SOURCE_PASSWORD", source),
        database=_quoted(database or "*"),
        some=_quoted(database or "shop"),
        sink=sink_plugin,
        sink_url=_quoted(_without_password(sink._replace(scheme=sink_scheme))),
        sink_password=_password("      ", "SINK_PASSWORD", sink),
    )


def _split(url: str, schemes: dict[str, str], kind: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in schemes or not (parts.netloc or parts.path):
        what = f"'{parts.scheme}' is not the scheme of a {kind}" if parts.scheme else f"not the URL of a {kind}"
        raise ConfigError(what, hint=did_you_mean(parts.scheme, [f"{s}://" for s in schemes]), code="C109")
    try:
        _ = parts.port
    except ValueError as error:
        what = f"the port of the {kind}'s URL is no number up to 65535"
        raise ConfigError(what, hint=f"as in {parts.scheme}://host:3306/name", code="C109") from error
    return parts


def _without_password(parts: SplitResult) -> str:
    user, at, host = parts.netloc.rpartition("@")
    url = urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}"))
    # urlunsplit leaves the empty host of chdb:///path out.
    return url if "://" in url else url.replace(":", "://", 1)


def _password(indent: str, name: str, parts: SplitResult) -> str:
    return f'{indent}{"# " if parts.username is None else ""}password: "${{env:{name}}}"\n'


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
