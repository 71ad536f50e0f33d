"""Random planning problems over all features, from a seed."""

from __future__ import annotations

import random
from dataclasses import replace

from sluice.model.fleet import Charging, ExternalPrices
from sluice.planning.modes import Mode
from sluice.planning.problem import ClassInput, PoolInput, Problem
from sluice.planning.promises import Promise, PromiseKind

STAYING = 0.4
"""Share of the instances in which requests stay on their replica somewhere."""
PAPER = (PromiseKind.PREFILL_FAIRNESS, PromiseKind.DECODE_FAIRNESS, PromiseKind.SLOT_TPOT)


def problem(seed: int) -> Problem:
    """One instance; the same seed gives the same instance on every machine."""
    draw = random.Random(seed)
    paper = draw.random() < 0.3
    classes = tuple(_class(draw, i) for i in range(draw.randint(1, 6)))
    pools = tuple(_pool(draw, k, law=paper) for k in range(draw.randint(1, 3)))
    if draw.random() < 0.2:
        pools = (*pools, _api(draw))
    if draw.random() < 0.25:
        pools = (*pools, replace(pools[0], name="twin", ready=draw.randint(1, 5)))
    names = [pool.name for pool in pools]
    classes = tuple(
        replace(entry, pools=tuple(draw.sample(names, draw.randint(1, len(names))))) if draw.random() < 0.3 else entry
        for entry in classes
    )
    return Problem(
        fleet="default/random",
        charging=draw.choice(list(Charging)),
        pools=pools,
        classes=classes,
        promises=tuple(_promises(draw, classes, pools, paper=paper)),
        charge_replicas=draw.random() < 0.2,
        caution=draw.choice([0.0, 0.5, 1.0]),
    )


def instance(seed: int) -> Problem:
    """One instance; in a part of them requests stay on the engine that prefilled them, in each pool by chance."""
    entry, draw = problem(seed), random.Random(f"{seed} stay")
    return staying(entry, draw) if draw.random() < STAYING else entry


def staying(entry: Problem, draw: random.Random) -> Problem:
    """``entry`` with pools where requests stay, at least one; there, memory and token times are often scarce."""
    own = [k for k, pool in enumerate(entry.pools) if pool.external is None]
    certain = draw.choice(own)
    pools = tuple(
        _staying(pool, entry.classes, draw) if k in own and (k == certain or draw.random() < 0.6) else pool
        for k, pool in enumerate(entry.pools)
    )
    promises = entry.promises
    if not any(promise.kind is PromiseKind.TPOT and promise.class_name is not None for promise in promises):
        seconds = [mode.seconds for mode in pools[certain].modes]
        for chosen in draw.sample(entry.classes, draw.choice([0, 0, 1, min(2, len(entry.classes))])):
            target = draw.uniform(min(seconds), max(seconds)) / chosen.tokens_per_step
            promises = (*promises, _promise(draw, PromiseKind.TPOT, target, chosen.name))
    return replace(entry, pools=pools, promises=promises)


def _staying(pool: PoolInput, classes: tuple[ClassInput, ...], draw: random.Random) -> PoolInput:
    memory = pool.kv_token_capacity
    if draw.random() < 0.8:
        # Near what full batches hold: far below it, decodes run alone in any case, and above it nothing binds.
        held = sum(entry.prompt_tokens + entry.output_tokens / 2 for entry in classes) / len(classes)
        memory = max(mode.batch for mode in pool.modes) * held * draw.uniform(0.3, 1.1)
    return replace(
        pool, decodes_move=False, kv_token_capacity=memory, transfer_seconds_per_token=0.0, transfer_cost_per_token=0.0
    )


def _class(draw: random.Random, i: int) -> ClassInput:
    prompt = draw.uniform(20, 4000)
    return ClassInput(
        name=f"class-{i}",
        rate=draw.choice([0.0, 1.0, 1.0, 1.0, 1.0, 50.0]) * draw.uniform(0.1, 6),
        prompt_tokens=prompt,
        uncached_prompt_tokens=prompt * draw.choice([1.0, 1.0, 0.5, 0.05]),
        output_tokens=draw.uniform(2, 2000),
        tokens_per_step=draw.choice([1.0, 1.0, 1.0, 2.5]),
        abandonment_rate=draw.choice([0.0, 0.02, 0.1, 1.0]),
        prompt_token_price=draw.uniform(0, 0.3),
        output_token_price=draw.uniform(0.01, 0.5),
        rate_spread=draw.choice([0.0, 0.0, 0.0, 0.3]),
    )


def _pool(draw: random.Random, k: int, *, law: bool) -> PoolInput:
    modes = _law(draw) if law or draw.random() < 0.5 else _table(draw)
    moves = draw.random() < 0.2
    return PoolInput(
        name=f"pool-{k}",
        ready=draw.randint(1, 6),
        engines_per_replica=draw.choice([1, 1, 2]),
        reserved=draw.choice([0.0, 0.0, 0.4]),
        modes=modes,
        cost_per_hour=draw.uniform(0, 4e5),
        kv_token_capacity=draw.choice([None, None, draw.uniform(5e3, 8e4)]),
        transfer_seconds_per_token=draw.uniform(0, 2e-4) if moves else 0.0,
        transfer_cost_per_token=draw.uniform(0, 0.02) if moves else 0.0,
    )


def _law(draw: random.Random) -> tuple[Mode, ...]:
    """Two modes; one in five decodes faster beside a prefill than alone (kappa < 0)."""
    batch, solo = draw.choice([4, 16, 64]), draw.uniform(0.01, 0.05)
    mixed = solo * (draw.uniform(0.7, 1.0) if draw.random() < 0.2 else draw.uniform(1.0, 3.0))
    return Mode(draw.choice([128, 256, 512]), batch - 1, mixed), Mode(0, batch, solo)


def _table(draw: random.Random) -> tuple[Mode, ...]:
    base, each, token = draw.uniform(0.005, 0.03), draw.uniform(0, 3e-4), draw.uniform(1e-5, 3e-4)
    return tuple(
        Mode(chunk, batch, (base + each * batch + token * max(0, chunk - 60)) * draw.uniform(0.9, 1.1))
        for chunk in (0, 128, 512)
        for batch in (0, 8, 32)
        if chunk + batch > 0
    )


def _api(draw: random.Random) -> PoolInput:
    return PoolInput(
        name="api",
        ready=0,
        modes=(),
        external=ExternalPrices(
            prompt_token_cost=draw.uniform(0, 0.4),
            output_token_cost=draw.uniform(0.01, 0.6),
            first_token_seconds=draw.uniform(0, 2),
            token_seconds=draw.choice([None, draw.uniform(0.005, 0.1)]),
        ),
    )


def _promises(
    draw: random.Random, classes: tuple[ClassInput, ...], pools: tuple[PoolInput, ...], *, paper: bool
) -> list[Promise]:
    found: list[Promise] = []
    for entry in classes:
        for kind, low, high in (
            (PromiseKind.WAIT, 0.2, 20.0),
            (PromiseKind.TTFT, 0.3, 20.0),
            (PromiseKind.TPOT, 0.02, 0.2),
            (PromiseKind.SERVED, 0.0, 0.6),
            (PromiseKind.GUARANTEED, 0.0, 0.3),
        ):
            if draw.random() < 0.08:
                found.append(_promise(draw, kind, draw.uniform(low, high), entry.name))
    for kind, low, high in (
        (PromiseKind.TPOT, 0.02, 0.2),
        (PromiseKind.SERVED, 0.0, 0.5),
        (PromiseKind.SERVED_FAIRNESS, 0.2, 1.0),
    ):
        if draw.random() < 0.1:
            found.append(_promise(draw, kind, draw.uniform(low, high), None))
    if paper and draw.random() < 0.6:
        own = {pool.modes for pool in pools if pool.external is None}
        kind = draw.choice(PAPER)
        target = draw.uniform(0.02, 0.06) if kind is PromiseKind.SLOT_TPOT else draw.uniform(0.0, 0.3)
        promise = _promise(draw, kind, target, None)
        alone = kind is not PromiseKind.SLOT_TPOT or promise.hard or (len(own) == 1 and len(pools) == 1)
        found += [promise] if alone else []
    return found


def _promise(draw: random.Random, kind: PromiseKind, target: float, name: str | None) -> Promise:
    hard = draw.random() < 0.5
    fraction = draw.choice([1.0, 0.9]) if kind in {PromiseKind.WAIT, PromiseKind.TTFT} else 1.0
    penalty = 0.0 if hard else 10 ** draw.uniform(-1, 3)
    return Promise(
        kind=kind, class_name=name, target=target, fraction=fraction, hard=hard, penalty=penalty,
        importance=draw.randint(1, 3),
    )  # fmt: skip
