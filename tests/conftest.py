"""Shared by all suites: the root of the checkout is importable, so tests name their neighbours in full."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # last: nothing here may shadow an installed module

# In CI every run draws the same examples: a red run is about the change, and can be run again.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
