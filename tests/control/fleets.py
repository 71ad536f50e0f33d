"""Declarations for the tests: small fleets by address, so that no Pod has to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

API = "sluice.dev/v1alpha1"
PROFILE: Mapping[str, Any] = {
    "apiVersion": API,
    "kind": "IterationProfile",
    "metadata": {"name": "law"},
    "spec": {
        "model": "8B",
        "accelerator": "A100",
        "soloNanoseconds": 22_000_000,
        "mixedBaseNanoseconds": 17_400_000,
        "perTokenNanoseconds": 62_000,
    },
}


def fleet(mode: str = "Enforce", *, kind: str = "EnvoyGateway", name: str = "fleet", **spec: Any) -> dict[str, Any]:
    """Ten replicas of the paper's two-class instance, with a quick rhythm."""
    pool = {
        "name": "a100",
        "endpoints": [{"address": "10.0.0.1", "port": 8100 + index} for index in range(10)],
        "backendRef": {"name": "replicas", "port": 8000},
        "profileRef": {"name": "law"},
        "slots": 16,
        "chunkTokens": 256,
        "decodePlacement": "AnyReplica",
    }
    declared = {
        "mode": mode,
        "dataPlane": {"kind": kind},
        "pools": [pool],
        "pricing": {"promptPerMillionTokens": "100000", "outputPerMillionTokens": "200000"},
        "control": {"solvePeriodSeconds": 1, "dwellSeconds": 2, "fenceDwellSeconds": 4},
    }
    if kind == "EnvoyGateway":
        declared["gatewayRef"] = {"name": "gateway"}
    return {"apiVersion": API, "kind": "InferenceFleet", "metadata": {"name": name}, "spec": {**declared, **spec}}


def workload(
    name: str, prompt: int, output: int, milli_rate: int = 5000, of: str = "fleet", **spec: Any
) -> dict[str, Any]:
    """One class that its own header tells."""
    declared = {
        "fleetRef": {"name": of},
        "match": {"headers": [{"name": "x-model", "value": name}]},
        "priors": {"promptTokens": prompt, "outputTokens": output, "milliRequestsPerSecond": milli_rate},
        "patienceMilliseconds": 10_000,
    }
    return {"apiVersion": API, "kind": "WorkloadClass", "metadata": {"name": name}, "spec": {**declared, **spec}}


def gateway() -> dict[str, Any]:
    """A Gateway that nobody serves: the operator only refers to it."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "gateway"},
        "spec": {
            "gatewayClassName": "nobody",
            "listeners": [{"name": "http", "port": 10080, "protocol": "HTTP"}],
        },
    }


def two_classes() -> list[dict[str, Any]]:
    """One class is rationed (decode-heavy), the other planned in full."""
    return [workload("decode-heavy", 300, 1000), workload("prefill-heavy", 3000, 400)]
