"""A line of the decision log in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from sluice.gate.request import Refused

_WHY = {
    Refused.QUEUE_FULL: "the class's queue held as many requests as it may",
    Refused.WAIT_TOO_LONG: "on arrival the predicted wait exceeded the class's bound",
    Refused.WAITED_TOO_LONG: "it had waited as long as its class allows",
    Refused.KEY_SHARE: "its fairness key filled its share of the class's queue",
    Refused.PROMISE_LOST: "it could no longer keep its promise, and no engine was free",
    Refused.CLASS_CLOSED: "the plan closed the class, which its owner declared closable",
}


def sentences(line: Mapping[str, Any]) -> Iterator[str]:
    """What happened, and on what grounds."""
    when = datetime.fromtimestamp(float(line["time"]), tz=UTC).isoformat(timespec="milliseconds")
    outcome, name = line["outcome"], line["class"]
    plan = f"plan {line['plan']}" if line.get("plan") else "the static order, for want of a fresh plan"
    waited = f"{float(line['waitedMs']):.0f} ms"
    if outcome == "Started":
        held = "" if line.get("holds") else " (not held: shadow, or outside the enforced share)"
        yield f"{when} class {name}: let go after {waited} under {plan}, policy {line['policy']}{held}."
        if line.get("engine"):
            tokens = line["engineUnfinishedTokens"]
            how = "sent" if line.get("placed") else "charged"
            yield f"  It was {how} to {line['engine']}, which then had {tokens} unfinished prefill tokens."
        else:
            yield "  No replica that its class may use was known to the gate, so nothing was held (NoEngine)."
        if line.get("late"):
            yield "  Its promise was already lost: it took what would have stood idle."
    elif outcome == "Gone":
        yield f"{when} class {name}: its client or proxy went away after {waited} in the queue."
    else:
        yield f"{when} class {name}: refused with 429 after {waited} ({outcome}): {_WHY[Refused(outcome)]}."
        yield f"  {line['waitingInClass']} of its class waited; it was told to come back in {line['retryAfter']} s."
    yield f"  Its prompt was taken for {line['promptTokens']} tokens; attempt {int(line['attempt']) + 1}."
