"""A gateway's refusal is read for the fleet's own gateway, for the present generation, and never guessed."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.actuate.acceptance import refusals
from sluice.model.reasons import ConditionType, Reason

GATEWAY = ("edge", "gate")


def condition(
    type_: str, status: str, *, generation: int | None = 3, message: str = "no such Backend"
) -> dict[str, Any]:
    entry = {"type": type_, "status": status, "reason": f"{type_}Reason", "message": message}
    return entry if generation is None else {**entry, "observedGeneration": generation}


def route(*conditions: dict[str, Any], namespace: str | None = "edge", name: str = "gate") -> dict[str, Any]:
    ref = {"name": name} | ({} if namespace is None else {"namespace": namespace})
    return {
        "metadata": {"namespace": "demo", "name": "chat", "generation": 3},
        "status": {"parents": [{"parentRef": ref, "conditions": list(conditions)}]},
    }


def policy(*conditions: dict[str, Any], kind: str = "Gateway") -> dict[str, Any]:
    ancestor = {"kind": kind, "namespace": "edge", "name": "gate"}
    return {
        "metadata": {"namespace": "demo", "name": "chat", "generation": 3},
        "status": {"ancestors": [{"ancestorRef": ancestor, "conditions": list(conditions)}]},
    }


@pytest.mark.parametrize(
    ("observed", "words"),
    [
        pytest.param(route(condition("Accepted", "False")), ["AcceptedReason: no such Backend"], id="a route"),
        pytest.param(
            route(condition("Accepted", "True"), condition("ResolvedRefs", "False")),
            ["ResolvedRefsReason: no such Backend"],
            id="a route whose back end is missing",
        ),
        pytest.param(policy(condition("Accepted", "False")), ["AcceptedReason: no such Backend"], id="a policy"),
        pytest.param(
            policy(condition("Accepted", "False"), kind="HTTPRoute"),
            ["AcceptedReason: no such Backend"],
            id="a policy that is answered for its route",
        ),
        pytest.param(
            route(condition("Accepted", "False", generation=None)),
            ["AcceptedReason: no such Backend"],
            id="an answer without a generation is about what stands",
        ),
        pytest.param(
            route(condition("Accepted", "False", message="")), ["AcceptedReason"], id="a refusal without words"
        ),
        pytest.param(route(condition("Accepted", "True")), [], id="accepted"),
        pytest.param(route(condition("Accepted", "Unknown")), [], id="not decided yet"),
        pytest.param(route(condition("Accepted", "False", generation=2)), [], id="about an older generation"),
        pytest.param(route(condition("Accepted", "False"), name="other"), [], id="another gateway's refusal"),
        pytest.param(
            route(condition("Accepted", "False"), namespace=None), [], id="a namesake in the route's own namespace"
        ),
        pytest.param(route(condition("Overridden", "False")), [], id="a condition that says nothing of acceptance"),
        pytest.param({"metadata": {"namespace": "demo", "name": "chat", "generation": 3}}, [], id="no answer yet"),
    ],
)
def test_what_a_gateway_refuses(observed: dict[str, Any], words: list[str]) -> None:
    found = refusals(observed, "HTTPRoute", GATEWAY, "chat")
    assert {finding.reason for finding in found} <= {Reason.GATEWAY_REFUSED}
    assert {finding.subject for finding in found} <= {"WorkloadClass/chat"}
    for type_ in (ConditionType.PROGRAMMED, ConditionType.EFFECTIVE):
        told = [finding.message for finding in found if finding.condition is type_]
        assert told == [f"the gateway does not take HTTPRoute/chat: {word}" for word in words]
