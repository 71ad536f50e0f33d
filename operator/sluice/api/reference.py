"""The reference page ``crds/README.md``: every field, condition and reason, from the models themselves."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator

from sluice.api.base import RULES_KEY
from sluice.api.resources import KINDS, Kind
from sluice.api.schema import Schema, structural
from sluice.model.reasons import ConditionType, Reason

_HEAD = """# Custom resources

Generated from the models in `sluice.api` by `make crds`; do not edit. Group `sluice.dev`, version `v1alpha1`, all
namespaced, category `sluice` (`kubectl get sluice`). `samples/` holds manifests to start from:

| folder | what |
|---|---|
| `samples/first-day/` | the least that works: one pool, two classes, no prices |
| `samples/fleet/` | two pools (A100, H100) behind Envoy Gateway; four classes with prices and promises |
| `samples/two-class/` | the two-class instance of the model paper, by addresses: `sluice plan -f` needs no cluster |

Specs hold no floats: integers carry their unit in the name, money is a decimal string (prices per million tokens).
What the API server refuses by schema or rule is refused offline with the same words.
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD, *(_kind(kind) for kind in KINDS.values()), _conditions(), _reasons()]
    return "\n".join(parts)


def _kind(kind: Kind) -> str:
    schema = structural(kind.name)
    lines = [
        f"## {kind.name}\n",
        f"{schema['description']} Short name `{kind.short_name}`.\n",
        "### Fields\n",
        "| field | type | default | bounds | meaning |",
        "|---|---|---|---|---|",
    ]
    rules: list[str] = []
    for part in ("spec", "status"):
        required = part in schema["required"]
        for path, node, needed in _walk(part, schema["properties"][part], required=required):
            lines.append(_row(path, node, needed=needed))
            rules += [f"| `{path}` | {rule['message']} |" for rule in node.get(RULES_KEY, ())]
    if rules:
        lines += ["\n### Rules\n", "| on | refused with |", "|---|---|", *rules]
    return "\n".join(lines) + "\n"


def _walk(path: str, node: Schema, *, required: bool) -> Iterator[tuple[str, Schema, bool]]:
    """Every field below ``node``, parents first."""
    yield path, node, required
    inner, prefix = (node["items"], f"{path}[]") if "items" in node else (node, path)
    if "items" in node and inner.get(RULES_KEY):
        yield prefix, inner, False
    for name, child in inner.get("properties", {}).items():
        yield from _walk(f"{prefix}.{name}", child, required=name in inner.get("required", ()))


def _row(path: str, node: Schema, *, needed: bool) -> str:
    default = node.get("default")
    shown = "**required**" if needed else "" if default in (None, "") or isinstance(default, dict) else f"`{default}`"
    return f"| `{path}` | {_type(node)} | {shown} | {_bounds(node)} | {_cell(node.get('description', ''))} |"


def _type(node: Schema) -> str:
    if "items" in node:
        return f"list of {_type(node['items'])}"
    if "additionalProperties" in node:
        return f"map to {_type(node['additionalProperties'])}"
    return "enum" if "enum" in node else str(node["type"])


def _bounds(node: Schema) -> str:
    if values := node.get("enum"):
        return ", ".join(f"`{value}`" for value in values)
    said = []
    for low, high, unit in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " entries"),
        ("minProperties", "maxProperties", " entries"),
    ):
        if low in node or high in node:
            said.append(f"{node.get(low, '')}..{node.get(high, '')}{unit}")
    return ", ".join(said)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _conditions() -> str:
    """The conditions, their meaning taken from the enum's own source."""
    rows = [f"| `{kind.value}` | {meaning} |" for kind, meaning in _meanings().items()]
    return "\n".join(
        [
            "## Conditions\n",
            "Every condition carries `observedGeneration`; `lastTransitionTime` moves only when its status flips.\n",
            "| condition | when True |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def _meanings() -> dict[ConditionType, str]:
    """The sentence below each member of ``ConditionType``."""
    lines = [line.strip() for line in inspect.getsource(ConditionType).splitlines()]
    meanings = {}
    for line, following in itertools.pairwise(lines):
        name = line.partition(" = ")[0]
        if name in ConditionType.__members__ and following.startswith('"""'):
            meanings[ConditionType[name]] = following.strip('"')
    return meanings


def _reasons() -> str:
    rows = [f"| `{reason.value}` | {reason.remedy} |" for reason in Reason]
    return "\n".join(["## Reasons\n", "| reason | what it means and what to do |", "|---|---|", *rows, ""])
