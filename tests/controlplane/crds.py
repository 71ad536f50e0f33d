"""Others' definitions: Gateway API and Envoy Gateway from Envoy Gateway's module, InferenceObjective from its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import wait_until
from tests.controlplane.programs import module_folder

MODULE = "github.com/envoyproxy/gateway"
OBJECTIVES_MODULE = "sigs.k8s.io/gateway-api-inference-extension@v1.2.0"
OBJECTIVES_SUM = "h1:7H+ijrUImnW2ubcTakNgV723xDIdQx1Umv4vDVB+tTk="
"""What go.sum would hold. It is no part of the tool module: a change there builds every program anew."""


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


def objective_definition() -> dict[str, Any] | None:
    """InferenceObjective of the Gateway API inference extension; None where Go or the module cannot be had.

    llm-d's own group has the same kind with the same fields in ``spec``; its module is in no registry.
    """
    command = ["go", "mod", "download", "-json", OBJECTIVES_MODULE]
    try:  # outside of every module, so that none takes the download for a dependency
        done = subprocess.run(command, cwd=tempfile.gettempdir(), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    answer = json.loads(done.stdout)
    if answer["Sum"] != OBJECTIVES_SUM:
        raise ValueError(f"{OBJECTIVES_MODULE} is {answer['Sum']}, not {OBJECTIVES_SUM}")
    path = Path(answer["Dir"], "config/crd/bases/inference.networking.x-k8s.io_inferenceobjectives.yaml")
    definition: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return {key: definition[key] for key in ("apiVersion", "kind", "metadata", "spec")}


def install(admin: Admin, definitions: Iterable[dict[str, Any]]) -> None:
    """Apply definitions and wait until all that there are are served: programs look for them only as they start."""
    for definition in definitions:
        admin.apply(definition)
    wait_until(lambda: all(map(_is_established, admin.all("CustomResourceDefinition"))), "all definitions are served")


def _is_established(definition: dict[str, Any]) -> bool:
    conditions = definition.get("status", {}).get("conditions") or ()
    return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)
