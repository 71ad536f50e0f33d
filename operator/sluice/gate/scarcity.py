"""What keeps engines closed: the gate's own measure of what is scarce, from which prices follow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sluice.gate.engines import READING_AGE_SECONDS, Engine


@dataclass(frozen=True, slots=True)
class Scarcity:
    """Engines that lack something; one may lack several things."""

    prefill: int = 0
    """Their budget of unfinished prefill is spent."""
    slots: int = 0
    """All their slots are taken, or they have a queue of their own."""
    memory: int = 0
    """Their slots would do, but not their KV memory."""


def short_of_prefill(engines: Iterable[Engine]) -> int:
    """Ready engines whose prefill budget is spent."""
    return sum(not engine.has_budget() for engine in engines if engine.terms.ready)


def scarcity(engines: Iterable[Engine], now: float) -> Scarcity:
    """What the ready engines lack now."""
    prefill = slots = memory = 0
    for engine in engines:
        if not engine.terms.ready:
            continue
        prefill += not engine.has_budget()
        if engine.reading is None or now - engine.read_at > READING_AGE_SECONDS:
            continue
        if _is_full(engine):
            slots += 1
        elif not engine.has_memory(engine.reading):
            memory += 1
    return Scarcity(prefill, slots, memory)


def _is_full(engine: Engine) -> bool:
    """By the last reading and what was started since, whatever ends are expected."""
    reading, held = engine.reading, engine.residents
    if reading is None:
        return False
    if engine.terms.slots is None:
        return reading.waiting > 0
    return reading.running + reading.waiting + held.started - held.ended >= engine.terms.slots
