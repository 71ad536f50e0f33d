"""The cluster's store: order of versions, deletions, listings, and what deserves a pass."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sluice.control.cluster.assembly import Assembly
from sluice.control.cluster.kinds import CLASSES, PODS
from sluice.control.cluster.store import Store
from sluice.control.ports import Ref

REF = Ref("WorkloadClass", "default", "chat")
SPEC = {
    "fleetRef": {"name": "fleet"},
    "match": {"pathPrefix": "/"},
    "priors": {"promptTokens": 10, "outputTokens": 10, "milliRequestsPerSecond": 1000},
}


def chat(version: int, generation: int = 1, uid: str = "u1", **fields: Any) -> dict[str, Any]:
    metadata = {
        "name": "chat",
        "namespace": "default",
        "uid": uid,
        "resourceVersion": str(version),
        "generation": generation,
        "annotations": {"of": "the user"},
        "managedFields": [{"manager": "kubectl"}],
    }
    return {"apiVersion": "sluice.dev/v1alpha1", "kind": "WorkloadClass", "metadata": metadata, "spec": SPEC, **fields}


def pod(version: int, ready: str, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "default", "uid": "p1", "resourceVersion": str(version)},
        "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "SECRET", "value": "x"}]}]},
        "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready}], **status},
    }


@pytest.fixture
def store() -> Store:
    return Store(Assembly())


async def beats(store: Store) -> bool:
    """Whether a change is waiting."""
    try:
        async with asyncio.timeout(0.01):
            return bool(await store.changed())
    except TimeoutError:
        return False


def version(store: Store) -> str:
    return str((store.get(REF) or {"metadata": {"resourceVersion": ""}})["metadata"]["resourceVersion"])


async def test_an_older_state_does_not_replace_a_newer_one(store: Store) -> None:
    store.put(CLASSES, chat(7))
    store.put(CLASSES, chat(5))
    assert version(store) == "7"


async def test_a_namesake_with_another_uid_does(store: Store) -> None:
    store.put(CLASSES, chat(7))
    store.put(CLASSES, chat(5, uid="u2"))
    assert version(store) == "5"


async def test_an_answer_that_is_late_does_not_bring_a_deleted_object_back(store: Store) -> None:
    store.put(CLASSES, chat(7))
    store.remove(CLASSES, chat(8))
    store.put(CLASSES, chat(7))
    assert store.get(REF) is None
    assert store.view().classes == ()


async def test_a_listing_removes_what_is_gone_but_not_what_is_younger(store: Store) -> None:
    store.put(CLASSES, chat(7))
    store.replace(CLASSES, "default", [], "6")
    assert version(store) == "7"
    store.replace(CLASSES, "elsewhere", [], "9")
    assert version(store) == "7"
    store.replace(CLASSES, None, [], "9")
    assert store.get(REF) is None


async def test_our_own_status_write_is_no_reason_for_a_pass(store: Store) -> None:
    store.put(CLASSES, chat(7))
    assert await beats(store)
    store.put(CLASSES, chat(8, status={"offered": "3"}))
    assert not await beats(store)
    assert store.view().classes[0].status.offered == "3"
    store.put(CLASSES, chat(9, generation=2))
    assert await beats(store)


async def test_only_what_matters_of_a_pod_is_kept_and_wakes(store: Store) -> None:
    store.put(PODS, pod(1, "True"))
    assert await beats(store)
    assert "SECRET" not in str(store.view().objects)
    store.put(PODS, pod(2, "True", message="noise"))
    assert not await beats(store)
    store.put(PODS, pod(3, "False"))
    assert await beats(store)


async def test_an_object_of_another_version_of_the_definitions_is_a_refusal(store: Store) -> None:
    store.put(CLASSES, chat(7, spec={**SPEC, "fromTheFuture": 1}))
    (refusal,) = store.view().refusals
    assert refusal.ref == REF
    assert "fromTheFuture" in refusal.problems[0]


async def test_the_view_stays_the_same_while_nothing_changes(store: Store) -> None:
    store.put(CLASSES, chat(7))
    first = store.view()
    store.put(CLASSES, chat(7))
    assert store.view() is first
