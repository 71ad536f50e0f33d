"""Any document that the schema allows survives resource -> YAML -> resource, and can be judged by every rule."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import celpy
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice.api.resources import KINDS
from sluice.api.schema import Schema, structural
from sluice.api.structural import repeats, violations
from sluice.api.validate import problems

celpy.Environment()  # the first one raises the recursion limit, which must not happen inside an example
MOST_ITEMS = 3
WORDS = (
    "a",
    "a-1",
    "b",
    "0.15",
    "12",
    "http://prometheus:9090",
    "127.0.0.1:9901",
    "/v1",
    "/v1/chat",
    "X-Model",
    "ttft:chat",
)
"""For fields with a pattern: each takes those that fit."""
LETTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp"))


def values(node: Schema) -> st.SearchStrategy[Any]:
    """Any value that one node of a structural schema allows, repeats in lists aside."""
    if "enum" in node:
        return st.sampled_from(node["enum"])
    makers: dict[str, Callable[[Schema], st.SearchStrategy[Any]]] = {
        "string": strings,
        "integer": lambda node: st.integers(node.get("minimum", 0), node.get("maximum", 10**12)),
        "number": lambda node: st.floats(node.get("minimum", -1e9), 1e9),
        "boolean": lambda node: st.booleans(),
        "array": lists,
        "object": objects,
    }
    return makers[node["type"]](node)


def strings(node: Schema) -> st.SearchStrategy[str]:
    if pattern := node.get("pattern"):
        return st.sampled_from([word for word in WORDS if re.search(pattern, word)])
    return st.text(LETTERS, min_size=node.get("minLength", 0), max_size=min(node.get("maxLength", 64), 12))


def lists(node: Schema) -> st.SearchStrategy[list[Any]]:
    least = node.get("minItems", 0)
    return st.lists(values(node["items"]), min_size=least, max_size=max(least, MOST_ITEMS))


def objects(node: Schema) -> st.SearchStrategy[dict[str, Any]]:
    if "properties" not in node:
        words = st.sampled_from(("app", "accelerator"))
        return st.dictionaries(words, values(node["additionalProperties"]), min_size=node.get("minProperties", 0))
    fields = {name: values(child) for name, child in node["properties"].items()}
    required = node.get("required", ())
    return st.fixed_dictionaries(
        {name: fields[name] for name in required},
        optional={name: strategy for name, strategy in fields.items() if name not in required},
    )


DOCUMENTS = {
    kind: st.fixed_dictionaries(
        {
            "apiVersion": st.just("sluice.dev/v1alpha1"),
            "kind": st.just(kind),
            "metadata": st.just({"name": "x"}),
            "spec": values(structural(kind)["properties"]["spec"]),
            "status": values(structural(kind)["properties"]["status"]),
        }
    )
    for kind in KINDS
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_resource_to_yaml_and_back(kind: str, data: st.DataObject) -> None:
    schema = structural(kind)
    document = data.draw(DOCUMENTS[kind])
    assert list(violations(document["spec"], schema["properties"]["spec"], "spec")) == []
    resource = KINDS[kind].resource.model_validate(document)
    written = yaml.safe_dump(resource.model_dump(mode="json", by_alias=True, exclude_none=True), allow_unicode=True)
    again = KINDS[kind].resource.model_validate(yaml.safe_load(written))
    assert again == resource
    said = problems(document)
    assert [text for text in said if "evaluating rule" in text] == []
    if list(repeats(document["spec"], schema["properties"]["spec"], "spec")):
        assert any("Duplicate value" in text for text in said)
