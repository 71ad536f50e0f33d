"""What the gate and the data planes must agree on: headers, times, names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ENDPOINT_HEADER = "x-sluice-endpoint"
"""``address:port`` of the replica that the gate chose; the proxy obeys it. A client's copy is removed."""
WAITED_HEADER = "x-sluice-waited-ms"
"""How long a request waited at the gate, whole milliseconds; on the request, and copied to the answer."""
PLAN_HEADER = "x-sluice-plan"
"""Id of the plan a request was admitted under; on the request, and copied to the answer."""
REFUSED_HEADER = "x-sluice-refused"
"""Why a request was refused; only on the gate's own answers."""
REQUEST_ID_HEADER = "x-request-id"
"""Made by the proxy; what ``sluice explain`` takes. Copied to the answer."""
OWN_HEADERS = (ENDPOINT_HEADER, WAITED_HEADER, PLAN_HEADER)
"""Removed from what clients send before anything reads them."""

ROUTE_ATTRIBUTE = "xds.route_name"
"""The proxy's own word for the route that took a request: clients cannot write it."""
CLAIMS_NAMESPACE = "envoy.filters.http.jwt_authn"
"""Where the proxy keeps the claims of tokens it has verified: dynamic metadata."""
FILES_GATE_CLUSTER = "sluice-gate"
"""Envoy files: the cluster of the gate's process."""

REPORT_SECONDS = 0.05
"""Envoy gathers the ends of answers for so long before it reports them to the gate."""
REPORT_BYTES = 16_384
"""... or until they fill so much; what comes while the gate is away is dropped beyond that."""

LONGEST_WAIT_SECONDS = 60.0
"""No request waits longer at the gate, whatever its class says."""
MESSAGE_TIMEOUT_SECONDS = 90.0
"""How long a proxy waits for the gate's word: well above the longest wait, or the oldest requests would
pass ungated exactly at overload (Envoy's default is 0.2 s)."""
FENCE_FACTOR = 1.2
"""In-flight fence of a gated class, relative to the slots of the fleet: what holds when the gate is gone."""

GATE_PORT = 9002
"""Port of the gate's Service."""


class WhenLate(StrEnum):
    """What becomes of a request that can no longer keep its TTFT promise."""

    WAIT = "Wait"
    """It takes what would stand idle."""
    REFUSE = "Refuse"
    """It is refused at once, unless an engine is open to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueBounds:
    """What a class allows its queue; None: what whoever runs the gate allows."""

    max_waiting: int | None = None
    max_wait_seconds: float | None = None
    late: WhenLate = WhenLate.WAIT


NO_BOUNDS = QueueBounds()
"""A class that leaves its queue to whoever runs the gate."""


def gate_service(fleet: str) -> str:
    """The Service, in the fleet's namespace, at which proxies call the fleet's gate."""
    return f"{fleet}-gate"
