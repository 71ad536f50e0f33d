"""The gate's part of Envoy's configuration (Envoy files). Pure.

The filter asks the gate about the headers of a request and about the first chunk of its
answer's body; the gate ends its stream there. Response headers are not sent, bodies of
requests never. When the whole answer is over, an entry of the access log tells the gate.
What lets everything through when the gate is gone, slow or frozen:

* ``failure_mode_allow``: a stream that breaks lets its request pass;
* HTTP/2 pings every second: a process that no longer runs is noticed within two;
* the message time-out, well above the longest wait;
* no breaker on the gate's cluster: with Envoy's 1024 the next waiting request would pass.

What then keeps the engines from a flood is the fence: ``max_connections`` of a class's
cluster. Engines speak HTTP/1.1, one request per connection, so what exceeds the fence queues
inside Envoy and is not refused.

References: https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/filters/http/ext_proc/v3/ext_proc.proto,
.../extensions/load_balancing_policies/override_host/v3/override_host.proto
"""

from __future__ import annotations

import math

from sluice.actuate.envoy_terms import TYPE_URL, socket_address, unbounded
from sluice.actuate.objects import Document
from sluice.actuate.port import Order
from sluice.model.fleet import Fleet, GateUse, WorkloadClass
from sluice.model.gate import (
    CLAIMS_NAMESPACE,
    ENDPOINT_HEADER,
    FENCE_FACTOR,
    FILES_GATE_CLUSTER,
    MESSAGE_TIMEOUT_SECONDS,
    OWN_HEADERS,
    PLAN_HEADER,
    REPORT_BYTES,
    REPORT_SECONDS,
    REQUEST_ID_HEADER,
    ROUTE_ATTRIBUTE,
    WAITED_HEADER,
)

FILTER = "envoy.filters.http.ext_proc"
COPIED_HEADERS = (WAITED_HEADER, PLAN_HEADER, REQUEST_ID_HEADER)
"""From the request, where the gate wrote them, to the answer."""


def has_gate(fleet: Fleet) -> bool:
    """Whether requests pass the gate, if only to be counted."""
    return fleet.data_plane.gate is not GateUse.DISABLED and fleet.data_plane.gate_address is not None


def http_filter() -> Document:
    """The filter, which does nothing until a route enables it."""
    return {
        "name": FILTER,
        "disabled": True,
        "typed_config": {
            "@type": f"{TYPE_URL}.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": FILES_GATE_CLUSTER}},
            "failure_mode_allow": True,
            "message_timeout": f"{MESSAGE_TIMEOUT_SECONDS:.0f}s",
            "request_attributes": [ROUTE_ATTRIBUTE],
            "disable_clear_route_cache": True,
            "processing_mode": {
                "request_header_mode": "SEND",
                "request_body_mode": "NONE",
                "request_trailer_mode": "SKIP",
                "response_header_mode": "SKIP",
                "response_body_mode": "STREAMED",
                "response_trailer_mode": "SKIP",
            },
        },
    }


def early_mutations() -> list[Document]:
    """Take our own headers out of what clients send, before a route or a filter reads them."""
    return [
        {
            "name": "envoy.http.early_header_mutation.header_mutation",
            "typed_config": {
                "@type": f"{TYPE_URL}.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                "mutations": [{"remove": name} for name in OWN_HEADERS],
            },
        }
    ]


def needs_claims(workload: WorkloadClass) -> bool:
    """Whether a class's requests are told apart by a claim of their token."""
    return workload.fairness_claim is not None or workload.affinity_claim is not None


def route_override(workload: WorkloadClass) -> Document:
    """What enables the filter on a class's route; the gate sees the claims that a filter before it verified."""
    claims = {"forwarding_namespaces": {"untyped": [CLAIMS_NAMESPACE]}}
    return {
        "@type": f"{TYPE_URL}.extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
        "overrides": {"metadata_options": claims} if needs_claims(workload) else {},
    }


def answer_headers() -> list[Document]:
    """How long the request waited and under which plan, for who asked."""
    return [
        {
            "header": {"key": name, "value": f"%REQ({name})%"},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
        for name in COPIED_HEADERS
    ]


def access_log() -> Document:
    """Reports the end of every answer that the gate let begin, and of nothing else."""
    return {
        "name": "envoy.access_loggers.http_grpc",
        "filter": {"header_filter": {"header": {"name": PLAN_HEADER, "present_match": True}}},
        "typed_config": {
            "@type": f"{TYPE_URL}.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            "common_config": {
                "log_name": FILES_GATE_CLUSTER,
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": FILES_GATE_CLUSTER}},
                "buffer_flush_interval": f"{REPORT_SECONDS}s",
                "buffer_size_bytes": REPORT_BYTES,
            },
        },
    }


def cluster(fleet: Fleet) -> Document:
    """Where the gate listens."""
    host, _, port = (fleet.data_plane.gate_address or "").rpartition(":")
    address = socket_address(host.strip("[]"), int(port))
    thresholds = unbounded("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {
        "name": FILES_GATE_CLUSTER,
        "type": "STRICT_DNS",  # takes addresses as well as names
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [{"priority": "DEFAULT", **thresholds}]},
        "load_assignment": {
            "cluster_name": FILES_GATE_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE_URL}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {
                        "max_concurrent_streams": 2**31 - 1,
                        "connection_keepalive": {"interval": "1s", "timeout": "1s"},
                    }
                },
            }
        },
    }


def balancing() -> Document:
    """The replica that the gate names, else the least loaded of two under the route's weights."""
    policies = f"{TYPE_URL}.extensions.load_balancing_policies"
    fallback = {
        "name": "envoy.load_balancing_policies.least_request",
        "typed_config": {
            "@type": f"{policies}.least_request.v3.LeastRequest",
            "locality_lb_config": {"locality_weighted_lb_config": {}},
        },
    }
    override = {
        "@type": f"{policies}.override_host.v3.OverrideHost",
        "override_host_sources": [{"header": ENDPOINT_HEADER}],
        "fallback_policy": {"policies": [{"typed_extension_config": fallback}]},
    }
    entry = {"name": "envoy.load_balancing_policies.override_host", "typed_config": override}
    return {"policies": [{"typed_extension_config": entry}]}


def fence(order: Order, workload: WorkloadClass, replicas: dict[str, int]) -> int:
    """Requests of a class that the engines may hold at once when nobody admits them: 1.2 times the slots."""
    slots = sum(
        pool.slots * pool.engines_per_replica * replicas.get(pool.name, 0)
        for pool in order.fleet.pools
        if not workload.pools or pool.name in workload.pools
    )
    return max(1, math.ceil(FENCE_FACTOR * slots))


def fence_key(cluster_name: str) -> str:
    """The runtime key of a class's fence."""
    return f"circuit_breakers.{cluster_name}.default.max_connections"
