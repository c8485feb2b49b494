"""The house's rules as tests: which way imports point, how long things are, and what nothing but its owner does."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Lower layers first: a module imports from its own layer or from those before it. Folders, but for the ground.
GROUND = {"errors", "config", "logs", "tasks", "metrics", "tls"}
LAYERS = [
    *("contract", "epoch", "kafka", "sinks", "engine", "trail", "api", "verify", "operations", "load", "local", "cli"),
]
API_LAYERS = ["http", "access"]
API_FOLDERS = ["http", "access", "events", "boards", "refusals", "console"]
"""Within the edge: what knows nothing of what comes after it. The rest of it shares one context."""
PURE = ["contract", "epoch"]
CATCHES_EVERYTHING = {"narrowing.py", "worker.py"}
"""Where a fault costs its record; and where what a thread raised is handed to who asks for its result."""
EVERYTHING = {"Exception", "BaseException"}
OUTSIDE = {"socket", "time", "threading", "confluent_kafka", "psycopg", "redis", "asyncio", "random"}
VAGUE = re.compile(r"(manager|helper|utils?|misc|common|impl)", re.IGNORECASE)
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70


def sources(*folders: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split() if name.endswith(".py") and (ROOT / name).exists()]


def layer_of(module: str) -> int:
    """Number the layer of a dotted name in the package: -1 for the ground."""
    folder = module.split(".")[1]
    return -1 if folder in GROUND else LAYERS.index(folder)


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def named_in(node: ast.AST) -> set[str]:
    """The names that an expression holds: of a tuple each, of `contextlib.suppress` both."""
    found = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return found | {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}


def package_imports(path: Path) -> list[str]:
    return [name for name in imported(ast.parse(path.read_text())) if name.startswith("pipeline.")]


@pytest.mark.parametrize("path", sources("pipeline"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    if path.parent.name == "pipeline" and path.stem.startswith("__"):
        return
    for name in package_imports(path):
        assert layer_of(name) <= layer_of(dotted(path)), f"{path.name} imports {name}, which is above it"


@pytest.mark.parametrize("folder", API_LAYERS)
def test_parts_of_the_edge_know_nothing_of_what_is_built_on_them(folder: str) -> None:
    known = {f"pipeline.api.{name}." for name in API_LAYERS[: API_LAYERS.index(folder) + 1]}
    known |= {"pipeline.api.database.", "pipeline.api.valkey."} if folder != "http" else set()
    for path in sources(f"pipeline/api/{folder}"):
        for name in package_imports(path):
            assert not name.startswith("pipeline.api.") or name.startswith(tuple(known)), f"{path.name}: {name}"


@pytest.mark.parametrize("tier", ["unit", "real"])
def test_tests_lie_where_what_they_test_does(tier: str) -> None:
    """In a folder of its name; of the edge's parts in the part's, and beside them what is of more than one."""
    for folder in sorted({path.parent.relative_to(ROOT / "tests" / tier) for path in sources(f"tests/{tier}")}):
        tested = ROOT / "pipeline" / folder
        assert tested.is_dir() or tested.with_suffix(".py").exists() or folder == Path("bench"), folder
    assert {path.name for path in (ROOT / "tests" / tier / "api").iterdir() if path.is_dir()} >= {
        "http",
        "access",
        "events",
    }


def test_the_http_server_stands_alone() -> None:
    ground = tuple(f"pipeline.{name}." for name in GROUND)
    for path in sources("pipeline/api/http"):
        for name in package_imports(path):
            assert name.startswith(("pipeline.api.http.", *ground)), f"{path.name}: {name}"


@pytest.mark.parametrize("folder", [*LAYERS, *(f"api/{name}" for name in API_FOLDERS)])
def test_a_folder_says_what_lives_there_and_what_may_not(folder: str) -> None:
    said = ast.get_docstring(ast.parse((ROOT / "pipeline" / folder / "__init__.py").read_text())) or ""
    first, _, rest = said.partition("\n\n")
    assert first.endswith(".")
    assert re.search(r"\b(no|nothing|never|not|pure|none)\b", rest, re.IGNORECASE), "say what may not live there"


@pytest.mark.parametrize("path", sources(*(f"pipeline/{folder}" for folder in PURE)), ids=lambda path: path.stem)
def test_pure_modules_touch_no_socket_and_no_clock(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not {name.split(".")[0] for name in imported(tree)} & OUTSIDE
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow"}]


@pytest.mark.parametrize("path", sources("pipeline", "tests", "bench"), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, node.name


@pytest.mark.parametrize("path", sources("pipeline", "bench"), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_catches_everything_or_has_a_vague_name(path: Path) -> None:
    assert not VAGUE.search(path.stem)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None
            assert not named_in(node.type) & EVERYTHING or path.name in CATCHES_EVERYTHING
        if isinstance(node, ast.Call) and "suppress" in named_in(node.func):
            assert not set.union(*map(named_in, node.args)) & EVERYTHING
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            assert not VAGUE.search(node.name), node.name


@pytest.mark.parametrize("path", sources("tests"), ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_neither_sleep_nor_stand_in_for_a_server(path: Path) -> None:
    text = path.read_text()
    if path == Path(__file__):
        return
    assert not re.search(r"\btime\.sleep\(|asyncio\.sleep\((?!0\))", text)
    assert not re.search(r"unittest\.mock|MagicMock|fakeredis|sqlite3|test\.mock\.num\.brokers", text)


def test_only_the_sink_moves_a_watermark_and_only_the_function_moves_redis() -> None:
    movers = [p for p in sources("pipeline") if re.search(r"UPDATE pipeline_watermarks", p.read_text())]
    assert [p.relative_to(ROOT).as_posix() for p in movers] == ["pipeline/sinks/postgres.py"]
    increments = [p for p in sources("pipeline") if re.search(r"\.(hincrby|zincrby)\(", p.read_text())]
    assert increments == []


def test_only_two_folders_make_a_client_of_kafka() -> None:
    makes = re.compile(r"\b(Consumer|Producer|AdminClient)\(")
    makers = {p.relative_to(ROOT / "pipeline").parts[0] for p in sources("pipeline") if makes.search(p.read_text())}
    assert makers == {"kafka", "local"}


def test_no_epoch_uses_a_pipeline() -> None:
    """After psycopg's pipelines, executemany among them, PostgreSQL does not end a session that stands still."""
    pipelines = re.compile(r"\.executemany\(|connection\.pipeline\(")
    users = [p.name for p in sources("pipeline/sinks") if pipelines.search(p.read_text())]
    assert users == []
