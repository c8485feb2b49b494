"""The environment variables of the manifests, of Compose, of the image, of the docs and of the code are one set."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import Settings

ROOT = Path(__file__).resolve().parents[2]
READ = {name.upper() for name in Settings.model_fields} | {"SECRETS_DIR"}
"""What the code reads. SECRETS_DIR says where the files of secrets are, and is no field."""

PYTHONS_OWN = {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
PROSE = {"KAFKA_", "DB_", "REDIS_", "BATCH_", "BATCH_MAX_"}
"""Prefixes that stand for a group of variables in a sentence."""

NAME = re.compile(r"[A-Z][A-Z0-9_]*")


def documents(*patterns: str) -> Iterator[Any]:
    for pattern in patterns:
        for path in sorted((ROOT / "deploy").glob(pattern)):
            yield from filter(None, yaml.safe_load_all(path.read_text(encoding="utf-8")))


def under(node: Any, key: str) -> Iterator[Any]:
    """Yield every value of a key, however deep."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from under(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from under(value, key)


def manifest_names() -> set[str]:
    manifests = list(documents("k8s/base/*.yaml", "k8s/services/*.yaml"))
    names = {variable["name"] for one in manifests for variables in under(one, "env") for variable in variables}
    names |= {name for one in manifests if one["kind"] == "ConfigMap" for name in one["data"]}
    settings = (ROOT / "deploy" / "k8s" / "base" / "settings.env").read_text(encoding="utf-8")
    names |= {line.partition("=")[0] for line in settings.split()}
    for one in documents("k8s/overlays/*/kustomization.yaml", "k8s/components/*/kustomization.yaml"):
        names |= {literal.partition("=")[0] for literals in under(one, "literals") for literal in literals}
    return names


def compose_names() -> set[str]:
    (compose,) = documents("compose.yaml")
    services = compose["services"].values()
    ours = [service for service in services if str(service.get("image", "")).startswith("gamemetrics:")]
    names = {name for service in ours for name in service.get("environment", {})}
    return names | {secret.upper() for service in ours for secret in service["secrets"]}


def image_names() -> set[str]:
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    return set(re.findall(r"([A-Z_]+)=", block))


def documented() -> dict[str, str]:
    """Read the table of docs/settings.md: name and default."""
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `([A-Z0-9_]+)` \| (.*?) \|", text, re.MULTILINE))


def test_manifests_set_only_what_the_code_reads() -> None:
    assert manifest_names() - READ == set()
    assert {"KAFKA_PASSWORD", "DB_PASSWORD", "REDIS_PASSWORD", "API_KEYS", "BATCH_MAX_EVENTS"} <= manifest_names()


def test_compose_sets_only_what_the_code_reads() -> None:
    assert compose_names() - READ == set()
    assert {"KAFKA_PASSWORD", "DB_PASSWORD", "REDIS_PASSWORD", "API_KEYS", "SECRETS_DIR"} <= compose_names()


def test_the_image_sets_only_what_the_code_or_python_reads() -> None:
    assert image_names() - READ - PYTHONS_OWN == set()
    assert "HOST" in image_names()


def defaults() -> dict[str, str]:
    """What each variable is if it is not set: "-" for nothing."""
    given = {name.upper(): field.default for name, field in Settings.model_fields.items()}
    texts = {
        name: str(default.get_secret_value() if hasattr(default, "get_secret_value") else default)
        for name, default in given.items()
    }
    empty = {"": "-", "None": "-"}
    return {name: empty.get(text, text) for name, text in texts.items()} | {"SECRETS_DIR": "-"}


def test_the_docs_name_each_setting_with_its_default() -> None:
    assert documented() == {name: f"`{default}`" for name, default in defaults().items()}


def test_the_readme_gives_the_settings_that_matter_first_with_their_defaults() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`[A-Z0-9_]+` ?)+) \| (.*?) \|", text, re.MULTILINE)
    assert len(rows) > 1
    known = defaults()
    for names, shown in rows:
        expected = [known[name] for name in NAME.findall(names)]
        assert re.findall(r"`(.*?)`", shown) == [default for default in expected if default != "-"], names


def test_no_other_page_has_a_table_of_defaults() -> None:
    tables = re.compile(r"^\|.*\bdefault\b.*\|\n\|-", re.MULTILINE | re.IGNORECASE)
    pages = sorted((ROOT / "docs").glob("*.md"))
    assert [page.name for page in pages if tables.search(page.read_text(encoding="utf-8"))] == ["settings.md"]


def test_the_docs_name_no_variable_that_nothing_reads() -> None:
    prefixes = tuple({name.partition("_")[0] + "_" for name in READ if "_" in name} - {"MAX_", "API_", "BOARD_"})
    for page in sorted((ROOT / "docs").glob("*.md")):
        words = set(NAME.findall(page.read_text(encoding="utf-8")))
        strange = {word for word in words if word.startswith(prefixes)} - READ
        assert strange - PROSE == set(), page.name
