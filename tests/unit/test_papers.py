"""What the papers name is there: files in backquotes, pages and headings that are linked to, and the tour is short."""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAPERS: Final = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    *ROOT.glob("docs/*.md"),
]
FILES: Final = subprocess.run(
    ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split()  # fmt: skip
NAMED: Final = re.compile(r"`([\w./-]*\w\.(?:py|lua|sql|toml|md|sh|yaml|html))`")
LINK: Final = re.compile(r"\]\(([^)#:\s]*)(?:#([\w-]+))?\)")
TOUR_LINES: Final = 200


def papers() -> list[object]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in sorted(PAPERS)]


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("paper", papers())
def test_each_file_that_a_paper_names_is_there(paper: Path) -> None:
    for name in NAMED.findall(paper.read_text(encoding="utf-8")):
        if name.startswith("build/"):  # written by a test
            continue
        assert any(f"/{file}".endswith(f"/{name}") for file in FILES), name


@pytest.mark.parametrize("paper", papers())
def test_each_link_leads_to_a_page_and_a_heading(paper: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", paper.read_text(encoding="utf-8"), flags=re.DOTALL)
    for page, anchor in LINK.findall(text):
        target = paper.parent / page if page else paper
        assert target.exists(), page
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), (page, anchor)


def test_the_tour_is_one_coffee() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) < TOUR_LINES
