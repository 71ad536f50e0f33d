"""Small valid documents that tests bend."""

from __future__ import annotations

import copy
from typing import Any

from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.iteration_profile import IterationProfileResource
from sluice.api.workload_class import WorkloadClassResource

API_VERSION = "sluice.dev/v1alpha1"
ABSENT = object()

POOL: dict[str, Any] = {
    "name": "a100",
    "endpoints": [{"address": "10.0.0.1", "port": 8000}, {"address": "10.0.0.2", "port": 8000}],
    "profileRef": {"name": "law"},
    "slots": 16,
    "chunkTokens": 256,
}
H100: dict[str, Any] = {**POOL, "name": "h100", "slots": 32}


def _document(kind: str, name: str, spec: dict[str, Any], namespace: str = "team") -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": copy.deepcopy({key: value for key, value in spec.items() if value is not ABSENT}),
    }


def profile(name: str = "law", namespace: str = "team", **spec: Any) -> IterationProfileResource:
    base = {
        "model": "8B",
        "accelerator": "A100",
        "soloNanoseconds": 22_000_000,
        "mixedBaseNanoseconds": 17_400_000,
        "perTokenNanoseconds": 62_000,
    }
    return IterationProfileResource.model_validate(_document("IterationProfile", name, {**base, **spec}, namespace))


def fleet_document(name: str = "fleet", **spec: Any) -> dict[str, Any]:
    return _document("InferenceFleet", name, {"pools": [POOL, H100], **spec})


def fleet(name: str = "fleet", **spec: Any) -> InferenceFleetResource:
    return InferenceFleetResource.model_validate(fleet_document(name, **spec))


def class_document(name: str = "chat", created: str = "", **spec: Any) -> dict[str, Any]:
    base = {
        "fleetRef": {"name": "fleet"},
        "match": {"headers": [{"name": "x-model", "value": name}]},
        "priors": {"promptTokens": 300, "outputTokens": 1000, "milliRequestsPerSecond": 5000},
    }
    document = _document("WorkloadClass", name, {**base, **spec})
    document["metadata"]["creationTimestamp"] = created
    return document


def workload(name: str = "chat", created: str = "", **spec: Any) -> WorkloadClassResource:
    return WorkloadClassResource.model_validate(class_document(name, created, **spec))


def priced(prompt: str, output: str) -> dict[str, str]:
    return {"promptPerMillionTokens": prompt, "outputPerMillionTokens": output}
