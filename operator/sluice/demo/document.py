"""The outcome as a document that programs compare: ``out/demo.json``. Pure."""

from __future__ import annotations

from typing import Any

from sluice.demo.record import Totals, quantile
from sluice.demo.run import Run
from sluice.demo.scene import Act
from sluice.demo.summary import Outcome, effective_share, predicted_value

Document = dict[str, Any]
SCHEMA_VERSION = "1"


def document(outcome: Outcome) -> Document:
    """Everything that the tables show, money in dollars per second, times in seconds."""
    scene = outcome.scene
    return {
        "schema_version": SCHEMA_VERSION,
        "seed": outcome.seed,
        "requests": len(outcome.runs[0].records) if outcome.runs else 0,
        "load_one": {service.name: outcome.unit_rate * service.share for service in scene.services},
        "acts": [
            {"name": span.act.name, "load": span.act.load, "start_seconds": span.start, "end_seconds": span.end}
            for span in scene.timetable
        ],
        "trusted": outcome.trusted,
        "claims": [{"name": claim.name, "holds": claim.holds, "text": claim.text} for claim in outcome.claims],
        "controls": {run.control.value: _run(run) for run in outcome.runs},
    }


def _run(run: Run) -> Document:
    busy = run.busyness
    result: Document = {
        "acts": {act.name: _part(run, act) for act in run.scene.acts},
        "whole_run": _part(run, None),
        "planned_value_per_second": predicted_value(run),
        "effective_share": effective_share(run),
        "processor_shares": run.processors,
        "busyness": {
            "trusted": busy.trusted,
            "sending_p99_late_seconds": busy.sending.quantile(0.99),
            "iterating_p99_late_seconds": busy.iterating.quantile(0.99),
            "load_average": busy.load_average,
        },
    }
    if run.gate is not None:
        reading = run.gate.reading
        result["gate"] = {
            "idle_while_waiting_seconds": reading.idle_while_waiting_seconds,
            "holding": reading.holding,
            "freed": dict(reading.freed),
            "bypassed": dict(reading.bypassed),
            "gone_while_held": dict(reading.gone),
            "plan_to_obedience_seconds": list(run.gate.obeyed_seconds),
        }
    return result


def _part(run: Run, act: Act | None) -> Document:
    return {
        "good_value_per_second": run.good_value(act),
        "value_per_second": run.value(act),
        "classes": {name: _totals(entry) for name, entry in run.totals(act).items()},
    }


def _totals(entry: Totals) -> Document:
    return {
        "sent": entry.sent,
        "done": entry.done,
        "kept": entry.good,
        "refused": entry.refused,
        "refused_by_reason": dict(entry.reasons),
        "left": entry.gone,
        "failed": entry.failed,
        "waited": entry.waited,
        "ttft_seconds": {"p50": entry.ttft(0.5), "p95": entry.ttft(0.95)},
        "waited_seconds": {"p50": quantile(entry.waited_seconds, 0.5), "p95": quantile(entry.waited_seconds, 0.95)},
        "tpot_seconds": entry.tpot_seconds,
    }
