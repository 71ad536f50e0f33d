"""A directory as the world: edits, refusals, deletions; status and plans as files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice.control.directory import DirectoryWorld
from sluice.control.files import StatusFiles
from sluice.control.ports import Ref

CLASS = """
apiVersion: sluice.dev/v1alpha1
kind: WorkloadClass
metadata: {name: %s}
spec:
  fleetRef: {name: fleet}
  match: {pathPrefix: /%s}
  priors: {promptTokens: %s, outputTokens: 10, milliRequestsPerSecond: 1000}
"""


class World:
    def __init__(self, folder: Path) -> None:
        self.manifests, self.out = folder / "manifests", folder / "out"
        self.manifests.mkdir()
        self.statuses = StatusFiles(self.out)
        self.world = DirectoryWorld(self.manifests, self.statuses)

    def write(self, file: str, text: str) -> None:
        draft = self.manifests / f".{file}"
        draft.write_text(text)
        draft.rename(self.manifests / file)
        self.world.load()

    def names(self) -> list[str]:
        return sorted(entry.metadata.name for entry in self.world.view().classes)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    world.statuses.close()


async def test_an_edit_is_seen_and_beats_once(here: World) -> None:
    here.write("a.yaml", CLASS % ("chat", "chat", 100))
    assert here.names() == ["chat"]
    assert "default" in await here.world.changed()
    here.write("a.yaml", CLASS % ("chat", "chat", 200))
    assert here.world.view().classes[0].spec.priors.prompt_tokens == 200


async def test_the_view_stays_the_same_while_nothing_changes(here: World) -> None:
    here.write("a.yaml", CLASS % ("chat", "chat", 100))
    assert here.world.view() is here.world.view()


async def test_a_refused_edit_leaves_the_last_good_version_and_is_told(here: World) -> None:
    here.write("a.yaml", CLASS % ("chat", "chat", 100))
    here.write("a.yaml", CLASS % ("chat", "chat", -5))
    assert here.world.view().classes[0].spec.priors.prompt_tokens == 100
    (refusal,) = here.world.view().refusals
    assert refusal.ref == Ref("WorkloadClass", "default", "chat")
    assert "spec.priors.promptTokens" in refusal.problems[0]
    here.write("a.yaml", CLASS % ("chat", "chat", 300))
    assert here.world.view().refusals == ()


async def test_a_file_that_cannot_be_read_keeps_its_objects(here: World) -> None:
    here.write("a.yaml", CLASS % ("chat", "chat", 100))
    here.write("a.yaml", "{ not yaml")
    assert here.names() == ["chat"]


async def test_what_was_never_good_is_refused_alone(here: World) -> None:
    here.write("a.yaml", CLASS % ("chat", "chat", -5) + "---" + CLASS % ("code", "code", 5))
    assert here.names() == ["code"]
    assert [entry.ref.name for entry in here.world.view().refusals] == ["chat"]


@pytest.mark.parametrize("name", ["../../chat", "chat, namespace: ../../etc"])
async def test_what_has_no_proper_name_gets_no_status_file(here: World, name: str) -> None:
    here.write("a.yaml", (CLASS % ("chat", "chat", 5)).replace("name: chat", f"name: {name}"))
    assert here.names() == []
    assert here.world.view().refusals == ()


async def test_an_object_that_is_gone_takes_its_status_with_it(here: World) -> None:
    here.write("a.yaml", CLASS % ("chat", "chat", 100) + "---" + CLASS % ("code", "code", 100))
    for name in ("chat", "code"):
        await here.statuses.write_all({Ref("WorkloadClass", "default", name): {"offered": "1"}})
    here.write("a.yaml", CLASS % ("code", "code", 100))
    assert [path.name for path in (here.out / "status").iterdir()] == ["WorkloadClass.default.code.json"]


async def test_objects_bear_the_status_that_was_written(here: World) -> None:
    here.write("a.yaml", CLASS % ("chat", "chat", 100))
    await here.statuses.write_all({Ref("WorkloadClass", "default", "chat"): {"offered": "7"}})
    assert here.world.view().classes[0].status.offered == "7"
    again = DirectoryWorld(here.manifests, StatusFiles(here.out))
    again.load()
    assert again.view().classes[0].status.offered == "7"


async def test_a_status_file_that_was_lost_or_changed_is_lacking(here: World) -> None:
    ref = Ref("WorkloadClass", "default", "chat")
    await here.statuses.write_all({ref: {"offered": "1"}})
    assert not here.statuses.lacks(ref)
    path = here.out / "status" / "WorkloadClass.default.chat.json"
    path.unlink()
    assert here.statuses.lacks(ref)
    await here.statuses.write_all({ref: {"offered": "1"}})
    assert json.loads(path.read_text()) == {"offered": "1"}


async def test_an_output_folder_that_is_a_file_is_told_once_and_healed(
    here: World, caplog: pytest.LogCaptureFixture
) -> None:
    here.out.write_text("in the way")
    ref = Ref("WorkloadClass", "default", "chat")
    for _ in range(3):
        await here.statuses.write_all({ref: {"offered": "1"}})
    assert caplog.text.count("cannot write") == 1
    assert here.statuses.lacks(ref)
    assert here.statuses.status(ref) == {"offered": "1"}
    here.out.unlink()
    await here.statuses.write_all({ref: {"offered": "1"}})
    assert not here.statuses.lacks(ref)


async def test_secrets_are_read_by_name_from_the_manifests(here: World) -> None:
    here.write("s.yaml", "{apiVersion: v1, kind: Secret, metadata: {name: login}, data: {token: aGVsbG8=}}")
    assert await here.world.read("default", "login") == {"token": "hello"}
    assert await here.world.read("default", "other") is None


async def test_a_folder_without_a_fleet_is_said_to_be_waited_for(here: World, caplog: pytest.LogCaptureFixture) -> None:
    here.world.load()
    (told,) = caplog.messages
    assert told == f"{here.manifests}: 0 InferenceFleet, 0 WorkloadClass, 0 IterationProfile in 0 files " + (
        "(*.json, *.yaml, *.yml): waiting for an InferenceFleet"
    )
    here.write("a.yaml", CLASS % ("chat", "chat", 100))
    here.write("a.yaml", CLASS % ("chat", "chat", 200))
    assert len(caplog.messages) == 2, "an edit that changes no count is no news"
    assert "1 WorkloadClass" in caplog.messages[1]


async def test_watching_takes_up_a_new_file(here: World) -> None:
    here.world.load()
    await here.world.changed()
    watching = asyncio.create_task(here.world.watch())
    (here.manifests / "a.yaml").write_text(CLASS % ("chat", "chat", 100))
    async with asyncio.timeout(10):
        await here.world.changed()
    watching.cancel()
    assert here.names() == ["chat"]
