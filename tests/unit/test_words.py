"""One meaning for each word: units are spelled out, and what went does not come back as a name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_tidy import ROOT, sources

ABBREVIATED = re.compile(r"(?<=[a-z0-9])_(s|sec|secs|millis|msec|us|kb|mb|kib|mib|b)$", re.IGNORECASE)
"""Of a quantity: `_seconds`, `_ms` and `_bytes` are the units that a name may end in."""
GONE = re.compile(r"(^|_)(desk|bed|house|course|leash|tether)(_|$)", re.IGNORECASE)


def words(name: str) -> str:
    """Give a name's words, joined by underscores: the class `BackLog` is `back_log`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def named(tree: ast.AST) -> Iterator[str]:
    """The names that a module gives: of its classes, functions, parameters, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def unclear(tree: ast.AST) -> list[str]:
    return [
        name
        for name in named(tree)
        if (ABBREVIATED.search(name) and not name.startswith("test_")) or GONE.search(words(name))
    ]


@pytest.mark.parametrize("path", sources("pipeline", "bench", "tests"), ids=lambda path: str(path.relative_to(ROOT)))
def test_names_spell_their_units_and_mean_what_the_glossary_says(path: Path) -> None:
    assert unclear(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    ["_WAIT_S = 1", "def f(wait_s): ...", "class Bed: ...", "self._desk = 1", "def of_house(): ...", "size_mb = 1"],
)
def test_an_unclear_name_is_found(line: str) -> None:
    assert unclear(ast.parse(line))
