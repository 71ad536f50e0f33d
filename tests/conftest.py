"""Shared by all suites: the root of the checkout is importable, so tests name their neighbours in full."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # last: nothing here may shadow an installed module
