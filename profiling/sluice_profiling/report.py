"""What a run leaves: manifest and picture beside the raw rows, and the verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sluice_profiling.choice import Choice, choose
from sluice_profiling.manifest import manifest
from sluice_profiling.measurement import Measurement, Provenance, read
from sluice_profiling.plot import plot


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """The fitted law and the files that were written."""

    choice: Choice
    manifest: Path
    picture: Path

    def lines(self) -> list[str]:
        """The outcome for a person to read."""
        fit = self.choice.chosen
        shown = [
            f"  {parameter.name:24} {parameter.value:12.6g}  +- {parameter.half_width:.2g}"
            for parameter in fit.parameters
        ]
        validity = fit.validity
        return [
            self.choice.why,
            *shown,
            f"  R2 {fit.r_squared:.4f}, {fit.points} points, error {fit.mean_error:.1%} (worst {fit.worst_error:.1%})",
            f"  valid for batches {validity.minimum_batch}..{validity.maximum_batch}, chunks "
            f"{validity.minimum_chunk_tokens}..{validity.maximum_chunk_tokens}, context near {validity.context_tokens}",
        ]


def conclude(
    name: str, provenance: Provenance, measurements: Sequence[Measurement], operating_batch: int, stem: Path
) -> Conclusion:
    """Fit, choose, and write ``<stem>.yaml`` and ``<stem>.png``; ValueError where the points do not suffice."""
    choice = choose(measurements, operating_batch)
    written = Conclusion(choice=choice, manifest=stem.with_suffix(".yaml"), picture=stem.with_suffix(".png"))
    written.manifest.write_text(manifest(name, provenance, choice, measurements), encoding="utf-8")
    plot(written.picture, f"{provenance.model} on {provenance.accelerator}", choice.chosen, measurements)
    return written


def conclude_raw(raw: Path, name: str, operating_batch: int | None) -> Conclusion:
    """Fit a CSV file again; the batch with most points is the operating one where none is named."""
    provenance, measurements = read(raw)
    if not measurements:
        raise ValueError(f"{raw.name} holds no measured point")
    batches = [entry.point.batch for entry in measurements]
    batch = operating_batch or max(set(batches), key=batches.count)
    return conclude(name, provenance, measurements, batch, raw.with_suffix(""))
