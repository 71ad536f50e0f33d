"""What a fleet as a whole is promised, beside what is measured over all of its classes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.control.test_plan_told import FLEET, MODEST, NOW, PROFILE, Operator

from sluice.api.indicators import AttainmentStatus
from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.resolve import resolve
from sluice.api.validate import problems
from sluice.control import attainment
from sluice.control.account import Account
from sluice.control.metrics import Metrics
from sluice.control.ports import document
from sluice.control.report import report
from sluice.model.signal import Sample, Signal, Source
from sluice.model.snapshot import ClassSamples, Observation

Rates = tuple[float, float]
NOBODY = (0.0, 0.0)


def promised(**objective: Any) -> InferenceFleetResource:
    """The fleet with one objective."""
    whole = document(FLEET)
    return InferenceFleetResource.model_validate(whole | {"spec": whole["spec"] | {"objectives": [objective]}})


SERVED = promised(signal="ServedFraction", fractionPermille=600)
FAIR = promised(signal="ServedFractionFairness", differencePermille=250)
PROMPT = promised(signal="TPOT", targetMilliseconds=30)


def samples(rates: Rates | None, **more: float) -> ClassSamples:
    """Of a class that offers and is admitted so much; None: nobody measures it."""
    if rates is None:
        return ClassSamples()
    values = {Signal.OFFERED_RATE: rates[0], Signal.ADMITTED_RATE: rates[1]}
    values |= {Signal[name]: value for name, value in more.items()}
    return ClassSamples(
        samples={key: Sample(value=value, at_seconds=NOW, source=Source.ENVOY) for key, value in values.items()}
    )


def held(resource: InferenceFleetResource, long: ClassSamples, short: ClassSamples) -> AttainmentStatus:
    """The fleet's only objective, as told for two classes."""
    resolved = resolve(resource, [PROFILE], MODEST)
    assert resolved.fleet is not None
    (found,) = attainment.of_fleet(
        resolved.fleet, resolved.classes, Observation(classes={"long": long, "short": short})
    )
    return found


@pytest.mark.parametrize(
    ("resource", "long", "short", "measured", "verdict"),
    [
        pytest.param(SERVED, (4, 1), (6, 6), 0.7, "Held", id="seven of ten requests are served, six were promised"),
        pytest.param(SERVED, (4, 0), (6, 5), 0.5, "Missed", id="half of them are served"),
        pytest.param(SERVED, (4, 5), NOBODY, 1.0, "Held", id="two windows say that more were admitted than came"),
        pytest.param(SERVED, NOBODY, NOBODY, None, "Unknown", id="nobody came"),
        pytest.param(SERVED, (4, 4), None, None, "Unknown", id="one class is served in full and one is not measured"),
        pytest.param(FAIR, (4, 3), (6, 6), 0.25, "Held", id="shares differ by as much as they may"),
        pytest.param(FAIR, (4, 1), (6, 6), 0.75, "Missed", id="one class is served in full and one by a quarter"),
        pytest.param(FAIR, (4, 1), NOBODY, 0.0, "Held", id="who sends nothing is not treated badly"),
        pytest.param(FAIR, (4, 1), None, None, "Unknown", id="the share of one class is not measured"),
    ],
)
def test_shares_of_the_fleet(
    resource: InferenceFleetResource, long: Rates, short: Rates | None, measured: float | None, verdict: str
) -> None:
    found = held(resource, samples(long), samples(short))
    assert found.measured == (None if measured is None else pytest.approx(measured))
    assert found.held == verdict


@pytest.mark.parametrize(
    ("long", "short", "measured", "verdict"),
    [
        pytest.param(
            samples((2, 1), OUTPUT_TOKENS=300, TPOT=0.04),
            samples((2, 1), OUTPUT_TOKENS=100, TPOT=0.02),
            0.035,
            "Missed",
            id="three tokens of four are slow",
        ),
        pytest.param(
            samples((2, 2), OUTPUT_TOKENS=300, TPOT=0.04, COMPLETED_RATE=0.1),
            samples((2, 1), OUTPUT_TOKENS=100, TPOT=0.02, COMPLETED_RATE=0.9),
            0.025,
            "Held",
            id="answers that were completed count, where engines count them",
        ),
        pytest.param(
            samples(NOBODY),
            samples((2, 1), OUTPUT_TOKENS=100, TPOT=0.02),
            0.02,
            "Held",
            id="a class without traffic has no token time, and needs none",
        ),
        pytest.param(
            samples((2, 1), OUTPUT_TOKENS=300),
            samples((2, 1), OUTPUT_TOKENS=100, TPOT=0.02),
            None,
            "Unknown",
            id="the token time of a class with traffic is not measured",
        ),
        pytest.param(samples(NOBODY), samples(NOBODY), None, "Unknown", id="no tokens"),
    ],
)
def test_token_time_of_the_fleet_is_a_mean_over_tokens(
    long: ClassSamples, short: ClassSamples, measured: float | None, verdict: str
) -> None:
    found = held(PROMPT, long, short)
    assert found.measured == (None if measured is None else pytest.approx(measured))
    assert found.target == pytest.approx(0.03)
    assert found.held == verdict


@pytest.mark.parametrize(
    "objective",
    [
        pytest.param({"signal": "PrefillFairness", "differencePermille": 100}, id="prefills in service"),
        pytest.param({"signal": "DecodeFairness", "differencePermille": 100}, id="decodes beside no prefill"),
        pytest.param({"signal": "SlotWeightedTPOT", "targetMilliseconds": 30}, id="time over slots taken as full"),
        pytest.param(
            {"signal": "TPOT", "statistic": "WithinFraction", "targetMilliseconds": 30, "fractionPermille": 900},
            id="a share of tokens within a time",
        ),
    ],
)
def test_what_nothing_measures_is_unknown(objective: dict[str, Any]) -> None:
    busy = samples((2, 1), OUTPUT_TOKENS=100, TPOT=0.02)
    found = held(promised(**objective), busy, busy)
    assert (found.measured, found.held) == (None, "Unknown")
    assert found.target > 0


def test_it_is_told_in_the_fleets_status_and_as_metrics_and_stands_still_under_noise() -> None:
    operator = Operator(MODEST)
    decision = operator()

    def pass_over(resource: InferenceFleetResource, admitted: float) -> tuple[dict[str, Any], Any]:
        seen = {"long": samples((4, admitted)), "short": samples((4, admitted))}
        made = report(
            Account(
                key=("default", "fleet"), now=NOW, resource=resource, classes=MODEST, fleet=operator.resolved.fleet,
                workloads=operator.resolved.classes, decision=decision, observation=Observation(classes=seen),
            )
        )  # fmt: skip
        return document(made.statuses[0].status), made.figures

    told, figures = pass_over(FLEET, 3.0)
    assert told["attainment"] == [
        {"signal": "ServedFraction", "statistic": "Mean", "target": 0.1, "measured": 0.75, "held": "Held"}
    ]
    bearing = document(FLEET) | {"status": told}
    assert problems(bearing) == []
    labels = (("signal", "ServedFraction"), ("statistic", "Mean"))
    assert figures["sluice_fleet_sli_measured", labels] == pytest.approx(0.75)
    assert figures["sluice_fleet_sli_held", labels] == 1.0
    metrics = Metrics("test")
    metrics.show_fleet("default", "fleet", figures)
    assert b"sluice_fleet_sli_target" in metrics.exposition()
    again, _ = pass_over(InferenceFleetResource.model_validate(bearing), 3.05)
    assert again["attainment"] == told["attainment"]
    lower, _ = pass_over(InferenceFleetResource.model_validate(bearing), 0.2)
    assert lower["attainment"][0]["held"] == "Missed"
