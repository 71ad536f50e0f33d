"""From pydantic's JSON schema to the structural schema of a CustomResourceDefinition.

The API server wants references inlined, no unions with null, and a type on every node;
``sluice.api.validate`` checks documents against the very same value.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

from sluice.api.base import RULES_KEY
from sluice.api.resources import CATEGORY, KINDS, NAME_MAX_LENGTH, Column, Kind
from sluice.model.naming import GROUP, VERSION

Schema = dict[str, Any]


_KEPT = (
    "type",
    "description",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    RULES_KEY,
)
"""What is copied as it is; everything else pydantic says has no place in a structural schema."""


@functools.cache
def structural(kind: str) -> Schema:
    """The structural OpenAPI v3 schema of ``kind``. Shared: do not change what it returns."""
    resource = KINDS[kind].resource
    raw = resource.model_json_schema(by_alias=True, mode="validation")
    definitions = raw.get("$defs", {})
    properties = raw["properties"]
    return {
        "type": "object",
        "description": _words(raw["description"]),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of this kind's schema: sluice.dev/v1alpha1."},
            "kind": {"type": "string", "description": f"{kind}."},
            "metadata": {
                "type": "object",
                "properties": {
                    "name": {
                        "type": "string",
                        "maxLength": NAME_MAX_LENGTH,
                        "description": "Name, unique among objects of the kind; it becomes a label value.",
                    }
                },
            },
            "spec": _node(properties["spec"], definitions),
            "status": _node({**properties["status"], "default": None}, definitions),
        },
    }


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of ``kind``."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short_name],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": structural(kind.name)},
                }
            ],
        },
    }


def _column(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "description": column.description,
        "jsonPath": column.path,
    }
    if column.wide:
        entry["priority"] = 1
    return entry


def _words(text: str) -> str:
    """A docstring as one line."""
    return " ".join(inspect.cleandoc(text).split())


def _node(raw: Schema, definitions: Schema) -> Schema:
    """One node, its references inlined and its union with null resolved."""
    merged = _dereferenced(raw, definitions)
    node: Schema = {key: merged[key] for key in _KEPT if key in merged}
    if "description" in node:
        node["description"] = _words(node["description"])
    default = _without_nulls(merged.get("default"))
    if default is not None and default != []:
        node["default"] = default
    if "items" in merged:
        node["items"] = _node(merged["items"], definitions)
    if "properties" in merged:
        node["properties"] = {name: _node(value, definitions) for name, value in merged["properties"].items()}
    elif isinstance(merged.get("additionalProperties"), dict):
        node["additionalProperties"] = _node(merged["additionalProperties"], definitions)
    return node


def _dereferenced(raw: Schema, definitions: Schema) -> Schema:
    """Follow ``$ref`` and ``anyOf [x, null]``; what stands beside them wins over what they point to."""
    if "$ref" in raw:
        target = definitions[raw["$ref"].rpartition("/")[2]]
        beside = {key: value for key, value in raw.items() if key != "$ref"}
        return _dereferenced({**target, **beside}, definitions)
    if "anyOf" in raw:
        (chosen,) = (option for option in raw["anyOf"] if option.get("type") != "null")
        beside = {key: value for key, value in raw.items() if key != "anyOf"}
        if "default" not in raw:
            raise ValueError(f"a field that may be absent needs a default: {raw}")
        return _dereferenced({**_dereferenced(chosen, definitions), **beside}, definitions)
    return raw


def _without_nulls(default: Any) -> Any:
    """A default without the optional fields that it leaves unset."""
    if isinstance(default, dict):
        return {
            key: _without_nulls(value) for key, value in default.items() if value is not None and value not in ([], ())
        }
    return default
