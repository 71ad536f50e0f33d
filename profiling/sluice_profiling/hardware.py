"""The hardware at hand: where tensors live, and how the time of one iteration is taken there.

On a GPU times are taken by CUDA events around the replay of a captured graph, as engines run
decode; where an iteration cannot be captured it is launched kernel by kernel, and the
method says so. On a CPU one thread runs, and its own CPU time is taken: waiting for other
programs does not count, so a busy machine gives the same law as an idle one. CPU
figures prove the tool and nothing else.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed

from sluice_profiling.measurement import Point
from sluice_profiling.transformer import Iteration, Placement, Transformer

T = TypeVar("T")
CAPTURE_WARM_UP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One rank's view of the machine."""

    placement: Placement
    rank: int
    graphs: bool
    """Whether to capture iterations into graphs (GPU only)."""

    @property
    def leads(self) -> bool:
        """Whether this rank writes files."""
        return self.rank == 0

    @property
    def on_gpu(self) -> bool:
        """Whether this is a measurement of a GPU."""
        return bool(self.placement.device.type == "cuda")

    @property
    def accelerator(self) -> str:
        """Name of the device."""
        if self.on_gpu:
            return str(torch.cuda.get_device_name(self.placement.device))
        return f"CPU {_cpu_name()}"[:128]

    @property
    def engine(self) -> str:
        """What runs the iteration."""
        return f"torch {torch.__version__} {self.placement.dtype}".replace("torch.", "")

    @property
    def method(self) -> str:
        """How the time is taken."""
        if not self.on_gpu:
            return (
                "wall time of the slowest rank" if self.placement.ranks > 1 else "CPU time of one thread; no GPU figure"
            )
        return "CUDA events around a graph replay" if self.graphs else "CUDA events around kernel launches"

    @property
    def driver(self) -> str:
        """Version of the GPU's driver."""
        if not self.on_gpu:
            return ""
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False)
        return f"driver {answer.stdout.splitlines()[0].strip()}" if answer.returncode == 0 and answer.stdout else ""

    @property
    def libraries(self) -> str:
        """Versions of what computes."""
        cuda = f", CUDA {torch.version.cuda}" if self.on_gpu else ""
        return f"torch {torch.__version__}{cuda}, Python {platform.python_version()}"

    def clock(self) -> float:
        """Seconds, the same on every rank: they must agree when time is up."""
        return self.agreed(time.monotonic())

    def agreed(self, value: T) -> T:
        """The first rank's value."""
        if self.placement.ranks == 1:
            return value
        box: list[Any] = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        agreed: T = box[0]
        return agreed

    def timer(self, model: Transformer, point: Point) -> Callable[[], float]:
        """A function that runs one iteration of ``point`` and returns its seconds, the slowest rank's."""
        iteration = model.iteration(point)
        once = self._gpu_timer(model, iteration) if self.on_gpu else self._cpu_timer(model, iteration)
        if self.placement.ranks == 1:
            return once
        return lambda: self._slowest(once())

    def _slowest(self, seconds: float) -> float:
        value = torch.tensor([seconds], device=self.placement.device, dtype=torch.float64)
        torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX)
        return float(value.item())

    def _cpu_timer(self, model: Transformer, iteration: Iteration) -> Callable[[], float]:
        # With several ranks the wait for the others is part of the iteration, so CPU time would not do.
        clock = time.perf_counter if self.placement.ranks > 1 else time.thread_time

        def once() -> float:
            began = clock()
            with torch.inference_mode():
                model.run(iteration)
            return clock() - began

        return once

    def _gpu_timer(self, model: Transformer, iteration: Iteration) -> Callable[[], float]:
        replay = self._captured(model, iteration) if self.graphs else lambda: _launch(model, iteration)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

        def once() -> float:
            begin.record()
            replay()
            end.record()
            end.synchronize()
            return float(begin.elapsed_time(end)) / 1e3

        return once

    def _captured(self, model: Transformer, iteration: Iteration) -> Callable[[], None]:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # allocations and autotuning must be over before the capture
            for _ in range(CAPTURE_WARM_UP):
                _launch(model, iteration)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            model.run(iteration)
        replay: Callable[[], None] = graph.replay
        return replay


def find(device: str = "auto", *, graphs: bool = True) -> Hardware:
    """The device asked for (``auto``: a GPU where there is one), as this rank of ``torchrun`` or alone."""
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    gpu = torch.cuda.is_available() if device == "auto" else device == "cuda"
    if gpu and not torch.cuda.is_available():
        raise RuntimeError("torch finds no GPU here")
    if ranks > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if gpu else "gloo")
    if gpu:
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
        return Hardware(placement=Placement(device=place, dtype=torch.bfloat16, ranks=ranks), rank=rank, graphs=graphs)
    torch.set_num_threads(1)
    placement = Placement(device=torch.device("cpu"), dtype=torch.float32, ranks=ranks)
    return Hardware(placement=placement, rank=rank, graphs=False)


def _launch(model: Transformer, iteration: Iteration) -> None:
    with torch.inference_mode():
        model.run(iteration)


def _cpu_name() -> str:
    """The processor's own name where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
