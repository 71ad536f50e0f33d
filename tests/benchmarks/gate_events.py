"""python -m tests.benchmarks.gate_events COUNT SEED: random events through the gate's machine, checked after each.

A process of its own, with plain kernels and the default order as ``sluice gate`` runs them.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ["SLUICE_KERNELS"] = "plain"

from tests.property.test_gate import Driver

from sluice.policy.orders import timely


def main(count: int, seed: int) -> None:
    driver = Driver(timely(1e-4), seed)
    began = time.process_time()
    for _ in range(count):
        driver.step(signals=True)
    driver.drain()
    sys.stdout.write(json.dumps({"requests": driver.number, "cpuSeconds": time.process_time() - began}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
