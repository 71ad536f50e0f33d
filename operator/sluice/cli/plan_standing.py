"""The plan that was applied last: from a file, or from the fleet's plan ConfigMap in the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from pydantic import ValidationError
from urllib3.exceptions import HTTPError

from sluice.actuate.plan_config_map import plan_of
from sluice.model.fleet import Fleet
from sluice.model.naming import plan_config_map
from sluice.model.plan import Plan

_TIMEOUT_SECONDS = 10


class StandingPlanError(Exception):
    """There is no plan to compare with; the message says why."""


def standing_plan(where: str, fleet: Fleet) -> Plan:
    """The plan in the file ``where``, or the fleet's own in the cluster of the current kubeconfig."""
    if where == "cluster":
        return _from_cluster(fleet)
    try:
        document = yaml.safe_load(Path(where).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise StandingPlanError(f"--diff {where}: cannot be read: {why}") from error
    plans = document if isinstance(document, list) else [document]
    found = [plan for entry in plans if (plan := _read(where, entry)).fleet == fleet.key]
    if not found:
        raise StandingPlanError(f"--diff {where}: holds no plan of fleet {fleet.key}")
    return found[0]


def _read(where: str, document: Any) -> Plan:
    """A plan document, the ConfigMap that holds one, or what ``-o json`` printed with more beside the plan."""
    if isinstance(document, Mapping) and document.get("kind") == "ConfigMap":
        return _of_config_map(where, document)
    if isinstance(document, Mapping) and "plan" in document:
        return _read(where, document["plan"])
    try:
        return Plan.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "document"
        message = f"--diff {where}: is no plan: {place}: {first['msg']}; make one with -o json"
        raise StandingPlanError(message) from error


def _of_config_map(where: str, document: Mapping[str, Any]) -> Plan:
    plan = plan_of(document)
    if plan is None:
        raise StandingPlanError(f"--diff {where}: the ConfigMap holds no plan that this version can read")
    return plan


def _from_cluster(fleet: Fleet) -> Plan:
    name = plan_config_map(fleet.name)
    try:
        config.load_config()  # type: ignore[no-untyped-call]  # the client library has no types
        found = client.CoreV1Api().read_namespaced_config_map(name, fleet.namespace, _request_timeout=_TIMEOUT_SECONDS)
    except ConfigException as error:
        message = f"--diff cluster: no kubeconfig: {error} Set KUBECONFIG, or compare with a file"
        raise StandingPlanError(message) from error
    except ApiException as error:
        message = f"ConfigMap {fleet.namespace}/{name}: {error.status} {error.reason}"
        if error.status == HTTPStatus.NOT_FOUND:
            message += "; no operator has planned this fleet there yet"
        raise StandingPlanError(f"--diff cluster: {message}") from error
    except HTTPError as error:
        raise StandingPlanError(f"--diff cluster: the API server does not answer: {error}") from error
    return _of_config_map("cluster", {"data": found.data or {}})
