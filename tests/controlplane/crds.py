"""The definitions of Gateway API and Envoy Gateway, from Envoy Gateway's own module."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import yaml
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
