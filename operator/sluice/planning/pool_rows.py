"""The variables and rows (2)-(7) of one group of equal pools; ``formulate`` states the whole program."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sluice.model.fleet import Charging
from sluice.planning.class_data import ClassData
from sluice.planning.groups import PoolGroup
from sluice.planning.problem import Problem
from sluice.planning.program import INFINITY, Indices, Labels, ProgramBuilder, Spelled, Vector
from sluice.planning.promises import PromiseKind

PREFILL = "(2) prefill work"
DECODE = "(3) decode work"
SLOTS = "(4) slots"
REPLICAS = "(5) replicas"
WAITING = "(6) decode queue"
MEMORY = "(7) KV memory"
PACE = "(16) pace"

_HOUR_SECONDS = 3600.0
_NOBODY: Indices = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class PoolColumns:
    """Where the variables and rows of one group of equal pools are in the program."""

    group: PoolGroup
    served: slice
    """z, one per admissible class."""
    closed: list[int]
    """Positions within the group's classes of those that it would serve too late: their z are held at 0."""
    waiting: slice
    """s, one per entry of ``waiting_classes``."""
    waiting_classes: Indices
    """Positions within the group's classes of those that have an s."""
    engines: slice
    """f, one per mode."""
    decodes: slice
    """y, batch group by batch group, mode by mode."""
    split: bool
    """Whether every class is its own batch group."""
    prefill_row: int
    decode_rows: slice
    """(3), one per batch group."""
    slots_rows: slice
    replicas_row: int
    memory_row: int | None
    pace_row: int | None = None
    pace: float | None = None
    """Seconds per decode step that all its classes share; None: the program chooses for each."""

    def decodes_of(self, position: int) -> slice:
        """Y of the class at ``position`` in the group, which must be split."""
        modes = len(self.group.modes)
        return slice(self.decodes.start + position * modes, self.decodes.start + (position + 1) * modes)


def add_pool(
    builder: ProgramBuilder,
    problem: Problem,
    data: ClassData,
    group: PoolGroup,
    *,
    split: bool,
    banned: list[int],
    pace: float | None = None,
) -> PoolColumns:
    """Add one group's variables and rows; ``banned`` classes are not served here, all decode at ``pace`` if given."""
    closed = np.isin(group.classes, banned).nonzero()[0].tolist() if banned else []
    served = _served(builder, problem, data, group, closed)
    if group.first.external is not None:
        member = group.classes
        builder.entries(member.tolist(), range(served, served + len(member)), 1.0)
        nothing = slice(0, 0)
        return PoolColumns(
            group=group,
            served=slice(served, served + len(member)),
            closed=closed,
            waiting=nothing,
            waiting_classes=_NOBODY,
            engines=nothing,
            decodes=nothing,
            split=False,
            prefill_row=-1,
            decode_rows=nothing,
            slots_rows=nothing,
            replicas_row=-1,
            memory_row=None,
        )
    waiting, waiting_classes = _waiting(builder, problem, data, group)
    first = group.first
    split = pace is None and (split or first.kv_token_capacity is not None or _moving_costs(group))
    labels = _mode_labels(group)
    scale = max(1.0, group.replicas)
    cost = first.cost_per_hour / _HOUR_SECONDS / first.engines_per_replica if problem.charge_replicas else 0.0
    engines = builder.columns("engines", labels, objective=-cost, scale=scale)
    decodes = _decodes(builder, problem, data, group, split=split)
    batches = len(group.classes) if split else 1
    names: Labels = _labels(problem, group.classes, group) if split else [group.name]
    prefill_row = builder.rows(PREFILL, [group.name], lower=0.0, upper=0.0)
    decode_rows = builder.rows(DECODE, names, lower=0.0, upper=0.0)
    slots_rows = builder.rows(SLOTS, labels, upper=0.0)
    always_on = any(promise.kind is PromiseKind.SLOT_TPOT for promise in problem.promises)
    replicas_row = builder.rows(
        REPLICAS, [group.name], lower=group.replicas if always_on else -np.inf, upper=group.replicas
    )
    columns = PoolColumns(
        group=group,
        served=slice(served, served + len(group.classes)),
        closed=closed,
        waiting=slice(waiting, waiting + len(waiting_classes)),
        waiting_classes=waiting_classes,
        engines=slice(engines, engines + len(group.modes)),
        decodes=slice(decodes, decodes + batches * len(group.modes)),
        split=split,
        prefill_row=prefill_row,
        decode_rows=slice(decode_rows, decode_rows + batches),
        slots_rows=slice(slots_rows, slots_rows + len(group.modes)),
        replicas_row=replicas_row,
        memory_row=None if first.kv_token_capacity is None else _memory_row(builder, group),
        pace_row=None if pace is None else builder.rows(PACE, [group.name], upper=0.0),
        pace=pace,
    )
    _request_entries(builder, problem, data, columns)
    _mode_entries(builder, data, columns)
    if pace is not None and columns.pace_row is not None:
        _pace_entries(builder, data, columns, columns.pace_row, pace)
    return columns


def _served(builder: ProgramBuilder, problem: Problem, data: ClassData, group: PoolGroup, closed: list[int]) -> int:
    """Add z of one group, scaled by the most requests/s of each class that it could take or that come."""
    member, own = group.classes, data.of_members(group.classes)
    value = own.value
    if (external := group.first.external) is not None:
        value = value - (external.prompt_token_cost * own.prompt + external.output_token_cost * own.output)
        most = np.maximum(own.high, 1e-9)
    else:
        busy = own.uncached / group.prefill_rate + own.steps / group.decode_rate
        most = np.minimum(max(1.0, group.replicas) / busy, own.sought)
    upper = [INFINITY] * len(member)
    for place in closed:
        upper[place] = 0.0
    return builder.columns(
        "served",
        _labels(problem, member, group),
        objective=value,
        upper=upper,
        scale=most,
    )


def _labels(problem: Problem, member: Indices, group: PoolGroup) -> Labels:
    """``class,pool`` of some classes."""
    return Spelled(len(member), lambda place: f"{problem.classes[member[place]].name},{group.name}")


def _mode_labels(group: PoolGroup) -> Labels:
    """``pool,mode`` of each mode."""
    return Spelled(len(group.modes), lambda k: f"{group.name},{group.modes[k]}")


def prefill_seconds(group: PoolGroup, uncached_tokens: float) -> float:
    """Time of one prefill without waiting: whole chunks, one per mixed iteration."""
    if group.first.external is not None:
        return group.first.external.first_token_seconds
    mode = group.prefill_mode
    return 0.0 if mode is None else max(1.0, np.ceil(uncached_tokens / mode.chunk_tokens)) * mode.seconds


def _waiting(builder: ProgramBuilder, problem: Problem, data: ClassData, group: PoolGroup) -> tuple[int, Indices]:
    """Add s of one group where leaving the decode queue can be part of an optimum."""
    bundled = problem.charging is Charging.BUNDLED
    if (bundled and not _prefill_may_help_decode(group)) or any(p.kind.is_paper_form for p in problem.promises):
        return 0, _NOBODY
    prompt = {p.class_name for p in problem.promises if p.kind in {PromiseKind.WAIT, PromiseKind.TTFT}}
    may = data.theta[group.classes] > 0
    if prompt:
        may &= np.array([problem.classes[i].name not in prompt for i in group.classes], dtype=bool)
    positions = may.nonzero()[0]
    chosen = group.classes[positions]
    most = max(1.0, group.replicas) * group.prefill_rate
    start = builder.columns(
        "leaving the decode queue",
        _labels(problem, chosen, group),
        objective=-data.value[chosen] if bundled else -data.output_value[chosen],
        scale=most / np.maximum(data.uncached[chosen], 1.0),
    )
    return start, positions


def _prefill_may_help_decode(group: PoolGroup) -> bool:
    """Whether prefilling for nothing could serve decode: some mixed mode is not dominated by a solo one.

    In the paper's pool that is tau < 1/gamma; its kappa < 0 is the case where it pays for decode
    capacity alone, but a shorter iteration may also pay for memory or for a promise. And where
    moving a KV cache costs, decoding beside a prefill avoids the move.
    """
    if _moving_costs(group):
        return True
    solo = [mode for mode in group.modes if not mode.mixed]
    return any(
        not any(other.batch >= mode.batch and other.seconds <= mode.seconds for other in solo)
        for mode in group.modes
        if mode.mixed and mode.batch > 0
    )


def _moving_costs(group: PoolGroup) -> bool:
    return group.first.transfer_cost_per_token > 0 or group.first.transfer_seconds_per_token > 0


def _decodes(builder: ProgramBuilder, problem: Problem, data: ClassData, group: PoolGroup, *, split: bool) -> int:
    """Add y: per mode, and per class where batches are split."""
    modes, member = group.modes, group.classes
    scale = max(1.0, group.replicas) * max(mode.batch for mode in modes)
    if not split:
        return builder.columns("decodes", _mode_labels(group), scale=scale)
    own, count = _labels(problem, member, group), len(modes)
    labels = Spelled(len(member) * count, lambda place: f"{own[place // count]},{modes[place % count]}")
    per_token = group.first.transfer_cost_per_token
    if per_token == 0:
        return builder.columns("decodes", labels, scale=scale)
    # A decode in a solo mode was moved there once: y/(t D) moves a second, each of P tokens.
    solo = np.array([0.0 if mode.mixed else 1.0 / mode.seconds for mode in modes])
    cost = per_token * np.outer(data.prompt[member] / data.steps[member], solo)
    return builder.columns("decodes", labels, objective=-cost.ravel(), scale=scale)


def _memory_row(builder: ProgramBuilder, group: PoolGroup) -> int:
    return builder.rows(MEMORY, [group.name], upper=group.replicas * (group.first.kv_token_capacity or 0.0))


def _request_entries(builder: ProgramBuilder, problem: Problem, data: ClassData, columns: PoolColumns) -> None:
    """Nonzeros of z and s in the rows (1)-(3), (6) and (7)."""
    group, member = columns.group, columns.group.classes
    own, served = data.of_members(member), range(columns.served.start, columns.served.stop)
    first = columns.decode_rows.start
    builder.entries(member.tolist(), served, 1.0)
    builder.entries(columns.prefill_row, served, own.uncached)
    builder.entries(range(first, first + len(member)) if columns.split else first, served, own.steps)
    if columns.memory_row is not None:
        # While a prompt is computed its tokens fill up evenly; cached ones are there from the start.
        resident = own.prompt - own.uncached / 2
        stay = own.uncached / group.prefill_rate
        builder.entries(columns.memory_row, served, stay * resident + _decoding_tokens(data, columns, member))
    if len(columns.waiting_classes):
        _leaving_entries(builder, problem, data, columns)


def _leaving_entries(builder: ProgramBuilder, problem: Problem, data: ClassData, columns: PoolColumns) -> None:
    """Nonzeros of s in the rows (3), (6) and (7)."""
    group, positions = columns.group, columns.waiting_classes.tolist()
    chosen = group.classes[columns.waiting_classes]
    leaving = range(columns.waiting.start, columns.waiting.stop)
    first = columns.decode_rows.start
    builder.entries([first + place for place in positions] if columns.split else first, leaving, -data.steps[chosen])
    start = builder.rows(WAITING, _labels(problem, chosen, group), upper=0.0)
    each = range(start, start + len(chosen))
    builder.entries(each, leaving, 1.0)
    builder.entries(each, [columns.served.start + place for place in positions], -1.0)
    if columns.memory_row is not None:
        queued = data.prompt[chosen] / data.theta[chosen]
        builder.entries(columns.memory_row, leaving, queued - _decoding_tokens(data, columns, chosen))


def _mode_entries(builder: ProgramBuilder, data: ClassData, columns: PoolColumns) -> None:
    """Nonzeros of f and y in the rows (2)-(5) and (7)."""
    group = columns.group
    rows = range(columns.decode_rows.start, columns.decode_rows.stop)
    for k, mode in enumerate(group.modes):
        engine, slots_row = columns.engines.start + k, columns.slots_rows.start + k
        builder.entry(columns.prefill_row, engine, -mode.prefill_rate)
        builder.entry(slots_row, engine, -mode.batch)
        builder.entry(columns.replicas_row, engine, 1.0)
        if not columns.split:
            builder.entry(rows[0], columns.decodes.start + k, -1.0 / mode.seconds)
            builder.entry(slots_row, columns.decodes.start + k, 1.0)
            continue
        decodes = range(columns.decodes.start + k, columns.decodes.stop, len(group.modes))
        builder.entries(rows, decodes, -1.0 / mode.seconds)
        held = _held(data, group, moved=not mode.mixed, seconds=mode.seconds)
        builder.entries(slots_row, decodes, 1.0 + held)
        if columns.memory_row is not None:
            prompt, output = data.prompt[group.classes], data.output[group.classes]
            builder.entries(columns.memory_row, decodes, prompt + output / 2 + held * prompt)


def _pace_entries(builder: ProgramBuilder, data: ClassData, columns: PoolColumns, row: int, pace: float) -> None:
    """Row (16): on average nobody's decode step takes longer than ``pace`` seconds."""
    group = columns.group
    builder.entries(row, range(columns.decodes.start, columns.decodes.stop), 1.0)
    leaving = group.classes[columns.waiting_classes]
    builder.entries(row, range(columns.served.start, columns.served.stop), -pace * data.steps[group.classes])
    builder.entries(row, range(columns.waiting.start, columns.waiting.stop), pace * data.steps[leaving])


def _decoding_tokens(data: ClassData, columns: PoolColumns, member: Indices) -> Vector:
    """KV tokens held by the decodes of one request/s at the pool's pace; 0 where the program places decodes."""
    seconds = 0.0 if columns.pace is None else columns.pace
    held: Vector = seconds * data.steps[member] * (data.prompt[member] + data.output[member] / 2)
    return held


def _held(data: ClassData, group: PoolGroup, *, moved: bool, seconds: float) -> Vector:
    """Slots held for KV caches on their way, per decode: y/(t D) moves a second, each holding P h seconds."""
    member = group.classes
    if not moved:
        return np.zeros(len(member))
    hold = group.first.transfer_seconds_per_token * data.prompt[member]
    held: Vector = hold / (seconds * data.steps[member])
    return held
