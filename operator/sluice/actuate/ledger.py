"""What one pass over the API server has seen, done and been refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sluice.actuate.kinds import Kind
from sluice.actuate.kubernetes_api import UNREACHABLE, Answer
from sluice.model.reasons import ConditionType, Finding, Reason


@dataclass(slots=True)
class Ledger:
    """What one pass has found and done so far."""

    seen: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """(kind, name) -> object as the server last showed it."""
    touched: set[tuple[str, str]] = field(default_factory=set)
    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    """Classes that stay as they are: something of theirs cannot be written."""
    failed: bool = False
    """Nothing more can be done in this pass: the server is away, or may not even be read."""

    def hold(self, workload: str, finding: Finding) -> None:
        """Leave a class as it is from here on."""
        self.held.add(workload)
        self.note(finding)

    def refuse(self, method: str, kind: Kind, name: str, answer: Answer, *, workload: str | None = None) -> None:
        """Remember a refusal: of one class's write, or of the pass."""
        finding = refusal(method, kind, name, answer)
        if workload is None or answer.status == UNREACHABLE:
            self.failed = True
            self.note(finding)
        else:
            self.hold(workload, finding)

    def note(self, finding: Finding) -> None:
        """Remember a finding, once."""
        if finding not in self.problems:
            self.problems.append(finding)


def refusal(method: str, kind: Kind, name: str, answer: Answer) -> Finding:
    """A refusal in the words of our reasons."""
    label = f"{kind.name}/{name}" if name else kind.plural
    reason, message = Reason.WRITE_FAILED, f"cannot {method} {label}: {answer.message}"
    if answer.status == 403:
        reason = Reason.NOT_PERMITTED
        message = f"not permitted to {method} {kind.plural} in API group {kind.group or 'core'}: {answer.message}"
    elif answer.status == 404 and not name:
        message = f"the API server does not serve {kind.plural}.{kind.group}: install its resource definitions"
    return Finding(condition=ConditionType.PROGRAMMED, reason=reason, message=message)


def conflict(label: str, message: str) -> Finding:
    """Somebody else has a field, or a whole object, that we would write."""
    return Finding(condition=ConditionType.PROGRAMMED, reason=Reason.FIELD_CONFLICT, message=message, subject=label)
