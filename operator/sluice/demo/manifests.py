"""The scene as the manifests a platform team would apply, and what they resolve to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from sluice.api.manifests import parse
from sluice.api.resolve import resolve
from sluice.demo.scene import FLEET, MODEL_HEADER, NAMESPACE, POOL, PROFILE, Scene, Service
from sluice.model.demand import ClassDemand, Demand, Estimate
from sluice.model.fleet import Fleet, WorkloadClass
from sluice.model.naming import GROUP, VERSION
from sluice.model.plan import Plan
from sluice.model.signal import Source
from sluice.model.snapshot import PoolSupply
from sluice.planning import Problem, plan

Document = dict[str, Any]

MISSED_SECOND_PENALTY = "0.00001"
"""Dollars per second for each second of mean TTFT above the promise: about a thousandth of what
the fleet earns, so that promises break ties and prices decide who is rationed."""

SCRAPE_SECONDS = 1
SOLVE_PERIOD_SECONDS = 2
WINDOW_SECONDS = 12
"""Long enough for a dozen scrapes, short enough to see a surge while it lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the parts listen on 127.0.0.1."""

    replicas: tuple[int, ...]
    prometheus: int
    proxy: int
    admin: int
    gate: int | None = None
    """None: no gate stands before the replicas."""
    gate_http: int | None = None
    """The gate's probes and metrics."""


def documents(scene: Scene, ports: Ports, unit_rate: float) -> list[Document]:
    """Profile, fleet and classes; priors are the declared load at 1.0."""
    return [_profile(scene), _fleet(scene, ports), *(_workload(scene, entry, unit_rate) for entry in scene.services)]


def text(scene: Scene, ports: Ports, unit_rate: float) -> str:
    """The same as one YAML file."""
    return yaml.safe_dump_all(documents(scene, ports, unit_rate), sort_keys=False)


def resolved(manifests: str) -> tuple[Fleet, tuple[WorkloadClass, ...]]:
    """The manifests as the operator reads them; ValueError where it would refuse them."""
    read = parse(manifests, "demo.yaml")
    if read.errors:
        raise ValueError("; ".join(read.errors))
    outcome = resolve(read.fleets[0], read.profiles, read.classes)
    if outcome.fleet is None or outcome.findings:
        raise ValueError("; ".join(finding.message for finding in outcome.findings))
    return outcome.fleet, outcome.classes


def planned(fleet: Fleet, classes: Sequence[WorkloadClass], load: float = 1.0) -> Plan:
    """The plan when ``load`` times the declared rates arrive."""
    demand = Demand(
        classes=tuple(
            ClassDemand(
                name=entry.name,
                rate=_declared(entry.prior_rate * load),
                prompt_tokens=_declared(entry.prior_prompt_tokens),
                uncached_prompt_tokens=_declared(entry.prior_prompt_tokens),
                output_tokens=_declared(entry.prior_output_tokens),
                patience_seconds=entry.patience_seconds,
            )
            for entry in classes
        )
    )
    supplies = [PoolSupply(pool=pool.name, ready=len(pool.endpoints), source=Source.ENDPOINTS) for pool in fleet.pools]
    outcome = plan(Problem.of(fleet, classes, demand, supplies), now=0.0)
    if outcome.plan is None:
        raise ValueError(outcome.message)
    return outcome.plan


def unit_rate(scene: Scene) -> float:
    """The largest rate per unit of share that the plan serves in full, requests per second."""
    ports = Ports(replicas=tuple(range(1, scene.replicas + 1)), prometheus=1, proxy=1, admin=1)
    fleet, classes = resolved(text(scene, ports, 1.0))
    served, refused = 0.0, 1.0
    while not _rations(planned(fleet, classes, refused)):
        served, refused = refused, refused * 2.0
    while refused - served > 1e-3 * refused:
        middle = (served + refused) / 2.0
        if _rations(planned(fleet, classes, middle)):
            refused = middle
        else:
            served = middle
    return served


def _rations(result: Plan) -> bool:
    return any(entry.rationed for entry in result.classes)


def _declared(value: float) -> Estimate:
    return Estimate(value=value, source=Source.PRIOR)


def _resource(kind: str, name: str, spec: Document) -> Document:
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


def _profile(scene: Scene) -> Document:
    return _resource(
        "IterationProfile",
        PROFILE,
        {
            "model": "meta-llama/Llama-3.1-8B-Instruct",
            "accelerator": "A100-SXM-80GB",
            "soloNanoseconds": scene.solo_nanoseconds,
            "kneeTokens": scene.knee_tokens,
            "perTokenNanoseconds": scene.per_token_nanoseconds,
            "perSequenceNanoseconds": scene.per_sequence_nanoseconds,
            "provenance": {
                "source": "Fitted to iteration times composed from NVIDIA's measured operator tables "
                "(aiconfigurator-core 0.12.0)",
                "licence": "Apache-2.0",
            },
        },
    )


def _fleet(scene: Scene, ports: Ports) -> Document:
    pool = {
        "name": POOL,
        "endpoints": [{"address": "127.0.0.1", "port": port} for port in ports.replicas],
        "profileRef": {"name": PROFILE},
        "slots": scene.slots,
        "chunkTokens": scene.chunk_tokens,
        "batchedTokenBudget": scene.batched_token_budget,
        "kvTokenCapacity": scene.kv_token_capacity,
    }
    data_plane: Document = {
        "kind": "EnvoyFiles",
        "adminAddress": f"127.0.0.1:{ports.admin}",
        "listenerPort": ports.proxy,
    }
    if scene.limit is not None:
        data_plane["limit"] = scene.limit.value
    if ports.gate is not None:
        # Budgets that hold for the fleet alone leave some replicas without a prefill while others hold
        # several: the proxy counts requests, not what is left of their prompts. So the gate places.
        placement = "Gate" if scene.placement else "Proxy"
        data_plane |= {"gate": "Enabled", "gateAddress": f"127.0.0.1:{ports.gate}", "placement": placement}
    return _resource(
        "InferenceFleet",
        FLEET,
        {
            "mode": "Enforce",
            "dataPlane": data_plane,
            "pools": [pool],
            "pricing": {"charging": "Bundled"},
            "metrics": {
                "prometheusUrl": f"http://127.0.0.1:{ports.prometheus}",
                "windowSeconds": WINDOW_SECONDS,
                "maximumAgeSeconds": 2 * WINDOW_SECONDS,
            },
            "control": {
                "solvePeriodSeconds": SOLVE_PERIOD_SECONDS,
                "dwellSeconds": 3 * SOLVE_PERIOD_SECONDS,
                "fenceDwellSeconds": 10 * SOLVE_PERIOD_SECONDS,
            },
        },
    )


def _workload(scene: Scene, service: Service, rate: float) -> Document:
    prompt_tokens, output_tokens = scene.mean_tokens(service)
    return _resource(
        "WorkloadClass",
        service.name,
        {
            "fleetRef": {"name": FLEET},
            "match": {"headers": [{"name": MODEL_HEADER, "value": service.model}]},
            "servedModelName": service.model,
            "tier": service.tier.value,
            "priors": {
                "promptTokens": round(prompt_tokens),
                "outputTokens": round(output_tokens),
                "milliRequestsPerSecond": round(1000 * rate * service.share),
            },
            "patienceMilliseconds": round(1000 * service.patience_seconds),
            "prices": {
                "promptPerMillionTokens": service.prompt_price,
                "outputPerMillionTokens": service.output_price,
            },
            "slis": [
                {
                    "signal": "TTFT",
                    "statistic": "WithinFraction",
                    "targetMilliseconds": round(1000 * service.promise_seconds),
                    "fractionPermille": 900,
                    "hardness": "Soft",
                    "penalty": MISSED_SECOND_PENALTY,
                }
            ],
        },
    )
