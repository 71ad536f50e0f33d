"""How well the engine's law fits end-to-end measurements: Splitwise's prompt and token times.

Source: Mutinifni/splitwise-sim data/perf_model.csv (MIT). Rows of power-capped GPUs are
derived and TP2 at batch 64 ran out of memory, so both are left out. The law is
``c0 + c1*batch`` for decode and ``m + a*tokens`` for a prompt above the knee, fitted with
relative weights to the medians.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np

from sluice.simulation.claims import Table

PROMPT_SIZE = 512
"""Prompt length at which decode times over the batch are compared."""


def law_errors(path: Path) -> Table:
    """Mean and largest absolute relative error of the fitted law, per model, GPU and parallelism."""
    prompts, tokens = _medians(path)
    rows = []
    for key in sorted(prompts):
        decode_mean, decode_worst = _errors(*_line(tokens[key]))
        above_knee = {size: value for size, value in prompts[key].items() if size >= PROMPT_SIZE}
        prompt_mean, prompt_worst = _errors(*_line(above_knee))
        rows.append((" ".join(key), decode_mean, decode_worst, prompt_mean, prompt_worst))
    return Table(
        title="Error of the fitted law against end-to-end measurements (Splitwise)",
        columns=("set-up", "decode mean", "decode worst", "prompt mean", "prompt worst"),
        rows=tuple(rows),
        note=f"decode over batch 1..64 at prompts of {PROMPT_SIZE}; prompts of {PROMPT_SIZE} tokens and more, batch 1",
    )


Key = tuple[str, str, str]
Curve = dict[float, float]


def _medians(path: Path) -> tuple[dict[Key, Curve], dict[Key, Curve]]:
    """Median prompt milliseconds over the prompt size, and token milliseconds over the batch."""
    prompts: dict[Key, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    tokens: dict[Key, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if "pcap" in row["hardware"] or (row["tensor_parallel"] == "2" and row["batch_size"] == "64"):
                continue
            key = (row["model"], row["hardware"], f"TP{row['tensor_parallel']}")
            if row["batch_size"] == "1":
                prompts[key][float(row["prompt_size"])].append(float(row["prompt_time"]))
            if row["prompt_size"] == str(PROMPT_SIZE):
                tokens[key][float(row["batch_size"])].append(float(row["token_time"]))
    return _each(prompts), _each(tokens)


def _each(samples: dict[Key, dict[float, list[float]]]) -> dict[Key, Curve]:
    return {key: {x: median(values) for x, values in curve.items()} for key, curve in samples.items()}


def _line(curve: Curve) -> tuple[list[float], list[float]]:
    """Measured values, and the straight line fitted to them with relative weights."""
    x, y = np.array(list(curve)), np.array(list(curve.values()))
    slope, base = np.polyfit(x, y, 1, w=1.0 / y)
    return y.tolist(), (base + slope * x).tolist()


def _errors(measured: list[float], fitted: list[float]) -> tuple[float, float]:
    relative = [abs(f / m - 1.0) for m, f in zip(measured, fitted, strict=True)]
    return float(np.mean(relative)), max(relative)
