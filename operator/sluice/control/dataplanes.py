"""The two data planes that are none: one that is not to be had here, and the plan alone."""

from __future__ import annotations

from pathlib import Path

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
            if path.is_file() and path.read_text(encoding="utf-8") == text:
                return Receipt(unchanged=1)
            draft = path.with_name(f".{path.name}.draft")
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
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
        try:
            return targets_from_json(self._path(fleet).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return None

    def _path(self, fleet: Fleet) -> Path:
        return self._out / f"targets.{fleet.namespace}.{fleet.name}.json"
