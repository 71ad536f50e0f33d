"""The two data planes that are none: one that is not to be had here, and the plan alone."""

from __future__ import annotations

from pathlib import Path

from sluice.actuate.atomic_file import replace_text, text_at
from sluice.actuate.port import Order, targets_from_json, targets_to_json
from sluice.model.decision import Receipt, Targets
from sluice.model.fleet import Fleet
from sluice.model.reasons import ConditionType, Finding, Reason


class Unsupported:
    """Stands in for a data plane that does not exist here; says so instead of doing nothing."""

    def __init__(self, message: str) -> None:
        self._message = message

    def act(self, order: Order) -> Receipt:
        """Write nothing."""
        del order
        finding = Finding(condition=ConditionType.PROGRAMMED, reason=Reason.WRITE_FAILED, message=self._message)
        return Receipt(problems=(finding,))

    def preview(self, order: Order) -> str:
        """Nothing would change."""
        del order
        return ""

    def standing(self, fleet: Fleet) -> Targets | None:
        """Nothing stands."""
        del fleet
        return None


class PlanFileOnly:
    """The ``ConfigMap`` data plane without an API server: the plan file, and beside it the targets."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def act(self, order: Order) -> Receipt:
        """The plan file is written with the status; the targets here."""
        path, text = self._path(order.fleet), targets_to_json(order.targets)
        try:
            if text_at(path) == text:
                return Receipt(unchanged=1)
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, text)
        except OSError as error:
            message = f"cannot write {path}: {error.strerror or type(error).__name__}"
            finding = Finding(condition=ConditionType.PROGRAMMED, reason=Reason.WRITE_FAILED, message=message)
            return Receipt(problems=(finding,))
        return Receipt(written=(path.name,))

    def preview(self, order: Order) -> str:
        """The targets are shown by the status already."""
        del order
        return ""

    def standing(self, fleet: Fleet) -> Targets | None:
        """The targets that were written last."""
        text = text_at(self._path(fleet))
        return None if text is None else targets_from_json(text)

    def _path(self, fleet: Fleet) -> Path:
        return self._out / f"targets.{fleet.namespace}.{fleet.name}.json"
