"""The files under crds/ and the chart say what the models say, and say it completely."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celpy
import pytest
import yaml

from sluice.api.base import RULES_KEY
from sluice.api.generate import files, write
from sluice.api.resources import KINDS
from sluice.api.schema import structural
from sluice.model.reasons import ConditionType, Reason

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "sluice" / "crds"
BOUNDS = {"string": "maxLength", "array": "maxItems"}
SERVER_FIELDS = ("metadata", "apiVersion", "kind")


def nodes(path: str, node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        if name not in SERVER_FIELDS:
            yield from nodes(f"{path}.{name}", child)
    if "items" in node:
        yield from nodes(f"{path}[]", node["items"])
    if "additionalProperties" in node:
        yield from nodes(f"{path}[key]", node["additionalProperties"])


EVERY_NODE = [entry for kind in KINDS for entry in nodes(kind, structural(kind))]
EVERY_FIELD = [(path, node) for path, node in EVERY_NODE if not path.endswith("]")]


@pytest.mark.parametrize("name", files())
def test_a_committed_file_is_what_the_models_generate(name: str) -> None:
    assert (ROOT / "crds" / name).read_text(encoding="utf-8") == files()[name], "run `make crds`"


@pytest.mark.parametrize("name", [name for name in files() if name.endswith(".yaml")])
def test_the_chart_carries_the_same_definitions(name: str) -> None:
    assert (CHART / name).read_bytes() == (ROOT / "crds" / name).read_bytes(), "run `make crds`"


def test_generating_writes_both_folders_and_nothing_else(tmp_path: Path) -> None:
    written = write(tmp_path)
    assert sorted(written) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert {path.parent.relative_to(tmp_path).as_posix() for path in written} == {"crds", "charts/sluice/crds"}


@pytest.mark.parametrize(("path", "node"), EVERY_FIELD, ids=[path for path, _ in EVERY_FIELD])
def test_every_field_is_described(path: str, node: dict[str, Any]) -> None:
    assert len(node.get("description", "")) > 3, path


@pytest.mark.parametrize(("path", "node"), EVERY_NODE, ids=[path for path, _ in EVERY_NODE])
def test_every_node_has_a_type_and_a_bound(path: str, node: dict[str, Any]) -> None:
    bound = BOUNDS.get(node["type"])
    assert bound is None or bound in node or "enum" in node, path
    if "additionalProperties" in node:
        assert "maxProperties" in node, path
    if path.count(".") and ".spec." in path and node["type"] == "integer":
        assert {"minimum", "maximum"} <= set(node), path


def test_specs_hold_no_floats() -> None:
    assert [path for path, node in EVERY_NODE if ".spec" in path and node["type"] == "number"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_definition_has_status_short_name_category_and_columns(kind: str) -> None:
    text = (ROOT / "crds" / f"sluice.dev_{KINDS[kind].plural}.yaml").read_text(encoding="utf-8")
    spec = yaml.safe_load(text)["spec"]
    (version,) = spec["versions"]
    assert spec["names"]["shortNames"] == [KINDS[kind].short_name]
    assert spec["names"]["categories"] == ["sluice"]
    assert version["subresources"] == {"status": {}}
    columns = version["additionalPrinterColumns"]
    assert columns[-1]["jsonPath"] == ".metadata.creationTimestamp"
    assert "Ready" in [column["name"] for column in columns if not column.get("priority")]


@pytest.mark.parametrize("kind", KINDS)
def test_columns_point_at_fields_that_exist(kind: str) -> None:
    for column in KINDS[kind].columns:
        node = structural(kind)
        for part in column.path.partition("[")[0].strip(".").split("."):
            if part == "metadata":
                break
            node = node["properties"][part]


def test_rules_compile_and_are_told_apart_by_their_messages() -> None:
    rules = [rule for _, node in EVERY_NODE for rule in node.get(RULES_KEY, ())]
    environment = celpy.Environment()
    for rule in rules:
        environment.compile(rule["rule"])
    assert len({rule["message"] for rule in rules}) == len({rule["rule"] for rule in rules})


@pytest.mark.parametrize("word", [*(kind.value for kind in ConditionType), *(reason.value for reason in Reason)])
def test_the_reference_page_names_every_condition_and_reason(word: str) -> None:
    assert f"| `{word}` | " in files()["README.md"]


def test_the_reference_page_has_no_empty_cell_where_a_meaning_belongs() -> None:
    assert [line for line in files()["README.md"].splitlines() if line.endswith("|  |")] == []
