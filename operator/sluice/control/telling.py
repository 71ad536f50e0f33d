"""The order of telling: one status write per object, then events, then metrics.

An event never claims what was not written: the events of an object whose status could not
be written wait for the pass that writes it, because they are derived from the difference.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from sluice.api.conditions import Condition
from sluice.api.iteration_profile import IterationProfileResource, IterationProfileStatus
from sluice.control import judging
from sluice.control.judging import Verdict
from sluice.control.metrics import Metrics
from sluice.control.ports import (
    FleetKey,
    Recorder,
    Ref,
    Refusal,
    Resource,
    Status,
    StatusSink,
    WorldView,
    document,
    rfc3339,
)
from sluice.control.report import Report, ref_of
from sluice.model.plan import Plan
from sluice.model.reasons import ConditionType, Reason

log = logging.getLogger("sluice.telling")


class Telling:
    """Writes reports to where people look."""

    def __init__(self, *, sink: StatusSink, recorder: Recorder, metrics: Metrics) -> None:
        self._sink = sink
        self._recorder = recorder
        self._metrics = metrics

    async def tell(self, report: Report) -> None:
        """Everything a pass has to say."""
        needed = {told.ref: told.status for told in report.statuses if told.is_news or self._sink.lacks(told.ref)}
        silent = {(ref.kind, ref.name) for ref in await self._write(needed)}
        events = tuple(event for event in report.events if (event.subject.kind, event.subject.name) not in silent)
        if events:
            await self._recorder.publish(events)
            for event in events:
                self._metrics.count("sluice_events_total", type=event.type.value)

    async def keep_plan(self, key: FleetKey, plan: Plan, confirmed_at: float | None) -> None:
        """The plan in force, for those who read it whole."""
        await self._sink.keep_plan(key, plan, confirmed_at)

    def kept_plan(self, key: FleetKey) -> Plan | None:
        """The whole plan that an operator before us kept."""
        return self._sink.kept_plan(key)

    async def survey(self, view: WorldView, now: float) -> None:
        """The status of profiles, and of objects that cannot be read and have no good version in force."""
        needed: dict[Ref, Status] = {}
        for profile in view.profiles:
            ref, status = ref_of(profile), _profile_status(profile, now)
            if document(status) != document(profile.status) or self._sink.lacks(ref):
                needed[ref] = status
        resources: tuple[Resource, ...] = (*view.fleets, *view.classes, *view.profiles)
        known = {ref_of(resource) for resource in resources}
        for refusal in view.refusals:
            if refusal.ref not in known and (refused := self._refusal_status(refusal, now)) is not None:
                needed[refusal.ref] = refused
        await self._write(needed)

    def _refusal_status(self, refusal: Refusal, now: float) -> Status | None:
        """What an object that cannot be read should bear; None where it does."""
        before = tuple(Condition.model_validate(entry) for entry in refusal.status.get("conditions") or ())
        message = "; ".join(refusal.problems)
        verdicts = [
            Verdict(ConditionType.ACCEPTED, "False", Reason.INVALID, message),
            Verdict(ConditionType.READY, "False", Reason.INVALID, f"Accepted: {message}"),
            Verdict(ConditionType.STALLED, "True", Reason.INVALID, message),
        ]
        after = judging.conditions(before, verdicts, generation=refusal.generation, now_rfc3339=rfc3339(now))
        if after == before and not self._sink.lacks(refusal.ref):
            return None
        conditions = [entry.model_dump(mode="json", by_alias=True) for entry in after]
        return {"observedGeneration": refusal.generation, "conditions": conditions}

    async def _write(self, needed: Mapping[Ref, Status]) -> Collection[Ref]:
        """Write what is needed; those that could not be written."""
        if not needed:
            return ()
        failed = await self._sink.write_all(needed)
        for ref, why in failed.items():
            log.warning("status not written: %s", why, extra={"object": str(ref)})
        for kind, count in Counter(ref.kind for ref in needed if ref not in failed).items():
            self._metrics.count("sluice_status_writes_total", count, kind=kind)
        return failed.keys()


def _profile_status(profile: IterationProfileResource, now: float) -> IterationProfileStatus:
    verdicts: Iterable[Verdict] = (
        Verdict(ConditionType.ACCEPTED, "True", Reason.ACCEPTED, "the law can be used"),
        Verdict(ConditionType.READY, "True", Reason.READY, "the law can be used"),
    )
    conditions = judging.conditions(
        profile.status.conditions,
        tuple(verdicts),
        generation=profile.metadata.generation,
        now_rfc3339=rfc3339(now),
    )
    return IterationProfileStatus(
        observed_generation=profile.metadata.generation, conditions=conditions, observed=profile.status.observed
    )
