"""Files become resources; what is wrong names the file, the object and the field."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.unit.api.objects import class_document, fleet_document, profile

from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.manifests import Manifests, parse
from sluice.api.resolve import resolve
from sluice.api.supply import count

SAMPLES = Path(__file__).resolve().parents[3] / "crds" / "samples"
PROFILE = profile().model_dump(mode="json", by_alias=True, exclude_none=True)
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "vllm"}}


def text(*documents: object) -> str:
    return yaml.safe_dump_all(documents)


def test_documents_are_sorted_by_kind_and_others_are_kept_as_they_are() -> None:
    result = parse(text(fleet_document(), class_document(), PROFILE, None, DEPLOYMENT), "all.yaml")
    assert result.errors == ()
    assert [len(part) for part in (result.fleets, result.classes, result.profiles, result.others)] == [1, 1, 1, 1]
    assert result.others[0]["metadata"] == {"name": "vllm", "namespace": "default"}


def test_a_list_is_its_items() -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [fleet_document(), class_document()]}
    result = parse(text(listed), "all.yaml")
    assert [len(result.fleets), len(result.classes), result.errors] == [1, 1, ()]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        pytest.param(
            text(fleet_document(mode="Foo")),
            'f.yaml: InferenceFleet team/fleet: spec.mode: Unsupported value: "Foo"',
            id="a bad field names file, object and field",
        ),
        pytest.param("a: [", "f.yaml: while parsing", id="no YAML at all"),
        pytest.param("- 1", "f.yaml: a document is no Kubernetes object", id="a list at the top"),
        pytest.param("a: 1", "apiVersion and kind are required", id="an object without a kind"),
        pytest.param(
            "apiVersion: v1\nkind: Pod\nkind: Pod\n",
            'key "kind" occurs twice',
            id="a key that occurs twice",
        ),
        pytest.param(
            text(fleet_document(), fleet_document()),
            "InferenceFleet team/fleet: declared twice",
            id="an object that is declared twice",
        ),
        pytest.param(
            "apiVersion: sluice.dev/v1alpha1\nkind: InferenceFleet\nmetadata: {name: x}\nspec: {mode: off}\n",
            'spec.mode: Invalid value: "boolean"',
            id="an unquoted off is a boolean, as for kubectl",
        ),
    ],
)
def test_errors(written: str, said: str) -> None:
    assert said in "\n".join(parse(written, "f.yaml").errors)


def test_times_stay_strings() -> None:
    document = class_document(created="")
    document["metadata"]["creationTimestamp"] = "STAMP"
    result = parse(text(document).replace("STAMP", "2026-10-01T00:00:00Z"), "f.yaml")
    assert result.classes[0].metadata.creation_timestamp == "2026-10-01T00:00:00Z"


def test_the_first_of_two_declarations_stays() -> None:
    first, second = parse(text(fleet_document()), "a"), parse(text(fleet_document(mode="Enforce")), "b")
    merged = first.merge(second)
    assert (merged.fleets, len(merged.errors)) == (first.fleets, 1)


def test_a_status_that_cannot_be_read_counts_as_none() -> None:
    document = fleet_document() | {"status": {"conditions": "nonsense"}}
    assert InferenceFleetResource.model_validate(document).status.conditions == ()


def sample(folder: str) -> Manifests:
    result = Manifests()
    for path in sorted((SAMPLES / folder).glob("*.yaml")):
        result = result.merge(parse(path.read_text(encoding="utf-8"), path.name))
    return result


@pytest.mark.parametrize(
    ("folder", "classes", "replicas"),
    [
        pytest.param("first-day", 2, {"h100": 2}, id="first day"),
        pytest.param("fleet", 4, {"a100": 4, "h100": 2}, id="two pools, four classes"),
        pytest.param("two-class", 2, {"a100": 10}, id="the paper's two-class instance"),
    ],
)
def test_samples_resolve_without_a_finding(folder: str, classes: int, replicas: dict[str, int]) -> None:
    manifests = sample(folder)
    assert manifests.errors == ()
    resolved = resolve(manifests.fleets[0], manifests.profiles, manifests.classes)
    assert (resolved.findings, len(resolved.classes)) == ((), classes)
    assert resolved.fleet is not None
    supplies, unknown = count(resolved.fleet, manifests.others)
    assert ({supply.pool: supply.ready for supply in supplies}, unknown) == (replicas, ())


def test_every_sample_folder_is_tested() -> None:
    assert {path.name for path in SAMPLES.iterdir()} == {"first-day", "fleet", "two-class"}


def test_the_two_class_sample_is_the_paper_s_instance() -> None:
    manifests = sample("two-class")
    resolved = resolve(manifests.fleets[0], manifests.profiles, manifests.classes)
    assert resolved.fleet is not None
    (pool,) = resolved.fleet.pools
    assert (pool.slots, pool.chunk_tokens, pool.solo_seconds) == (16, 256, 0.022)
    assert pool.mixed_seconds == pytest.approx(0.033272, rel=1e-12)
    for entry in resolved.classes:
        assert entry.prior_rate / len(pool.endpoints) == 0.5
        assert (entry.abandonment_rate, entry.prompt_token_price, entry.output_token_price) == (0.1, 0.1, 0.2)
    lengths = {(entry.prior_prompt_tokens, entry.prior_output_tokens) for entry in resolved.classes}
    assert lengths == {(300.0, 1000.0), (3000.0, 400.0)}


def test_a_number_with_an_exponent_and_no_point_is_a_number() -> None:
    """As kubectl and JSON read it; YAML 1.1 would make it a string, and a fleet's own status a refusal."""
    read = parse("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {residual: 2e-16, text: '2e-16'}", "test")
    assert read.others[0]["spec"] == {"residual": 2e-16, "text": "2e-16"}
