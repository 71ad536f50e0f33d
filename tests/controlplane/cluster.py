"""A real control plane on loopback: etcd, kube-apiserver and, for garbage collection, the controller manager.

Nothing runs as a container and nothing needs root. Every port is a free one, every file
lies in one temporary folder, and every process ends with the test session.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from tests.controlplane.programs import find

READY_SECONDS = 60.0


class ProcessGroup:
    """Processes that belong together, each with its log, ended together."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        """Start one program; its output goes to ``<name>.log``."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def log(self, name: str) -> str:
        """What the program said so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """End every process, the last started first."""
        for process in reversed(self._processes):
            end(process)
        self._processes.clear()


def end(process: subprocess.Popen[bytes], *, grace_seconds: float = 10.0) -> int:
    """Ask a process to end, then make it; returns its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait(grace_seconds)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], what: str, *, timeout_seconds: float = READY_SECONDS) -> float:
    """Poll ``condition`` until it holds; the seconds it took, or a TimeoutError that names ``what``."""
    started = time.monotonic()
    pause = 0.01
    while not condition():
        if time.monotonic() - started > timeout_seconds:
            raise TimeoutError(f"not within {timeout_seconds:g} s: {what}")
        time.sleep(pause)
        pause = min(0.1, pause * 1.5)
    return time.monotonic() - started


class ControlPlane:
    """The running programs and the way in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = ProcessGroup(folder)
        self.url = ""
        self.admin_token = secrets.token_hex(16)
        self.operator_token = self.admin_token
        """What the operator logs in with, where a test gives it fewer rights than the administrator has."""
        self.tokens: dict[str, tuple[str, str]] = {self.admin_token: ("admin", "system:masters")}

    @property
    def certificate(self) -> Path:
        """The API server's self-signed certificate, good as its own authority."""
        return self.folder / "certificates" / "apiserver.crt"

    def add_user(self, name: str, group: str = "") -> str:
        """A token for a user without rights; only before ``start``."""
        token = secrets.token_hex(16)
        self.tokens[token] = (name, group)
        return token

    def start(self) -> None:
        """Start etcd and the API server, wait until it is ready, then the controller manager."""
        etcd, peer, port = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{port}"
        self._write_secrets()
        self.processes.start("etcd", self._etcd(etcd, peer))
        self.processes.start("kube-apiserver", self._apiserver(etcd, port))
        wait_until(self._is_ready, "kube-apiserver answers /readyz")
        self.processes.start("kube-controller-manager", self._controller_manager())

    def stop(self) -> None:
        """End all programs."""
        self.processes.stop()

    def kubeconfig(self, token: str | None = None, namespace: str = "default") -> Path:
        """A kubeconfig for ``token``; the administrator's by default."""
        token = token or self.admin_token
        path = self.folder / f"kubeconfig-{self.tokens[token][0].replace(':', '-')}"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "loopback",
            "contexts": [{"name": "loopback", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
            "clusters": [
                {"name": "c", "cluster": {"server": self.url, "certificate-authority": str(self.certificate)}}
            ],
            "users": [{"name": "u", "user": {"token": token}}],
        }
        path.write_text(yaml.safe_dump(document))
        path.chmod(0o600)
        return path

    def _write_secrets(self) -> None:
        rows = [f'{token},{user},{user},"{group}"' for token, (user, group) in self.tokens.items()]
        (self.folder / "tokens.csv").write_text("\n".join(rows) + "\n")
        key = self.folder / "service-account.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)

    def _etcd(self, client: int, peer: int) -> list[str]:
        return [
            _program("etcd"),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        ]

    def _apiserver(self, etcd: int, port: int) -> list[str]:
        key = str(self.folder / "service-account.key")
        return [
            _program("kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=192.0.2.1",  # nobody connects to it; without one a default route is asked for
            f"--cert-dir={self.certificate.parent}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount",
        ]

    def _controller_manager(self) -> list[str]:
        return [
            _program("kube-controller-manager"),
            f"--kubeconfig={self.kubeconfig()}",
            "--controllers=*,-nodeipam",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
        ]

    def _is_ready(self) -> bool:
        if not self.certificate.exists():
            return False
        headers = {"Authorization": f"Bearer {self.admin_token}"}
        request = urllib.request.Request(f"{self.url}/readyz", headers=headers)  # noqa: S310 - our own https URL
        try:
            context = ssl.create_default_context(cafile=str(self.certificate))
            with urllib.request.urlopen(request, timeout=2, context=context) as answer:  # noqa: S310 - our own https URL
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def _program(name: str) -> str:
    path = find(name)
    if path is None:
        raise FileNotFoundError(f"{name} is not built; run: make controlplane")
    return str(path)
