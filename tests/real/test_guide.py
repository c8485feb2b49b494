"""docs/guide.md on real servers: every `console` block is run as it stands, and every line of its output compared."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.consuming import caught_up, consuming
from tests.edges import running_edge
from tests.papers import ROOT, Step, matches, shell, steps
from tests.place import Place

pytestmark = pytest.mark.real

GUIDE: Final = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")


def test_each_command_of_the_guide_prints_what_it_says(place: Place, tmp_path: Path) -> None:
    found = list(steps(GUIDE))
    assert len(found) > 15
    with (
        running_edge(place) as edge,
        consuming(place),
        shell(place, tmp_path, edge.port, edge.metrics_port) as environment,
    ):
        for step in found:
            caught_up(place)
            printed = step.run(environment, ROOT)
            assert matches(step.expected, printed), "\n".join([step.command, *printed])


def test_what_a_line_of_the_guide_matches() -> None:
    assert matches(["a", "…", "b"], ["a", "1", "2", "b"])
    assert matches(["a…c"], ["abc"])
    assert not matches(["a"], ["a", "b"])
    assert not matches(["a", "…", "b"], ["a", "c"])


def test_a_step_of_several_lines_is_one_command() -> None:
    page = "```console\n$ cat > a <<END\n> 1\n>\n> END\n$ cat a\n1\n\n```\n"
    assert list(steps(page)) == [Step("cat > a <<END\n1\n\nEND", [""]), Step("cat a", ["1"])]


def test_the_files_that_the_guide_names_are_there() -> None:
    names = set(re.findall(r"`?((?:deploy|scripts|tests|docs)/[\w./-]+\w)`?", GUIDE))
    assert names
    assert {name for name in names if not (ROOT / name).exists()} == set()
    for page, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([\w.]+(?:#[\w-]+)?)\)", GUIDE)):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
        assert not anchor or anchor in anchors, (page, anchor)
