"""What keeps engines closed: the gate's own measure of what is scarce, from which prices follow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sluice.gate.engines import READING_AGE_SECONDS, Engine


@dataclass(frozen=True, slots=True)
class Scarcity:
    """What stands idle for want of something else, in engines.

    Closed engines alone would not do: one in prefill with a single free slot is closed by prefill
    and wastes little, and counted in full it makes prefill look dearer than it is.
    """

    prefill: float = 0.0
    """Share of slots that are free where the budget of unfinished prefill is spent."""
    slots: float = 0.0
    """Engines with budget left whose slots are all taken, or that have a queue of their own."""
    memory: int = 0
    """Their slots would do, but not their KV memory."""


def short_of_prefill(engines: Iterable[Engine]) -> float:
    """Slots that prefill keeps idle on the ready engines."""
    return sum(_idle_slots(engine) for engine in engines if engine.terms.ready and not engine.has_budget())


def _idle_slots(engine: Engine) -> float:
    """Share of an engine's slots that is free, by the last reading and what was started since; 1 where nobody knows."""
    slots, reading, held = engine.terms.slots, engine.reading, engine.residents
    if slots is None or reading is None or engine.seen_at - engine.read_at > READING_AGE_SECONDS:
        return 1.0
    return max(0.0, slots - (reading.running + reading.waiting + held.started - held.ended)) / slots


def scarcity(engines: Iterable[Engine], now: float) -> Scarcity:
    """What the ready engines lack now."""
    engines = tuple(engines)
    slots = memory = 0
    for engine in engines:
        if not engine.terms.ready or engine.reading is None or now - engine.read_at > READING_AGE_SECONDS:
            continue
        if _is_full(engine):
            slots += engine.has_budget()
        elif not engine.has_memory(engine.reading):
            memory += 1
    return Scarcity(short_of_prefill(engines), slots, memory)


def _is_full(engine: Engine) -> bool:
    """By the last reading and what was started since, whatever ends are expected."""
    reading, held = engine.reading, engine.residents
    if reading is None:
        return False
    if engine.terms.slots is None:
        return reading.waiting > 0
    return reading.running + reading.waiting + held.started - held.ended >= engine.terms.slots
