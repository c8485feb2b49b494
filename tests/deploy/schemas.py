"""Validates manifests against Kubernetes' own schemas, and against the definitions of custom resources."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.deploy.tools import crds, kubernetes_schemas

Manifest = dict[str, Any]


class Loader(yaml.CSafeLoader):
    """Reads `=` as the text it is, and not as YAML 1.1's value tag: an enumeration of match types has it."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: str(node.value))


def complaints(manifest: Manifest) -> list[str]:
    """Return what is wrong with a manifest; a kind without a schema is one of these."""
    validator = _builtin(manifest["apiVersion"], manifest["kind"]) or _custom(manifest["apiVersion"], manifest["kind"])
    if validator is None:
        return [f"no schema for {manifest['apiVersion']} {manifest['kind']}"]
    where = f"{manifest['kind']}/{manifest['metadata']['name']}"
    return [f"{where} {error.json_path}: {error.message[:300]}" for error in validator.iter_errors(manifest)]


@cache
def _builtin(version: str, kind: str) -> Draft202012Validator | None:
    group, _, number = version.rpartition("/")
    name = f"{kind.lower()}-{group.split('.')[0]}-{number}" if group else f"{kind.lower()}-{number}"
    file = kubernetes_schemas() / f"{name}.json"
    if not file.exists():
        return None
    return Draft202012Validator(json.loads(file.read_text(encoding="utf-8")), registry=_definitions())


@cache
def _definitions() -> "Registry[Any]":
    contents = json.loads((kubernetes_schemas() / "_definitions.json").read_text(encoding="utf-8"))
    resource: Resource[Any] = Resource.from_contents(contents, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry()
    return registry.with_resources([("/api/_definitions.json", resource), (contents["$id"], resource)])


@cache
def _custom(version: str, kind: str) -> Draft202012Validator | None:
    return _custom_schemas().get((version, kind))


@cache
def _custom_schemas() -> dict[tuple[str, str], Draft202012Validator]:
    found = {}
    for file in crds():
        for definition in yaml.load_all(Path(file).read_text(encoding="utf-8"), Loader):
            spec = definition["spec"]
            for version in spec["versions"]:
                key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                found[key] = Draft202012Validator(schema)
    return found


def strict(schema: Any) -> Any:
    """Turn a structural schema into one that refuses unknown fields, as the API server does."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    nested = {
        name: {field: strict(one) for field, one in value.items()} if name == "properties" else strict(value)
        for name, value in schema.items()
        if name not in {"default", "description", "format", "example"}
    }
    closed = "properties" in nested and "additionalProperties" not in nested
    if closed and not nested.get("x-kubernetes-preserve-unknown-fields"):
        nested["additionalProperties"] = False
    return nested
