"""The gate as Envoy Gateway calls it: one EnvoyExtensionPolicy per class. Pure.

The policy targets the class's rule by name. Its message time-out stands well above the longest
wait: the default of 200 ms would let everything pass exactly at overload. Envoy Gateway gives the
processor's cluster thresholds of 1024, after which the next waiting request would pass ungated;
they are written as wide as the fields. A gate that is gone lets everything pass (``failOpen``).

One that is frozen is noticed within two seconds by HTTP/2 pings (Envoy Gateway 1.8 or later): what
waits then passes, and what comes new passes two seconds later, until a liveness probe ends it.

No health check stands beside them. Envoy checks a cluster that has had no traffic but once a minute
(``no_traffic_interval``, which Envoy Gateway does not let us set), and every class's processor is a
cluster of its own: where a gate was slow to answer the first check, its new class passed ungated for
that minute. And a health check ends no stream that is open.

With ``response`` in the processing mode Envoy Gateway sends response headers too: one round trip
more than in the Envoy files, which the gate uses to write how long the request waited.

A client's own copies of our headers are removed by the gate. While it is gone they pass; where
clients are not trusted, remove them at the edge too: ClientTrafficPolicy
``headers.earlyRequestHeaders.remove``, which is the Gateway owner's.

Reference: https://gateway.envoyproxy.io/docs/api/extension_types/#envoyextensionpolicy
"""

from __future__ import annotations

from sluice.actuate.envoy_gate import needs_claims
from sluice.actuate.envoy_gateway import attached_to, open_thresholds
from sluice.actuate.kinds import EXTENSION_POLICY
from sluice.actuate.objects import Document, owned_by_class
from sluice.actuate.port import Order
from sluice.model.fleet import Fleet, GateUse, WorkloadClass
from sluice.model.gate import CLAIMS_NAMESPACE, GATE_PORT, MESSAGE_TIMEOUT_SECONDS, ROUTE_ATTRIBUTE, gate_service
from sluice.model.naming import owned_route

PINGS = {"interval": "1s", "timeout": "900ms"}
"""How often a proxy asks whether the connection lives; Envoy Gateway wants the time-out below the interval."""


def policies(order: Order) -> tuple[Document, ...]:
    """The EnvoyExtensionPolicies of all classes; none where the fleet has no gate."""
    if order.fleet.data_plane.gate is GateUse.DISABLED:
        return ()
    return tuple(_policy(order, workload) for workload in order.classes if order.targets.of(workload.name))


def _policy(order: Order, workload: WorkloadClass) -> Document:
    document = owned_by_class(EXTENSION_POLICY, owned_route(workload), order.fleet, workload, order.targets.plan_id)
    document["spec"] = {
        "targetRefs": attached_to(workload),
        "extProc": [_processor(order.fleet, workload)],
    }
    return document


def _processor(fleet: Fleet, workload: WorkloadClass) -> Document:
    service = {"group": "", "kind": "Service", "name": gate_service(fleet.name), "port": GATE_PORT, "weight": 1}
    return {
        "backendRefs": [service],
        "backendSettings": {
            "circuitBreaker": open_thresholds(),
            "http2": {"connectionKeepalive": PINGS},
        },
        "failOpen": True,
        "messageTimeout": f"{MESSAGE_TIMEOUT_SECONDS:.0f}s",
        **({"metadata": {"accessibleNamespaces": [CLAIMS_NAMESPACE]}} if needs_claims(workload) else {}),
        "processingMode": {"request": {"attributes": [ROUTE_ATTRIBUTE]}, "response": {"body": "Streamed"}},
    }
