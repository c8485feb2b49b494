"""What the papers name is there: files, pages, headings, modules and messages; and the tour is short."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.metrics import MetricWrapperBase
from typer.main import get_command

from pipeline import metrics as consumer_metrics
from pipeline.cli.main import app
from pipeline.contract import event
from pipeline.verify import metrics as proof_metrics
from tests.unit.test_tidy import GROUND, LAYERS, sources

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
_WORD: Final = r"(?:[a-z][\w|-]*|--?[a-z][\w-]*|[A-Z_]+|\d+)"
COMMAND: Final = re.compile(rf"(?<!-n )(?<!kafka )(?<![\w/=-])gamemetrics ({_WORD}(?: {_WORD})*)")
"""What follows the command's name; a namespace, a database and an account have the same one."""
TOUR_LINES: Final = 200
TOUR: Final = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
MAP_ROW: Final = re.compile(r"^\| `([\w ]+)(/?)` \| (.*) \|$", re.MULTILINE)


def papers() -> list[object]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in sorted(PAPERS)]


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("paper", papers())
def test_each_file_that_a_paper_names_is_there_and_is_one_file(paper: Path) -> None:
    for name in NAMED.findall(paper.read_text(encoding="utf-8")):
        if name.startswith("build/") or name == "__init__.py":  # written by a test; every folder's
            continue
        meant = [name] if name in FILES else [file for file in FILES if file.endswith(f"/{name}")]
        assert len(meant) == 1, f"{name} is {meant or 'no file'}"


@pytest.mark.parametrize("paper", papers())
def test_each_link_leads_to_a_page_and_a_heading(paper: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", paper.read_text(encoding="utf-8"), flags=re.DOTALL)
    for page, anchor in LINK.findall(text):
        target = paper.parent / page if page else paper
        assert target.exists(), page
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), (page, anchor)


def strange(command: str) -> list[str]:
    """The words of a command line, after `gamemetrics`, that the command does not know: a subcommand or an option."""
    at: Any = get_command(app)
    for word in command.split():
        if word.startswith("-"):
            known = {"--help"} | {name for one in at.params for name in (*one.opts, *one.secondary_opts)}
            if word not in known:
                return [word]
        elif hasattr(at, "commands"):
            alike = word.split("|")
            if not set(alike) <= set(at.commands):
                return [word]
            at = at.commands[alike[0]]
    return []


@pytest.mark.parametrize("paper", papers())
def test_each_command_that_a_paper_names_is_there_with_its_options(paper: Path) -> None:
    named = COMMAND.findall(paper.read_text(encoding="utf-8"))
    assert [(command, words) for command in named if (words := strange(command))] == []


def test_a_command_that_is_not_there_is_found() -> None:
    assert strange("dlq list --json") == []
    assert strange("dlq list|redrive --code") == []
    assert strange("dlq lost") == ["lost"]
    assert strange("load 1000 --rates 100") == ["--rates"]


def test_the_tour_is_one_coffee() -> None:
    assert len(TOUR.splitlines()) < TOUR_LINES


def test_the_page_of_the_api_gives_the_rules_of_an_event() -> None:
    page = " ".join((ROOT / "docs" / "api.md").read_text(encoding="utf-8").split())
    sizes = [f"at most {event.MAX_EVENT_BYTES // 1024} KiB", f"at most {event.MAX_NESTING} levels"]
    assert [rule for rule in (event.EVENT_TYPE_RULE, event.ID_RULE, *sizes) if rule not in page] == []
    for kind, rule in event.load_scoring().items():
        given = "" if rule.default is None else rf" \({rule.default}\b"
        assert re.search(rf"`{kind}` by `{rule.field}`{given}", page), kind


def code_map() -> dict[str, set[str]]:
    """Read the code map: the names in backquotes that each folder's row has."""
    rows = [(folder, what) for folder, slash, what in MAP_ROW.findall(TOUR) if slash]
    return {folder: set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", what)))) for folder, what in rows}


def modules(folder: str) -> set[str]:
    """The modules and folders that a layer has."""
    inside = [Path(file).relative_to(folder) for file in FILES if Path(file).is_relative_to(folder)]
    return {path.parts[0].removesuffix(".py") for path in inside if path.suffix == ".py"} - {"__init__"}


def test_the_tour_maps_each_layer_and_the_ground() -> None:
    assert set(code_map()) == set(LAYERS)
    (ground,) = [names for names, slash, what in MAP_ROW.findall(TOUR) if not slash and what.startswith("the ground")]
    assert set(ground.split()) == GROUND


@pytest.mark.parametrize("folder", LAYERS)
def test_the_tour_maps_each_module_of_a_layer(folder: str) -> None:
    assert modules(f"pipeline/{folder}") - code_map()[folder] == set()


def test_no_block_of_figures_is_empty() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"<!-- bench:(\w+) -->(.*?)<!-- end -->", text, re.DOTALL))
    assert [name for name, content in blocks.items() if not content.strip()] == []
    assert len(blocks) == text.count("<!-- bench:")


def test_the_page_of_metrics_names_each_of_the_pipelines_own_and_no_other() -> None:
    exported = {
        family.name + ("_total" if family.type == "counter" else "")
        for module in (consumer_metrics, proof_metrics)
        for one in vars(module).values()
        if isinstance(one, MetricWrapperBase)
        for family in one.collect()
    }
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(pipeline_\w+)", page)) == exported


VALUE: Final = "\0"
"""Stands for what is put into a text when it is formatted."""
QUOTED: Final = re.compile(r"(?<!\*)\*([^*\n]+)\*(?!\*)")
STANDS_FOR_A_VALUE: Final = re.compile(r"\b[NM]\b|\d+|…")
RUNBOOKS: Final = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")


def texts(tree: ast.AST) -> Iterator[str]:
    """The texts of a module, whole, also if they are formatted; without those that stand as statements."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value


def is_printed(quoted: str, printed: list[str]) -> bool:
    """Whether a message is part of a text, a word a whole one; N, M, numbers and `…` are for whatever stands there."""
    if " " not in quoted:
        return quoted in printed
    constant = map(re.escape, STANDS_FOR_A_VALUE.split(quoted))
    message = re.compile(rf"[{VALUE} ]+".join(constant))
    return any(message.search(text) for text in printed)


def titles(node: object) -> Iterator[str]:
    """The titles of a dashboard and of its panels."""
    if isinstance(node, dict):
        yield from (str(node[key]) for key in ("title",) if key in node)
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from titles(one)


def test_the_runbooks_quote_what_is_printed() -> None:
    printed = [text for path in sources("pipeline") for text in texts(ast.parse(path.read_text(encoding="utf-8")))]
    boards = [json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("deploy/k8s/**/dashboards/*.json")]
    headings = set(re.findall(r"^## (.+)$", RUNBOOKS, re.MULTILINE))
    quoted = set(QUOTED.findall(RUNBOOKS)) - headings - {title for board in boards for title in titles(board)}
    assert {"waiting", "housekeeping put off"} <= quoted
    assert sorted(one for one in quoted if not is_printed(one, printed)) == []


@pytest.mark.parametrize(
    ("quoted", "printed"),
    [
        ("N of M are bad", True),
        ("7 of 9 are bad", True),
        ("… are bad", True),
        ("N of M were bad", False),
        ("bad", False),
    ],
)
def test_a_message_is_found_by_its_constant_parts(quoted: str, printed: bool) -> None:  # noqa: FBT001
    tree = ast.parse('"""It said: N of M were bad."""\nraise Error(f"{bad} of " f"{total} are bad")\n')
    assert is_printed(quoted, list(texts(tree))) is printed


def test_the_readme_shows_the_schema_that_is_applied() -> None:
    shown = re.search(r"Schema    applied (.*?)\n    \w", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    assert re.findall(r"\w+", shown[1]) == sorted(path.stem for path in (ROOT / "migrations").glob("*.sql"))
