"""Where fleet, classes and plan come from: a directory of manifests and a plan file.

Both are looked at many times a second by their modification time, which costs two system
calls, and read when they changed. A plan file that is put there anew with the same content
renews the plan. A file that cannot be used changes nothing: the gate goes on with what it has,
counts the problem and says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sluice.api.manifests import Manifests, parse
from sluice.api.resolve import resolve
from sluice.api.supply import count
from sluice.gate.assembly import Choices, terms_of
from sluice.gate.routes import Rules
from sluice.gate.terms import GateTerms
from sluice.model.fleet import Fleet, GateUse, Mode, WorkloadClass
from sluice.model.plan import Plan

LOG = logging.getLogger(__name__)
LARGEST_PLAN_BYTES = 4 * 2**20


class FeedError(Exception):
    """What is there cannot be used; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The fleet as declared."""

    fleet: Fleet
    classes: tuple[WorkloadClass, ...]
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rules: Rules = field(default_factory=dict)
    """Of users' HTTPRoutes to which classes refer."""


def world_of(manifests: Manifests, fleet_name: str | None) -> World:
    """The one fleet in ``manifests``, or the one called ``fleet_name``."""
    named = [one for one in manifests.fleets if fleet_name in (None, one.metadata.name)]
    if len(named) != 1:
        there = (
            ", ".join(one.metadata.name for one in manifests.fleets[:10]) or "; ".join(manifests.errors[:3]) or "none"
        )
        wanted = f"no fleet {fleet_name}" if fleet_name else "one fleet is wanted, name it"
        raise FeedError(f"{wanted}; there are: {there}")
    resolved = resolve(named[0], manifests.profiles, manifests.classes)
    if resolved.fleet is None or not resolved.classes:
        raise FeedError("the fleet does not resolve: " + "; ".join(one.message for one in resolved.findings[:3]))
    supplies, _ = count(resolved.fleet, manifests.others)
    addresses = {supply.pool: supply.addresses for supply in supplies}
    rules = _rules(resolved.fleet.namespace, resolved.classes, manifests.others)
    return World(fleet=resolved.fleet, classes=resolved.classes, addresses=addresses, rules=rules)


def lets_go(manifests: Manifests, fleet_name: str | None) -> bool:
    """Whether manifests that make no world say all the same that nothing is to be held.

    The fleet is gone, or does not enforce, which it takes neither profile nor class to tell. Where
    something could not be read, a fleet that is missing tells nothing.
    """
    named = [one for one in manifests.fleets if fleet_name in (None, one.metadata.name)]
    if not named:
        return not manifests.errors
    spec = named[0].spec
    return len(named) == 1 and (spec.mode is not Mode.ENFORCE or GateUse(spec.data_plane.gate) is not GateUse.ENABLED)


def let_go(world: World) -> World:
    """The same with a fleet that only looks."""
    return replace(world, fleet=replace(world.fleet, mode=Mode.OBSERVE))


def _rules(namespace: str, classes: Iterable[WorkloadClass], objects: Iterable[Mapping[str, Any]]) -> Rules:
    """The rules of the HTTPRoutes to which ``classes`` refer, as far as they are among ``objects``."""
    wanted = {workload.route.name for workload in classes if workload.route is not None}
    return {
        item["metadata"]["name"]: tuple(str(rule.get("name", "")) for rule in item.get("spec", {}).get("rules") or ())
        for item in objects
        if item.get("kind") == "HTTPRoute"
        and item["metadata"].get("namespace") == namespace
        and item["metadata"].get("name") in wanted
    }


def read_world(folder: Path, fleet_name: str | None) -> World:
    """The world as the manifests below ``folder`` declare it."""
    return world_of(_read(folder), fleet_name)


def _read(folder: Path) -> Manifests:
    merged = Manifests()
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        merged = merged.merge(parse(path.read_text(encoding="utf-8"), str(path)))
    return merged


def read_plan(text: str, fleet_key: str) -> Plan:
    """A plan from its document, if it is for this fleet and may be acted on."""
    try:
        plan = Plan.model_validate_json(text)
    except ValidationError as error:
        raise FeedError(f"the plan is not one: {error.errors()[0]['msg']}") from error
    if plan.fleet != fleet_key:
        raise FeedError(f"the plan is for {plan.fleet}, not for {fleet_key}")
    if not plan.verdict.may_actuate:
        raise FeedError(f"the plan's verdict is {plan.verdict.value}")
    return plan


@dataclass(slots=True)
class Feed:
    """Keeps the gate's terms up to date from files."""

    world: World
    choices: Choices
    take: Callable[[GateTerms, bool], None]
    """Told the new terms, and whether their plan is fresh."""
    problem: Callable[[str], None]
    plan_file: Path | None = None
    manifests: Path | None = None
    fleet_name: str | None = None
    stale_seconds: float = 3600.0
    """A plan that was not renewed for so long is no longer trusted with the order. Long, because one that
    agrees with the last one within the dead band is not written again, but confirmed every ten minutes."""
    plan: Plan | None = None
    fresh: bool = False
    _plan_stamp: tuple[int, int, int] | None = None
    _plan_read: float = 0.0
    _world_stamp: int = 0

    def terms(self) -> GateTerms:
        """The terms as of now."""
        plan = self.plan if self.fresh else None
        return terms_of(self.world.fleet, self.world.classes, plan, self.world.addresses, self.choices)

    def plan_age(self, now: float) -> float | None:
        """Time since the plan was read last; None without one."""
        return None if self.plan is None else now - self._plan_read

    def look(self, now: float) -> None:
        """See whether the plan's file or its age changed; ``now`` is monotonic."""
        changed = self._look_at_plan(now)
        fresh = self.plan is not None and now - self._plan_read <= self.stale_seconds
        if changed or fresh != self.fresh:
            self.fresh = fresh
            self.take(self.terms(), fresh)

    def look_at_manifests(self) -> None:
        """See whether the manifests changed."""
        if self.manifests is None:
            return
        files = sorted([*self.manifests.rglob("*.yaml"), *self.manifests.rglob("*.yml")])
        stamp = hash(tuple((str(path), _stamp(path)) for path in files))
        if stamp == self._world_stamp:
            return
        first, self._world_stamp = self._world_stamp == 0, stamp
        if first:
            return
        try:
            read = _read(self.manifests)
        except OSError as error:
            self._complain("Manifests", str(error))
            return
        try:
            self.take_world(world_of(read, self.fleet_name))
        except FeedError as error:
            self._complain("Manifests", str(error))
            if lets_go(read, self.fleet_name):
                self.take_world(let_go(self.world))

    def take_world(self, world: World) -> None:
        """Other classes or engines."""
        if world != self.world:
            self.world = world
            self.take(self.terms(), self.fresh)

    def take_plan(self, plan: Plan, now: float) -> None:
        """A plan from elsewhere than the file; the same one renewed only goes on being trusted."""
        stays, self._plan_read = self.fresh and plan == self.plan, now
        if not stays:
            self.plan, self.fresh = plan, True
            self.take(self.terms(), True)

    def _look_at_plan(self, now: float) -> bool:
        if self.plan_file is None:
            return False
        stamp = _stamp(self.plan_file)
        if stamp is None or stamp == self._plan_stamp:
            return False
        self._plan_stamp = stamp
        try:
            plan = read_plan(_bounded(self.plan_file, stamp[1]), self.world.fleet.key)
        except (OSError, UnicodeDecodeError, FeedError) as error:
            self._complain("Plan", str(error))
            return False
        self._plan_read = now
        changed = self.plan != plan
        self.plan = plan
        return changed

    def _complain(self, why: str, text: str) -> None:
        LOG.warning("going on with what was there before", extra={"problem": text, "feed": why})
        self.problem(why)


def _bounded(path: Path, size: int) -> str:
    """The text of a file of sane size."""
    if size > LARGEST_PLAN_BYTES:
        raise FeedError(f"the plan file holds {size} bytes")
    return path.read_text(encoding="utf-8")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
