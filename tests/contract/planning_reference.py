"""The same question to another solver, stated another way, in a process of its own.

Reads problems (JSON, one per line) from standard input and writes the best value of each, or null
where nothing is feasible. A problem may come with ``paces``: per pool the most seconds that a decode
step may take on average where requests stay on the engine that prefilled them, null where decodes
are placed freely. Given the paces the question is linear.

Written from the model alone and shares no code with the planner: every class keeps its own x, y and q
as in the paper, prefills are dealt to single modes, and HiGHS solves. It must not share a process with
the planner: HiGHS and OR-Tools cannot be imported together.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_matrix

Terms = dict[int, float]
Json = dict[str, Any]


class Builder:
    """Rows and columns of one linear program, term by term."""

    def __init__(self) -> None:
        self.cost: list[float] = []
        self.top: list[float] = []
        self.equal: list[tuple[Terms, float]] = []
        self.less: list[tuple[Terms, float]] = []

    def column(self, value: float = 0.0, top: float = math.inf) -> int:
        self.cost.append(-value)
        self.top.append(top)
        return len(self.cost) - 1

    def equals(self, terms: Terms, right: float) -> None:
        self.equal.append((terms, right))

    def at_most(self, terms: Terms, right: float) -> None:
        self.less.append((terms, right))

    def solve(self) -> float | None:
        def matrix(rows: list[tuple[Terms, float]]) -> tuple[coo_matrix | None, np.ndarray | None]:
            if not rows:
                return None, None
            # Rows of order one: the solver's tolerance is absolute.
            size = [max([abs(v) for v in terms.values()] or [1.0]) or 1.0 for terms, _ in rows]
            entries = [(r, c, v / size[r]) for r, (terms, _) in enumerate(rows) for c, v in terms.items()]
            where = np.array([(r, c) for r, c, _ in entries]).T.reshape(2, -1)
            data = np.array([v for _, _, v in entries])
            shape = (len(rows), len(self.cost))
            return coo_matrix((data, where), shape=shape), np.array(
                [b / s for (_, b), s in zip(rows, size, strict=True)]
            )

        a_eq, b_eq = matrix(self.equal)
        a_ub, b_ub = matrix(self.less)
        scale = max(abs(c) for c in self.cost) or 1.0
        answer = linprog(
            np.array(self.cost) / scale,
            A_ub=a_ub, b_ub=b_ub, A_eq=a_eq, b_eq=b_eq,
            bounds=[(0, top if math.isfinite(top) else None) for top in self.top],
            method="highs",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )  # fmt: skip
        if answer.status == 2:
            return None
        if answer.status != 0:
            raise RuntimeError(f"HiGHS: {answer.message}")
        return float(-answer.fun * scale)


def added(*parts: tuple[Terms, float]) -> Terms:
    total: Terms = {}
    for terms, weight in parts:
        for column, value in terms.items():
            total[column] = total.get(column, 0.0) + weight * value
    return total


class Model:
    """One problem as the paper writes it, for several pools."""

    def __init__(self, problem: Json) -> None:
        self.problem, self.b = problem, Builder()
        self.classes, self.pools = problem["classes"], problem["pools"]
        self.promises = problem["promises"]
        self.z: dict[tuple[int, int], Terms] = {}
        self.done: dict[tuple[int, int], Terms] = {}
        self.x: dict[tuple[int, int], Terms] = {}
        self.y: dict[tuple[int, int, int], int] = {}
        self.f: dict[tuple[int, int], int] = {}
        self.x_of_mode: dict[tuple[int, int], list[int]] = {}
        self.slots: dict[tuple[int, int], Terms] = {}
        self.paces: list[float | None] = problem.get("paces") or [None] * len(self.pools)
        self.occupied: dict[tuple[int, int], Terms] = {}
        self.iterated: dict[int, Terms] = {}
        self.memory: dict[int, Terms] = {}
        self.all_on = any(p["kind"] == "slot-tpot" for p in self.promises)
        for i, entry in enumerate(self.classes):
            entry["theta"], entry["steps"] = (
                entry["abandonment_rate"],
                entry["output_tokens"] / entry["tokens_per_step"],
            )
            entry["allowed"] = [
                p for p, pool in enumerate(self.pools) if not entry["pools"] or pool["name"] in entry["pools"]
            ]
            entry["index"] = i
        for pool in self.pools:
            pool["n"] = max(0.0, pool["ready"] * pool["engines_per_replica"] - pool["reserved"])
        self._objective_and_flows()
        self._capacity()
        self._arrivals()
        for promise in self.promises:
            self._promise(promise)

    def _queue_forbidden(self, entry: Json) -> bool:
        return entry["theta"] == 0 or any(
            p["kind"] in {"prefill-fairness", "decode-fairness", "slot-tpot"}
            or (p["kind"] in {"wait", "ttft"} and p["class_name"] == entry["name"])
            for p in self.promises
        )

    def _prefill_time(self, entry: Json, pool: Json) -> float:
        if pool["external"]:
            return float(pool["external"]["first_token_seconds"])
        mode = max(pool["modes"], key=lambda m: m["chunk_tokens"] / m["seconds"])
        chunks = max(1, math.ceil(entry["uncached_prompt_tokens"] / mode["chunk_tokens"]))
        return float(chunks * mode["seconds"])

    def _closed(self, entry: Json, p: int) -> bool:
        for promise in self.promises:
            if promise["kind"] == "ttft" and promise["hard"] and promise["class_name"] == entry["name"]:
                times = [self._prefill_time(entry, self.pools[q]) for q in entry["allowed"]]
                if self._prefill_time(entry, self.pools[p]) > max(promise["target"], min(times)):
                    return True
        return False

    def _objective_and_flows(self) -> None:
        separate = self.problem["charging"] == "Separate"
        for entry in self.classes:
            i = entry["index"]
            prompt = entry["prompt_token_price"] * entry["prompt_tokens"]
            output = entry["output_token_price"] * entry["output_tokens"]
            for p in entry["allowed"]:
                pool, top = self.pools[p], 0.0 if self._closed(entry, p) else math.inf
                if pool["external"]:
                    cost = (
                        pool["external"]["prompt_token_cost"] * entry["prompt_tokens"]
                        + pool["external"]["output_token_cost"] * entry["output_tokens"]
                    )
                    self.z[i, p] = self.done[i, p] = {self.b.column(prompt + output - cost, top): 1.0}
                    continue
                z = self.b.column(prompt if separate else 0.0, top)
                done = self.b.column(output if separate else prompt + output)
                queue = self.b.column(top=0.0 if self._queue_forbidden(entry) else math.inf)
                self.z[i, p], self.done[i, p] = {z: 1.0}, {done: 1.0}
                self.b.equals({z: 1.0, done: -1.0, queue: -(entry["theta"] or 1.0)}, 0.0)
                self._own_service(entry, p, pool, z, done, queue)

    def _own_service(self, entry: Json, p: int, pool: Json, z: int, done: int, queue: int) -> None:
        """X and y of one class in one pool: mu_p x = z, mu_m y_m + mu_s y_s = done."""
        i = entry["index"]
        prefill: Terms = {z: -entry["uncached_prompt_tokens"]}
        self.x[i, p] = {}
        for k, mode in enumerate(pool["modes"]):
            if mode["chunk_tokens"] > 0:
                x = self.b.column()
                prefill[x] = mode["chunk_tokens"] / mode["seconds"]
                self.x[i, p][x] = 1.0
                self.x_of_mode.setdefault((p, k), []).append(x)
        self.b.equals(prefill, 0.0)
        if pool["kv_token_capacity"] is not None:
            best = max(m["chunk_tokens"] / m["seconds"] for m in pool["modes"])
            stay = entry["uncached_prompt_tokens"] / best
            memory = self.memory.setdefault(p, {})
            memory[z] = stay * (entry["prompt_tokens"] - entry["uncached_prompt_tokens"] / 2)
            memory[queue] = entry["prompt_tokens"]
        if self.paces[p] is None:
            self._placed_decodes(entry, p, pool, done)
        else:
            self._shared_decodes(entry, p, pool, done, self.paces[p] or 0.0)

    def _placed_decodes(self, entry: Json, p: int, pool: Json, done: int) -> None:
        """Decodes that go where the program wants them: y of each class and mode."""
        i = entry["index"]
        decode: Terms = {done: -entry["steps"]}
        self.occupied[i, p] = {}
        for k, mode in enumerate(pool["modes"]):
            moved = 0.0 if mode["chunk_tokens"] > 0 else entry["prompt_tokens"] / mode["seconds"] / entry["steps"]
            y = self.b.column(-pool["transfer_cost_per_token"] * moved)
            self.y[i, p, k] = y
            self.occupied[i, p][y] = 1.0
            decode[y] = 1.0 / mode["seconds"]
            self.slots.setdefault((p, k), {})[y] = 1.0 + pool["transfer_seconds_per_token"] * moved
            if pool["kv_token_capacity"] is not None:
                held = pool["transfer_seconds_per_token"] * moved
                self.memory[p][y] = entry["prompt_tokens"] + entry["output_tokens"] / 2 + held * entry["prompt_tokens"]
        self.b.equals(decode, 0.0)

    def _shared_decodes(self, entry: Json, p: int, pool: Json, done: int, pace: float) -> None:
        """Little's law at the pool's time per step, the same for every class: jobs = steps/s times seconds."""
        jobs = self.b.column()
        self.b.equals({jobs: 1.0, done: -pace * entry["steps"]}, 0.0)
        self.occupied[entry["index"], p] = {jobs: 1.0}
        if pool["kv_token_capacity"] is not None:
            self.memory[p][jobs] = entry["prompt_tokens"] + entry["output_tokens"] / 2

    def _shared_iterations(self, p: int, pool: Json, pace: float) -> None:
        """One batch of all classes per engine: its iterations take every step, in at most ``pace`` on average."""
        steps = added(*((self.done[c["index"], p], -c["steps"]) for c in self.classes if p in c["allowed"]))
        time = {column: pace * amount for column, amount in steps.items()}
        self.iterated[p] = {}
        for k, mode in enumerate(pool["modes"]):
            jobs = self.b.column()
            self.slots[p, k] = {jobs: 1.0}
            steps[jobs] = 1.0 / mode["seconds"]
            time[jobs] = self.iterated[p][jobs] = 1.0
        self.b.equals(steps, 0.0)
        self.b.at_most(time, 0.0)

    def _capacity(self) -> None:
        for p, pool in enumerate(self.pools):
            if pool["external"]:
                continue
            if (pace := self.paces[p]) is not None:
                self._shared_iterations(p, pool, pace)
            cost = (
                pool["cost_per_hour"] / 3600 / pool["engines_per_replica"] if self.problem["charge_replicas"] else 0.0
            )
            for k, mode in enumerate(pool["modes"]):
                self.f[p, k] = self.b.column(-cost)
                if mode["chunk_tokens"] > 0:
                    self.b.equals({self.f[p, k]: -1.0, **dict.fromkeys(self.x_of_mode.get((p, k), []), 1.0)}, 0.0)
                self.b.at_most({self.f[p, k]: -mode["batch"], **self.slots.get((p, k), {})}, 0.0)
            time = {self.f[p, k]: 1.0 for k in range(len(pool["modes"]))}
            (self.b.equals if self.all_on else self.b.at_most)(time, pool["n"])
            if pool["kv_token_capacity"] is not None:
                self.b.at_most(self.memory.get(p, {}), pool["n"] * pool["kv_token_capacity"])

    def _arrivals(self) -> None:
        """Lambda - theta q_p = z; with theta = 0 the slack is refused."""
        for entry in self.classes:
            total = added(*((self.z[entry["index"], p], 1.0) for p in entry["allowed"]))
            low, high = (entry["rate"] * (1 + s * entry["rate_spread"]) for s in (-1, 1))
            if entry["rate_spread"] == 0:
                gone = self.b.column()
                total[gone] = entry["theta"] or 1.0
                self.b.equals(total, entry["rate"])
                continue
            # Expected value over (1 - caution) x estimate and caution x low end, of what is reserved.
            worth = (
                entry["prompt_token_price"] * entry["prompt_tokens"]
                + entry["output_token_price"] * entry["output_tokens"]
            )
            over_low, over_estimate = self.b.column(-self.problem["caution"] * worth), self.b.column(-worth)
            self.b.at_most({over_low: 1.0}, entry["rate"] - low)
            self.b.at_most({over_estimate: 1.0}, high - entry["rate"])
            total[over_low] = total[over_estimate] = -1.0
            self.b.at_most(total, low)

    def _soft(self, promise: Json) -> int | None:
        return None if promise["hard"] else self.b.column(-promise["penalty"])

    def _promise(self, promise: Json) -> None:
        kinds: dict[str, Callable[[Json], None]] = {
            "wait": self._first_token, "ttft": self._first_token, "tpot": self._token_time,
            "served": self._share, "guaranteed": self._share, "slot-tpot": self._slot_time,
        }  # fmt: skip
        kinds.get(promise["kind"], self._fair)(promise)

    def _members(self, promise: Json) -> list[Json]:
        return [c for c in self.classes if promise["class_name"] in {None, c["name"]}]

    def _first_token(self, promise: Json) -> None:
        (entry,) = self._members(promise)
        i, theta = entry["index"], entry["theta"]
        demand = entry["rate"] * (1 + entry["rate_spread"]) * promise["fraction"]
        waits = promise["kind"] == "wait"
        own = {p: 0.0 if waits else self._prefill_time(entry, self.pools[p]) for p in entry["allowed"]}
        target = promise["target"] if waits else max(promise["target"], min(own.values()))
        if theta == 0 or demand == 0 or math.exp(-theta * target) < 1e-12:
            return
        row = added(*((self.z[i, p], -math.exp(-theta * own[p])) for p in entry["allowed"]))
        slack = self._soft(promise)
        if slack is not None:
            row[slack] = -theta * demand * math.exp(-theta * target)
            for p in entry["allowed"]:
                for column in self.z[i, p] if own[p] > target else ():
                    self.b.cost[column] += promise["penalty"] * (own[p] - target) / demand
        self.b.at_most(row, -demand * math.exp(-theta * target))

    def _token_time(self, promise: Json) -> None:
        members = self._members(promise)
        row: Terms = {}
        for entry in members:
            for p in entry["allowed"]:
                external = self.pools[p]["external"]
                if external is None:
                    row |= self._slot_seconds(entry["index"], p, whole=promise["class_name"] is None)
                elif external["token_seconds"] is None:
                    continue
                own = 0.0 if external is None else external["token_seconds"]
                weight = (own - promise["target"]) * entry["output_tokens"]
                row = added((row, 1.0), (self.done[entry["index"], p], weight))
        if (slack := self._soft(promise)) is not None:
            row[slack] = -max(sum(c["output_tokens"] * c["rate"] * (1 + c["rate_spread"]) for c in members), 1e-9)
        self.b.at_most(row, 0.0)

    def _slot_seconds(self, i: int, p: int, *, whole: bool) -> Terms:
        """Jobs that decode: of a class, or of a pool where all are asked for and they share its iterations."""
        return self.iterated[p] if whole and self.paces[p] is not None else self.occupied[i, p]

    def _share(self, promise: Json) -> None:
        members = self._members(promise)
        demand = sum(c["rate"] * (1 + c["rate_spread"]) for c in members)
        if demand == 0:
            return
        row = added(*((self.done[c["index"], p], -1.0) for c in members for p in c["allowed"]))
        if (slack := self._soft(promise)) is not None:
            row[slack] = -demand
        self.b.at_most(row, -promise["target"] * demand)

    def _fair(self, promise: Json) -> None:
        """Every pair of classes: no auxiliary bounds, the definition itself."""
        engines = max(sum(pool["n"] for pool in self.pools if not pool["external"]), 1e-9)
        shares: list[Terms] = []
        for entry in self.classes:
            i = entry["index"]
            own = [p for p in entry["allowed"] if not self.pools[p]["external"]]
            if promise["kind"] == "served-fairness":
                if entry["rate"] == 0:
                    continue
                shares.append(added(*((self.done[i, p], 1 / entry["rate"]) for p in entry["allowed"])))
            elif promise["kind"] == "prefill-fairness":
                shares.append(added(*((self.x[i, p], 1 / engines) for p in own)))
            else:
                solo = [(p, k) for p in own for k, m in enumerate(self.pools[p]["modes"]) if m["chunk_tokens"] == 0]
                shares.append({self.y[i, p, k]: 1 / engines for p, k in solo})
        slack = self._soft(promise)
        for a, mine in enumerate(shares):
            for b, other in enumerate(shares):
                if a != b:
                    row = added((mine, 1.0), (other, -1.0))
                    if slack is not None:
                        row[slack] = -1.0
                    self.b.at_most(row, promise["target"])

    def _slot_time(self, promise: Json) -> None:
        own = [(p, k, mode) for p, pool in enumerate(self.pools) for k, mode in enumerate(pool["modes"])]
        if promise["hard"]:
            self.b.at_most({self.f[p, k]: m["batch"] * (m["seconds"] - promise["target"]) for p, k, m in own}, 0.0)
            return
        slack = self.b.column(-promise["penalty"])
        (p,) = {p for p, _, _ in own}
        n = self.pools[p]["n"]
        (k, mixed), (_, solo) = ((k, m) for _, k, m in sorted(own, key=lambda e: -e[2]["chunk_tokens"]))
        for share in np.linspace(0, 1, 4001).tolist():
            slots = mixed["batch"] * share + solo["batch"] * (1 - share)
            busy = mixed["batch"] * mixed["seconds"], solo["batch"] * solo["seconds"]
            ratio = (busy[0] * share + busy[1] * (1 - share)) / slots
            slope = (busy[0] - busy[1] - ratio * (mixed["batch"] - solo["batch"])) / slots
            self.b.at_most({self.f[p, k]: slope / n, slack: -1.0}, promise["target"] - ratio + slope * share)


def main() -> None:
    """Answer every problem on standard input."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(Model(json.loads(line)).b.solve()) + "\n")


if __name__ == "__main__":
    main()
