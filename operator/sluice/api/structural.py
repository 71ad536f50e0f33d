"""Checks a document against a structural schema in the words of the API server.

The server's order is kept: fields that the schema does not know (strict decoding) end
the matter at once; then nulls are dropped and defaults filled in; then types, bounds and
enumerations; then repeats in lists; rules over several fields come last
(``sluice.api.rules``) and only when nothing found before blocks them.
Wording as of Kubernetes 1.37 (kube-openapi ``validate``, apimachinery ``field``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sluice.api.schema import Schema

NOT_CHECKED: Final = (
    "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One error, and whether rules over several fields can still be checked beside it."""

    text: str
    blocks_rules: bool = False


def unknown_fields(value: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """Paths of fields that the schema does not have."""
    if isinstance(value, Mapping):
        known = schema.get("properties")
        for name, child in value.items():
            below = f"{path}.{name}" if path else str(name)
            if known is None:
                yield from unknown_fields(child, schema.get("additionalProperties", {}), below)
            elif name not in known:
                yield below
            elif below != "metadata":
                yield from unknown_fields(child, known[name], below)
    elif isinstance(value, Sequence) and not isinstance(value, str) and "items" in schema:
        for index, child in enumerate(value):
            yield from unknown_fields(child, schema["items"], f"{path}[{index}]")


def completed(value: Any, schema: Schema) -> Any:
    """A copy with nulls dropped where null means nothing, and with defaults filled in."""
    if isinstance(value, Mapping) and "properties" in schema:
        children = {}
        for name, child in schema["properties"].items():
            given = value.get(name)
            if given is None:
                given = child.get("default")
                if given is None:
                    continue
            children[name] = completed(given, child)
        return children
    if isinstance(value, Sequence) and not isinstance(value, str) and "items" in schema:
        return [completed(child, schema["items"]) for child in value]
    return value


def type_name(value: Any) -> str:
    """The JSON type as the server names it."""
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "boolean"),
        (int, "integer"),
        (float, "number"),
        (str, "string"),
        (Mapping, "object"),
        (Sequence, "array"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def violations(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    """Every violation at and below ``path``, parents first."""
    found = type_name(value)
    wanted = schema["type"]
    fits = found == wanted or (wanted == "number" and found == "integer")
    if not fits:
        said = f"{path}: Invalid value: {_quoted(found)}: {path} in body must be of type {wanted}: {_quoted(found)}"
        yield Problem(said, blocks_rules=True)
    if (allowed := schema.get("enum")) and value not in allowed:
        options = ", ".join(_quoted(option) for option in allowed)
        yield Problem(f"{path}: Unsupported value: {_quoted(value)}: supported values: {options}", blocks_rules=True)
    if not fits:
        if wanted == "integer" and found == "number":
            yield Problem(f'<nil>: Invalid value: "": Checked value must be of type integer (default format) in {path}')
        return
    if found == "string":
        yield from _string(value, schema, path)
    elif found in ("integer", "number"):
        yield from _number(value, schema, path)
    elif found == "array":
        yield from _array(value, schema, path)
    elif found == "object":
        yield from _object(value, schema, path)


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _invalid(path: str, value: Any, requirement: str) -> Problem:
    return Problem(f"{path}: Invalid value: {_quoted(value)}: {path} in body should {requirement}")


def _string(value: str, schema: Schema, path: str) -> Iterator[Problem]:
    """The first violation only, as the server does."""
    if (most := schema.get("maxLength")) is not None and len(value) > most:
        yield Problem(f"{path}: Too long: may not be more than {most} bytes", blocks_rules=True)
    elif (least := schema.get("minLength")) is not None and len(value) < least:
        yield _invalid(path, value, f"be at least {least} chars long")
    elif (pattern := schema.get("pattern")) and not re.search(pattern, value):
        yield _invalid(path, value, f"match '{pattern}'")


def _number(value: float, schema: Schema, path: str) -> Iterator[Problem]:
    if (least := schema.get("minimum")) is not None and value < least:
        yield _invalid(path, value, f"be greater than or equal to {least}")
    if (most := schema.get("maximum")) is not None and value > most:
        yield _invalid(path, value, f"be less than or equal to {most}")


def _array(value: Sequence[Any], schema: Schema, path: str) -> Iterator[Problem]:
    yield from _size(len(value), schema, path, ("minItems", "maxItems", "items"))
    for index, child in enumerate(value):
        yield from violations(child, schema["items"], f"{path}[{index}]")


def _object(value: Mapping[str, Any], schema: Schema, path: str) -> Iterator[Problem]:
    for name in schema.get("required", ()):
        if name not in value:
            yield Problem(f"{_below(path, name)}: Required value", blocks_rules=True)
    if "properties" in schema:
        for name, child in value.items():
            yield from violations(child, schema["properties"][name], _below(path, name))
        return
    yield from _size(len(value), schema, path, ("minProperties", "maxProperties", "properties"))
    for name, child in value.items():
        yield from violations(child, schema["additionalProperties"], _below(path, name))


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _size(size: int, schema: Schema, path: str, words: tuple[str, str, str]) -> Iterator[Problem]:
    least, most, unit = schema.get(words[0]), schema.get(words[1]), words[2]
    if least is not None and size < least:
        yield _invalid(path, size, f"have at least {least} {unit}")
    if most is not None and size > most:
        yield Problem(f"{path}: Too many: {size}: must have at most {most} items", blocks_rules=True)


def repeats(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    """Entries of sets and of keyed lists that occur twice."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            if name in schema.get("properties", ()):
                yield from repeats(child, schema["properties"][name], _below(path, name))
    elif isinstance(value, Sequence) and not isinstance(value, str) and "items" in schema:
        seen = []
        for index, child in enumerate(value):
            key = _identity(child, schema)
            if key is not None and key in seen:
                shown = json.dumps(key, separators=(",", ":"), ensure_ascii=False)
                yield Problem(f"{path}[{index}]: Duplicate value: {shown}")
            seen.append(key)
            yield from repeats(child, schema["items"], f"{path}[{index}]")


def _identity(entry: Any, schema: Schema) -> Any:
    """What tells an entry of a list from the others; None where nothing has to."""
    kind = schema.get("x-kubernetes-list-type")
    if kind == "set":
        return entry
    if kind == "map" and isinstance(entry, Mapping):
        return {name: entry.get(name) for name in sorted(schema["x-kubernetes-list-map-keys"])}
    return None
