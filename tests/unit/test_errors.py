"""The tree of errors: what `pipeline.errors` draws is what there is, and every one is raised somewhere."""

import ast
import re

import pytest

from pipeline import errors
from tests.unit.test_tidy import sources

ROOT = "PipelineError"


def classes() -> dict[str, set[str]]:
    """Every class of the package, with the names of its bases."""
    found: dict[str, set[str]] = {}
    for path in sources("pipeline"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name] = {base.id for base in node.bases if isinstance(base, ast.Name)}
    return found


def tree() -> list[str]:
    """Every class that is a PipelineError but for the root."""
    known, found = {ROOT}, classes()
    while more := {name for name, bases in found.items() if bases & known} - known:
        known |= more
    return sorted(known - {ROOT})


def test_the_drawn_tree_is_whole() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__)
    assert sorted(drawn) == tree()


@pytest.mark.parametrize("name", tree())
def test_each_error_is_raised(name: str) -> None:
    made = re.compile(rf"(?<!class )\b{name}\(")
    assert [path.name for path in sources("pipeline") if made.search(path.read_text())]
