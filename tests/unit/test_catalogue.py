"""Error codes: what a hint asks for is explained under the error's code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from syncd import errors
from syncd.catalogue import RESYNC, explain

SYNCD = Path(errors.__file__).parent


def hinted() -> Iterator[tuple[str, str, str]]:
    """(place, code, hint) of every error that is made with a hint; "{}" stands for what is filled in."""
    for path in sorted(SYNCD.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for scope in ast.walk(tree):
            if isinstance(scope, ast.FunctionDef):
                named: dict[str, str] = {}
                for node in sorted(ast.walk(scope), key=lambda node: getattr(node, "lineno", 0)):
                    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                        named[node.targets[0].id] = text(node.value)
                    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                        place = f"{path.relative_to(SYNCD)}:{node.lineno}"
                        yield from ((place, *found) for found in of_call(node, node.func.id, named))


def of_call(node: ast.Call, name: str, named: dict[str, str]) -> Iterator[tuple[str, str]]:
    kind = getattr(errors, name, None)
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if kind is not None and "hint" in given:
        code = text(given["code"]) if "code" in given else kind.code
        hint = given["hint"]
        yield code, named.get(hint.id, "") if isinstance(hint, ast.Name) else text(hint)


def text(node: ast.expr) -> str:
    return "".join(one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str))


def test_a_hint_to_resync_is_explained() -> None:
    """`syncd explain` says how it is done."""
    found = [(place, code) for place, code, hint in hinted() if re.search("resync|anew", hint)]
    assert len(found) > 30
    assert [one for one in found if RESYNC not in explain(one[1]) and "syncd jobs forget" not in explain(one[1])] == []
