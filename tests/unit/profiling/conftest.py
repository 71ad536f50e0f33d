"""Torch is an extra: its tests are skipped where it is missing, except where nothing may be skipped."""

from __future__ import annotations

import importlib.util
import os

import pytest


@pytest.fixture(scope="session")
def torch_installed() -> None:
    if importlib.util.find_spec("torch") is not None:
        return
    message = "torch is not installed: run make test, or pip install 'sluice[profiling]'"
    if os.environ.get("SLUICE_REQUIRE_CONTROLPLANE"):
        pytest.fail(message)
    pytest.skip(message)
