"""States the linear program of one problem and builds it.

Problem    How many requests of each class each pool should serve, and how its engines should
           spend their time, so that the fleet earns the most money per second in steady state.
           The fluid program of arXiv 2602.02987, equations (40), (42) and (49), for several pools.

Data       Lambda_i   offered rate of class i, requests/s       theta_i  abandonment rate, 1/s
           U_i, P_i   prompt tokens to compute, to be paid for  D_i      decode steps (tokens / tokens per step)
           O_i        output tokens                             w_i      money for prompt and output, c_p P + c_d O
           n_p        engines of pool p                         K_p      KV tokens of one engine
           h_p, m_p   seconds and money to move one token of a KV cache to a solo slot, 0 where nothing is moved
           (C, b, t)  modes k of pool p: chunk tokens, decoding sequences, seconds of an iteration.
                      The paper's pool has two: mixed (C, B-1, tau) and solo (0, B, 1/gamma).
           An external API is a pool with z alone: no modes, no rows (2)-(7), a cost per token.

Variables  z_ip >= 0  requests/s of class i prefilled in pool p               (the paper's mu_p,i x_i)
           s_ip >= 0  requests/s that leave the decode queue unserved         (theta_i q_d,i)
           f_kp >= 0  engines in mode k                                       (mixed: the paper's sum of x_i)
           y_gk >= 0  decodes in mode k of batch group g                      (sums of the paper's y_m,i and y_s,i)

Maximise   Bundled:   sum w_i (z_ip - s_ip)                                   money when the answer is complete
           Separate:  sum c_p P_i z_ip + c_d O_i (z_ip - s_ip)                money at each stage
           less what an external API, moved KV caches, soft promises and, if asked, engines in use cost

Subject to (1) sum_p z_ip <= Lambda_i                  who did not come is not served; the slack leaves or is refused
           (2) sum_i U_i z_ip = sum_k (C/t) f_kp       an iteration counts as mixed only if its chunk is filled
           (3) sum_{i in g} D_i (z_ip - s_ip) = sum_k y_gk/t  every decode step is taken in some batch, one row per g
           (4) sum_g (1 + a_gk) y_gk <= b f_kp         a batch holds no more sequences than its mode allows, one per k
           (5) sum_k f_kp <= n_p                       an engine is in one mode at a time (= with (15): all are on)
           (6) s_ip <= z_ip                            only who was prefilled can wait for a decode slot
           (7) sum_i U/r (P - U/2) z_ip + P/theta s_ip + sum_k (P + O/2 + a P) y_ik <= n_p K_p
                                                       prompt and output stay in memory: half the own tokens on average
                                                       while they are computed or produced, r = max C/t tokens/s
           (8) first token, (9) (10) token time, (11) served share, (12)-(14) fairness, (15) slot time:
                                                       what was promised, see ``promise_rows``

The paper writes y per class; as long as nothing tells classes in a batch apart, only the sums
enter its rows, so one group g holds all classes and the split is the canonical one of ``decode``.
Where KV memory, the cost of moving it or a promise on one class's decode does tell them apart,
every class is its own group. a is 0 in a mixed mode; in a solo one it is h_p P_i/(t D_i), the slots
held per decode while KV caches move to them, and m_p P_i/(t D_i) is what the moves cost.

With a group per class the program may let one class decode beside prefills and another on solo
engines. Where requests move after their prefill a router can do that. Where they stay, all
sequences of an engine share its iterations, so every class of pool p takes the same time T_p per
step, and (7) and (10) would be planned at best. Where that matters (``pace``), the group is one and
           (16) sum_k y_k <= T_p sum_i D_i (z_ip - s_ip)      on average nobody's step takes longer than T_p
with sum_i T_p D_i (z_ip - s_ip) in place of the y_ik of (7) and (10), for the best T_p found. Only
(14), which is the paper's and presumes a router, is always planned as if decodes moved.

q_p,i is the slack of (1) over theta_i. With theta_i = 0 the slack of (1) is refused, and s_ip does
not exist: who waits for ever is decoded in the end. In a bundled program s_ip exists only where
prefilling for nothing could help decode (the paper's Proposition 3.2 excludes it for gamma*tau >=
(B-1)/B). It never exists for a class with a wait or TTFT promise, which would be prefilled in time and
dropped, nor beside (13)-(15), which the paper defines with q_d = 0.

Where rates are uncertain, Lambda_i in (1) grows by two columns: up to the estimate each request
earns 1 - caution of its value above the low end of the box and nothing above the estimate, so the
plan reserves for more only what promises demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sluice.planning.class_data import ClassData
from sluice.planning.groups import PoolGroup, equal_pools
from sluice.planning.pool_rows import PoolColumns, add_pool
from sluice.planning.problem import Problem
from sluice.planning.program import Block, Program, ProgramBuilder
from sluice.planning.promise_place import PromiseRow
from sluice.planning.promise_rows import add_promises, needs_batches_of_their_own, too_slow

ADMISSION = "(1) admission"

__all__ = ["ADMISSION", "ClassData", "Formulation", "PoolColumns", "PoolGroup", "formulate"]


@dataclass(frozen=True, slots=True)
class Formulation:
    """A problem's program and the places of its parts."""

    problem: Problem
    data: ClassData
    program: Program
    pools: tuple[PoolColumns, ...]
    promises: tuple[PromiseRow, ...]

    @property
    def paces(self) -> tuple[float | None, ...]:
        """Seconds per decode step that each group of pools is tied to; None where decodes are placed freely."""
        return tuple(columns.pace for columns in self.pools)

    @property
    def admission(self) -> Block:
        """The rows (1), one per class."""
        return self.program.row_blocks[0]


def formulate(
    problem: Problem,
    *,
    elastic: bool = False,
    cuts: Sequence[float] = (),
    paces: Sequence[float | None] = (),
) -> Formulation:
    """The program of ``problem``, which must be free of faults.

    ``elastic`` gives every hard promise a slack in its own unit, without a price; ``cuts`` are the
    mixed shares at which the convex penalty (48) is supported; ``paces`` tie the decodes of a group
    of pools to one time per step (``pace``).
    """
    data = ClassData.of(problem.classes)
    builder = ProgramBuilder()
    names = [entry.name for entry in problem.classes]
    builder.rows(ADMISSION, names, upper=data.rate if data.certain else data.rate * (1 - data.spread))
    if not data.certain:
        _uncertain(builder, problem, data)
    split = needs_batches_of_their_own(problem)
    groups = equal_pools(problem)
    banned = too_slow(problem, groups)
    pools = tuple(
        add_pool(builder, problem, data, group, split=split, banned=slow, pace=pace)
        for group, slow, pace in zip(groups, banned, paces or [None] * len(groups), strict=True)
    )
    promises = add_promises(builder, problem, data, pools, elastic=elastic, cuts=cuts)
    return Formulation(problem, data, builder.build(), pools, promises)


def _uncertain(builder: ProgramBuilder, problem: Problem, data: ClassData) -> None:
    """Add the two columns that widen (1): from the low end of the box to the estimate, and to the high end."""
    places = np.flatnonzero(data.spread)
    labels = [problem.classes[i].name for i in places]
    width = data.rate[places] * data.spread[places]
    value = data.prompt_value[places] + data.output_value[places]
    for name, lost in (("up to the estimate", problem.caution), ("above the estimate", 1.0)):
        start = builder.columns(name, labels, objective=-lost * value, upper=width, scale=np.maximum(width, 1e-9))
        builder.entries(places.tolist(), range(start, start + len(places)), -1.0)
