"""docs/commands.md names every command, argument, option and exit code of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from syncd import cli

PAGE = (Path(__file__).parents[2] / "docs/commands.md").read_text(encoding="utf-8")


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command's words, and the command: of Click, or of what typer has in its place."""
    inner = getattr(command, "commands", {})
    for word, one in inner.items():
        yield from commands(one, f"{name} {word}")
    if not inner:
        yield name, command


ROOT = get_command(cli.app)
COMMANDS = dict(commands(ROOT, "syncd"))


def options(command: Any) -> set[str]:
    """Their long names."""
    return {text for p in command.params if p.param_type_name == "option" for text in p.opts if text.startswith("--")}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_its_row(name: str) -> None:
    """With its options and no others; each argument is a word in capitals, or the words that it may be."""
    (row,) = re.findall(rf"^\| `{name}((?: [^`a-z]+| \[job\\\|service\])?)` \|(.*?)\| ", PAGE, re.MULTILINE)
    usage, listed = row
    assert set(re.findall(r"`(--[\w-]+)`", listed)) == options(COMMANDS[name])
    arguments = [p for p in COMMANDS[name].params if p.param_type_name == "argument"]
    assert len(usage.split()) == len(arguments)
    assert [p.required for p in arguments] == [not word.startswith("[") for word in usage.split()]


def test_no_row_is_without_its_command() -> None:
    rows = re.findall(r"^\| `(syncd [a-z]+(?: [a-z]+)?)", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(COMMANDS)


def test_options_of_all_commands() -> None:
    part = PAGE.partition("## Options of")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(--[\w-]+)`", part)) - {"--help"} == options(ROOT)


def test_every_exit_code() -> None:
    part = PAGE.partition("## Exit codes")[2].partition("\n## ")[0]
    codes = [cli.RIGHT, cli.DIFFERS, cli.CONFIG, cli.UNREACHABLE, cli.HALTED, cli.INTERRUPTED]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", part, re.MULTILINE)] == codes
