"""The definitions of Gateway API and Envoy Gateway, from Envoy Gateway's own module."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

import yaml
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import wait_until
from tests.controlplane.programs import module_folder

MODULE = "github.com/envoyproxy/gateway"


def gateway_definitions() -> Iterator[dict[str, Any]]:
    """Every CustomResourceDefinition; empty where Go or the module is not on this machine."""
    try:
        templates = module_folder(MODULE) / "charts" / "gateway-crds-helm" / "templates"
    except (OSError, subprocess.CalledProcessError):
        return
    files = [templates / "experimental-gatewayapi-crds.yaml", *sorted((templates / "generated").glob("*.yaml"))]
    for path in files:
        lines = path.read_text(encoding="utf-8").splitlines()
        text = "\n".join(line for line in lines if not line.startswith("{{"))
        for document in yaml.load_all(text, Loader=yaml.CSafeLoader):
            if document and document.get("kind") == "CustomResourceDefinition":
                yield document


def install(admin: Admin, definitions: Iterable[dict[str, Any]]) -> None:
    """Apply definitions and wait until all that there are are served: programs look for them only as they start."""
    for definition in definitions:
        admin.apply(definition)
    wait_until(lambda: all(map(_is_established, admin.all("CustomResourceDefinition"))), "all definitions are served")


def _is_established(definition: dict[str, Any]) -> bool:
    conditions = definition.get("status", {}).get("conditions") or ()
    return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)
