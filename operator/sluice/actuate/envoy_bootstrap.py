"""What a fleet's Envoy is started with: admin port, listener, and where everything else is read from. Pure.

What moves while it runs is in ``envoy_config``.
"""

from __future__ import annotations

from sluice.actuate import envoy_gate
from sluice.actuate.envoy_terms import LIMITER, TYPE_URL, file_source, socket_address
from sluice.actuate.objects import Document
from sluice.model.fleet import Fleet
from sluice.model.naming import FILES_LISTENER_STAT_PREFIX, FILES_ROUTES, FILES_RUNTIME_LAYER

DEFAULT_ADMIN = "127.0.0.1:9901"
DEFAULT_LISTENER_PORT = 10000


def bootstrap(fleet: Fleet, root: str) -> Document:
    """What Envoy is started with: admin port, listener, and where everything else is read from."""
    admin_host, _, admin_port = (fleet.data_plane.admin_address or DEFAULT_ADMIN).rpartition(":")
    return {
        "node": {"id": fleet.key, "cluster": "sluice"},
        "admin": {"address": socket_address(admin_host.strip("[]"), int(admin_port))},
        "layered_runtime": {
            "layers": [
                {
                    "name": FILES_RUNTIME_LAYER,
                    "rtds_layer": {
                        "name": FILES_RUNTIME_LAYER,
                        "rtds_config": file_source(f"{root}/runtime/limits.json", f"{root}/runtime"),
                    },
                },
                {"name": "admin", "admin_layer": {}},
            ]
        },
        "dynamic_resources": {"cds_config": file_source(f"{root}/cds.json", root)},
        "static_resources": {
            "listeners": [_listener(fleet, root)],
            **({"clusters": [envoy_gate.cluster(fleet)]} if envoy_gate.has_gate(fleet) else {}),
        },
    }


def _listener(fleet: Fleet, root: str) -> Document:
    """One HTTP listener whose routes come from a file."""
    data_plane = fleet.data_plane
    gated = envoy_gate.has_gate(fleet)
    port = DEFAULT_LISTENER_PORT if data_plane.listener_port is None else data_plane.listener_port
    manager = {
        "@type": f"{TYPE_URL}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": FILES_LISTENER_STAT_PREFIX,
        "codec_type": "AUTO",
        "use_remote_address": True,
        "stream_idle_timeout": "0s",  # an answer that is computed for minutes is silent, not lost
        "rds": {"route_config_name": FILES_ROUTES, "config_source": file_source(f"{root}/rds.json", root)},
        **({"early_header_mutation_extensions": envoy_gate.early_mutations()} if gated else {}),
        **({"access_log": [envoy_gate.access_log()]} if gated else {}),
        "http_filters": [
            {
                "name": LIMITER,  # idle here; a route with a limit configures it
                "typed_config": {
                    "@type": f"{TYPE_URL}.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
                    "stat_prefix": FILES_LISTENER_STAT_PREFIX,
                },
            },
            *([envoy_gate.http_filter()] if gated else []),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPE_URL}.extensions.filters.http.router.v3.Router"},
            },
        ],
    }
    return {
        "name": "sluice",
        "address": socket_address(data_plane.listener_address, port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
