"""Builds the linear program of one problem.

Problem    How many requests of each class each pool should serve, and how its replicas should
           spend their time, so that the fleet earns the most money per second in steady state.
           The fluid program of arXiv 2602.02987, equations (40) and (42), for several pools.

Data       Lambda_i   offered rate of class i, requests/s       theta_i  abandonment rate, 1/s
           U_i, P_i   prompt tokens to compute, to be paid for  D_i      decode steps (tokens / tokens per step)
           n_p        engines of pool p
           (C, b, t)  modes k of pool p: chunk tokens, decoding sequences, seconds of an iteration.
                      The paper's pool has two: mixed (C, B-1, tau) and solo (0, B, 1/gamma).

Variables  z_ip >= 0  requests/s of class i prefilled in pool p               (the paper's mu_p,i x_i)
           s_ip >= 0  requests/s that leave the decode queue unserved         (theta_i q_d,i)
           f_kp >= 0  engines in mode k                                       (mixed: the paper's sum of x_i)
           y_kp >= 0  decodes in mode k                                       (the paper's sums of y_m,i and y_s,i)

Maximise   Bundled:   sum w_i (z_ip - s_ip)                                   money when the answer is complete
           Separate:  sum c_p P_i z_ip + c_d D_i (z_ip - s_ip)                money at each stage

Subject to (1) sum_p z_ip <= Lambda_i                  who did not come is not served; the slack leaves or is refused
           (2) sum_i U_i z_ip = sum_k (C/t) f_kp       an iteration counts as mixed only if its chunk is filled
           (3) sum_i D_i (z_ip - s_ip) = sum_k y_kp/t  every decode step is taken by a sequence in some batch
           (4) y_kp <= b f_kp                          a batch holds no more sequences than its mode allows
           (5) sum_k f_kp <= n_p                       an engine is in one mode at a time
           (6) s_ip <= z_ip                            only who was prefilled can wait for a decode slot

Pools that are equal in all of this are one pool here (``groups``). The paper writes y per
class; only the sums enter its rows, so they are summed here and split again by the canonical
rule of ``decode``. q_p,i is the slack of (1) over theta_i. With theta_i = 0 the slack of (1) is
refused, and s_ip does not exist: who waits for ever is decoded in the end. In a bundled program
s_ip exists only where prefilling makes decode faster (gamma*tau < (B-1)/B in the paper, whose
Proposition 3.2 says the rest).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sluice.model.fleet import Charging
from sluice.planning.groups import PoolGroup, equal_pools
from sluice.planning.problem import ClassInput, Problem
from sluice.planning.program import Block, Indices, Program, ProgramBuilder, Vector

ADMISSION = "(1) admission"
PREFILL = "(2) prefill work"
DECODE = "(3) decode work"
SLOTS = "(4) slots"
REPLICAS = "(5) replicas"
WAITING = "(6) decode queue"


@dataclass(frozen=True, slots=True)
class ClassData:
    """The classes' numbers as arrays, one entry per class."""

    rate: Vector
    prompt: Vector
    uncached: Vector
    steps: Vector
    theta: Vector
    prompt_value: Vector
    """Money for a prefilled prompt."""
    output_value: Vector
    """Money for a decoded answer."""

    @classmethod
    def of(cls, classes: Sequence[ClassInput]) -> ClassData:
        """Gather the numbers of ``classes``."""
        table = np.array(
            [
                (
                    entry.rate,
                    entry.prompt_tokens,
                    entry.uncached_prompt_tokens,
                    entry.decode_steps,
                    entry.abandonment_rate,
                    entry.prompt_token_price * entry.prompt_tokens,
                    entry.output_token_price * entry.output_tokens,
                )
                for entry in classes
            ]
        ).T
        return cls(*np.ascontiguousarray(table))


@dataclass(frozen=True, slots=True)
class PoolColumns:
    """Where the variables and rows of one group of equal pools are in the program."""

    group: PoolGroup
    served: slice
    """z, one per admissible class."""
    waiting: slice
    """s, one per entry of ``waiting_classes``."""
    waiting_classes: Indices
    """Positions within the group's classes of those that have an s."""
    engines: slice
    """f, one per mode."""
    decodes: slice
    """y, one per mode."""
    prefill_row: int
    decode_row: int
    slots_rows: slice
    replicas_row: int


@dataclass(frozen=True, slots=True)
class Formulation:
    """A problem's program and the places of its parts."""

    problem: Problem
    data: ClassData
    program: Program
    pools: tuple[PoolColumns, ...]

    @property
    def admission(self) -> Block:
        """The rows (1), one per class."""
        return self.program.row_blocks[0]


def formulate(problem: Problem) -> Formulation:
    """The program of ``problem``, which must be free of faults."""
    data = ClassData.of(problem.classes)
    builder = ProgramBuilder()
    builder.rows(ADMISSION, [entry.name for entry in problem.classes], upper=data.rate)
    pools = tuple(_pool(builder, problem, data, group) for group in equal_pools(problem))
    return Formulation(problem, data, builder.build(), pools)


def _pool(builder: ProgramBuilder, problem: Problem, data: ClassData, pool: PoolGroup) -> PoolColumns:
    """Add one group's variables and rows."""
    member = pool.classes
    served = _served(builder, problem, data, pool)
    waiting, waiting_classes = _waiting(builder, problem, data, pool)
    labels = [f"{pool.name},{mode}" for mode in pool.modes]
    engines_scale = max(1.0, pool.replicas)
    engines = builder.columns("engines", labels, scale=engines_scale)
    most = max(mode.batch for mode in pool.modes)
    decodes = builder.columns("decodes", labels, scale=most * engines_scale)
    prefill_row = builder.rows(PREFILL, [pool.name], lower=0.0, upper=0.0)
    decode_row = builder.rows(DECODE, [pool.name], lower=0.0, upper=0.0)
    slots_rows = builder.rows(SLOTS, labels, upper=0.0)
    replicas_row = builder.rows(REPLICAS, [pool.name], upper=pool.replicas)

    columns = np.arange(served, served + len(member))
    builder.entries(member, columns, np.ones(len(member)))
    builder.entries(np.full(len(member), prefill_row), columns, data.uncached[member])
    builder.entries(np.full(len(member), decode_row), columns, data.steps[member])
    if len(waiting_classes):
        leaving = np.arange(waiting, waiting + len(waiting_classes))
        builder.entries(np.full(len(leaving), decode_row), leaving, -data.steps[member[waiting_classes]])
        rows = builder.rows(
            WAITING, [f"{problem.classes[i].name},{pool.name}" for i in member[waiting_classes]], upper=0.0
        )
        each = np.arange(rows, rows + len(leaving))
        builder.entries(each, leaving, np.ones(len(leaving)))
        builder.entries(each, columns[waiting_classes], -np.ones(len(leaving)))
    for k, mode in enumerate(pool.modes):
        builder.entry(prefill_row, engines + k, -mode.prefill_rate)
        builder.entry(decode_row, decodes + k, -1.0 / mode.seconds)
        builder.entry(slots_rows + k, decodes + k, 1.0)
        builder.entry(slots_rows + k, engines + k, -mode.batch)
        builder.entry(replicas_row, engines + k, 1.0)
    modes = len(pool.modes)
    return PoolColumns(
        group=pool,
        served=slice(served, served + len(member)),
        waiting=slice(waiting, waiting + len(waiting_classes)),
        waiting_classes=waiting_classes,
        engines=slice(engines, engines + modes),
        decodes=slice(decodes, decodes + modes),
        prefill_row=prefill_row,
        decode_row=decode_row,
        slots_rows=slice(slots_rows, slots_rows + modes),
        replicas_row=replicas_row,
    )


def _served(builder: ProgramBuilder, problem: Problem, data: ClassData, pool: PoolGroup) -> int:
    """Add z of one pool: scaled by the most requests/s the pool alone could take of each class."""
    member = pool.classes
    engines = max(1.0, pool.replicas)
    prefill = engines * max(mode.prefill_rate for mode in pool.modes)
    decode = engines * max(mode.decode_rate for mode in pool.modes)
    most = 1.0 / (data.uncached[member] / prefill + data.steps[member] / decode)
    return builder.columns(
        "served",
        [f"{problem.classes[i].name},{pool.name}" for i in member],
        objective=data.prompt_value[member] + data.output_value[member],
        scale=most,
    )


def _waiting(builder: ProgramBuilder, problem: Problem, data: ClassData, pool: PoolGroup) -> tuple[int, Indices]:
    """Add s of one pool where leaving the decode queue can be part of an optimum."""
    member = pool.classes
    boosted = _prefill_helps_decode(pool)
    if problem.charging is Charging.BUNDLED and not boosted:
        return 0, np.zeros(0, dtype=np.int64)
    patient = np.flatnonzero(data.theta[member] > 0)
    chosen = member[patient]
    lost = data.output_value[chosen]
    if problem.charging is Charging.BUNDLED:
        lost = lost + data.prompt_value[chosen]
    engines = max(1.0, pool.replicas)
    most = engines * max(mode.prefill_rate for mode in pool.modes)
    start = builder.columns(
        "leaving the decode queue",
        [f"{problem.classes[i].name},{pool.name}" for i in chosen],
        objective=-lost,
        scale=most / np.maximum(data.uncached[chosen], 1.0),
    )
    return start, patient


def _prefill_helps_decode(pool: PoolGroup) -> bool:
    """Whether some mixed mode decodes faster than every solo one (the paper's kappa < 0)."""
    solo = max((mode.decode_rate for mode in pool.modes if not mode.mixed), default=0.0)
    mixed = max((mode.decode_rate for mode in pool.modes if mode.mixed), default=0.0)
    return mixed > solo
