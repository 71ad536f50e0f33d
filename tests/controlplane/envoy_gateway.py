"""A real Envoy Gateway that starts a real Envoy on this machine (its host mode), fed by a real API server.

It binds fixed ports and wants its certificates in ``/certs``, so it runs in namespaces of its
own: ``isolated`` gives the command for a process with its own network, mounts and process
ids, without being root; ``enter`` is called inside.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import ControlPlane, wait_until
from tests.controlplane.programs import find

from sluice.demo import programs

ENVOY_VERSION = "1.40.0"
LISTENER_PORT = 10080
ADMIN_PORT = 19100
NAMESPACE = "envoy-gateway-system"
UNSHARE = ["unshare", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


def can_be_isolated() -> bool:
    """Whether this machine allows namespaces to whom runs the tests."""
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def enter(folder: Path, certificates: Path) -> None:
    """Inside the namespaces: loopback up, and a root folder that has ``/certs`` and is otherwise the same."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    root, here = folder / "root", Path.cwd()
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(root)], check=True)
    for entry in sorted(Path("/").iterdir()):
        place = root / entry.name
        if entry.is_symlink():
            place.symlink_to(entry.readlink())
        elif entry.is_dir():
            place.mkdir()
            subprocess.run(["mount", "--rbind", str(entry), str(place)], check=True)
    (root / "certs").symlink_to(certificates)
    os.chroot(root)
    os.chdir(here)


class EnvoyGateway:
    """The programs and the objects that make a Gateway serve."""

    def __init__(self, folder: Path, plane: ControlPlane) -> None:
        self._folder = folder
        self._plane = plane

    @staticmethod
    def certificates(folder: Path) -> Path:
        """Where ``certgen`` puts what ``/certs`` shall be."""
        return folder / "config" / "certs" / "envoy-gateway"

    def start(self, admin: Admin) -> None:
        """Certificates, configuration, process, GatewayClass and Gateway."""
        program = str(find("envoy-gateway"))
        self._install_envoy()
        subprocess.run(
            [program, "certgen", "--local", "--config-home", str(self._folder / "config")],
            check=True,
            capture_output=True,
        )
        path = self._folder / "envoy-gateway.yaml"
        path.write_text(yaml.safe_dump(self._configuration()))
        admin.within(NAMESPACE)
        self._plane.processes.start(
            "envoy-gateway",
            [program, "server", "--config-path", str(path)],
            KUBECONFIG=str(self._plane.kubeconfig()),
            ENVOY_GATEWAY_NAMESPACE=NAMESPACE,
        )
        for document in self._objects(admin.namespace):
            admin.apply(document)
        wait_until(lambda: self._listener_programmed(admin), "the listener is programmed", timeout_seconds=60)

    def log(self) -> str:
        """What it said, Envoy included."""
        return self._plane.processes.log("envoy-gateway")

    def _install_envoy(self) -> None:
        """Put the Envoy of the Python package where Envoy Gateway looks before it downloads one."""
        binary = programs.envoy()
        place = self._folder / "data" / "envoy-versions" / ENVOY_VERSION / "bin"
        place.mkdir(parents=True)
        (place / "envoy").symlink_to(binary)

    def _configuration(self) -> dict[str, Any]:
        homes = {f"{name}Home": str(self._folder / name) for name in ("config", "data", "state")}
        host = {**homes, "runtimeDir": str(self._folder / "run")}
        return {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "EnvoyGateway",
            "gateway": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
            "extensionApis": {"enableBackend": True},
            "logging": {"level": {"default": "info"}},
            "provider": {
                "type": "Custom",
                "custom": {
                    "resource": {"type": "Kubernetes", "kubernetes": {"leaderElection": {"disable": True}}},
                    "infrastructure": {"type": "Host", "host": host},
                },
            },
        }

    def _objects(self, namespace: str) -> list[dict[str, Any]]:
        admin_port = {"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ADMIN_PORT}}}}
        return [
            {
                "apiVersion": "gateway.envoyproxy.io/v1alpha1",
                "kind": "EnvoyProxy",
                "metadata": {"name": "host", "namespace": NAMESPACE},
                "spec": {
                    "provider": {"type": "Host", "host": {"envoyVersion": ENVOY_VERSION}},
                    "bootstrap": {"type": "Merge", "value": yaml.safe_dump(admin_port)},
                },
            },
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "GatewayClass",
                "metadata": {"name": "envoy"},
                "spec": {
                    "controllerName": "gateway.envoyproxy.io/gatewayclass-controller",
                    "parametersRef": {
                        "group": "gateway.envoyproxy.io",
                        "kind": "EnvoyProxy",
                        "name": "host",
                        "namespace": NAMESPACE,
                    },
                },
            },
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "Gateway",
                "metadata": {"name": "gateway", "namespace": namespace},
                "spec": {
                    "gatewayClassName": "envoy",
                    "listeners": [{"name": "http", "port": LISTENER_PORT, "protocol": "HTTP"}],
                },
            },
        ]

    def _listener_programmed(self, admin: Admin) -> bool:
        """The Gateway itself says AddressNotAssigned in host mode although it serves."""
        listeners = (admin.find("Gateway", "gateway") or {}).get("status", {}).get("listeners", [])
        conditions = [condition for listener in listeners for condition in listener.get("conditions", [])]
        return any(entry["type"] == "Programmed" and entry["status"] == "True" for entry in conditions)
