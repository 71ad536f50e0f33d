"""``sluice explain``: why one request was held, let go or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def explain(
    request_id: Annotated[str, typer.Argument(help="The answer's x-request-id.")],
    decisions: Annotated[Path, typer.Option(help="The gate's decision log.", exists=True, file_okay=False)],
) -> None:
    """Say what the gate decided about a request, and on what grounds.

    sluice explain 3f0c... --decisions log: the folder that sluice gate --decisions wrote.

    In a cluster: kubectl exec deployment/FLEET-gate -- sluice explain 3f0c... --decisions /var/lib/sluice/decisions
    """
    from sluice.gate.decision_log import lines_about  # noqa: PLC0415 - sluice --help stays quick
    from sluice.gate.explanation import sentences  # noqa: PLC0415 - as above

    found = list(lines_about(decisions, request_id))
    if not found:
        typer.echo(
            f"sluice: nothing is kept about {request_id} in {decisions}: it did not pass this gate, or too long ago",
            err=True,
        )
        raise typer.Exit(code=1)
    for line in found:
        for sentence in sentences(line):
            typer.echo(sentence)
