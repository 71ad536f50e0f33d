"""One simulated engine in virtual time, and what Prometheus would say of it: means over a sliding window."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, replace

from sluice.demo.engine import EngineRequest, EngineSettings, EngineState, step, submit
from sluice.model.engine_sample import EngineSample
from sluice.model.law import IterationLaw


@dataclass(slots=True)
class Totals:
    """The counters of vLLM's metrics page that recalibration reads, and the integral of the running gauge."""

    iterations: int = 0
    prompt_tokens: int = 0
    generated: int = 0
    gap_count: int = 0
    gap_seconds: float = 0.0
    prefills: int = 0
    prefill_seconds: float = 0.0
    running_seconds: float = 0.0


class DriftingReplica:
    """Poisson arrivals into one engine whose law may change while it runs."""

    def __init__(self, settings: EngineSettings, *, rate: float, prompt: int, output: int, seed: int = 0) -> None:
        self.settings, self.rate, self.prompt, self.output = settings, rate, prompt, output
        self.now = 0.0
        self._random = random.Random(seed)
        self._state = EngineState()
        self._next_arrival = self._random.expovariate(rate)
        self._key = 0
        self._started: dict[int, float] = {}
        self._totals = Totals()
        self._history: deque[tuple[float, Totals]] = deque([(0.0, Totals())])

    def change_law(self, law: IterationLaw) -> None:
        self.settings = replace(self.settings, law=law)

    def run(self, seconds: float) -> None:
        """Advance virtual time."""
        end = self.now + seconds
        while self.now < end:
            self._arrive()
            if self._state.idle:
                self.now = min(end, self._next_arrival)
                continue
            began, decoding = self.now, len(self._state.decoding)
            self._state, outcome = step(self._state, self.settings)
            self.now += outcome.seconds
            totals = self._totals
            totals.iterations += 1
            totals.prompt_tokens += outcome.prompt_tokens
            totals.generated += decoding + len(outcome.first)
            totals.gap_count += decoding
            totals.gap_seconds += decoding * outcome.seconds
            totals.running_seconds += (decoding + len(self._state.prefilling) + len(outcome.first)) * outcome.seconds
            self._started |= dict.fromkeys(outcome.started, began)
            for key in outcome.first:
                totals.prefills += 1
                totals.prefill_seconds += self.now - self._started.pop(key)
        self._history.append((self.now, replace(self._totals)))

    def sample(self, window_seconds: float) -> EngineSample:
        """Means over the last window, as rate() and increase() give them."""
        while len(self._history) > 1 and self._history[1][0] <= self.now - window_seconds + 1e-6:
            self._history.popleft()
        (began, before), after = self._history[0], self._totals
        span = self.now - began
        prompt_tokens = after.prompt_tokens - before.prompt_tokens
        prefills = after.prefills - before.prefills
        return EngineSample(
            at_seconds=self.now,
            inter_token_seconds=(after.gap_seconds - before.gap_seconds) / (after.gap_count - before.gap_count),
            running=(after.running_seconds - before.running_seconds) / span,
            generation_rate=(after.generated - before.generated) / span,
            prompt_rate=prompt_tokens / span,
            prompt_tokens=prompt_tokens / prefills,
            iteration_rate=(after.iterations - before.iterations) / span,
            prefill_seconds=(after.prefill_seconds - before.prefill_seconds) / prefills,
        )

    def _arrive(self) -> None:
        while self._next_arrival <= self.now:
            request = EngineRequest(
                key=self._key, prompt_tokens=self.prompt, output_tokens=max(1, self._length(self.output))
            )
            self._state = submit(self._state, self.settings, request)
            self._key += 1
            self._next_arrival += self._random.expovariate(self.rate)

    def _length(self, mean: int) -> int:
        return round(self._random.expovariate(1 / mean))
