"""What a class says of its queue at the gate, and of who waits in it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from sluice.api.base import HEADER_PATTERN, Declared, Rule
from sluice.model.gate import LONGEST_WAIT_SECONDS, WhenLate

QUEUE_LIMIT = 100_000


class RequestKey(Declared):
    """A value of the request by which some of a class's requests belong together."""

    rules: ClassVar[tuple[Rule, ...]] = (Rule("has(self.header) != has(self.claim)", "give one of header and claim"),)

    header: str | None = Field(
        default=None, min_length=1, max_length=256, pattern=HEADER_PATTERN, description="Name of a header."
    )
    claim: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=r"^[A-Za-z0-9_:/-]+([.][A-Za-z0-9_:/-]+)*$",
        description="Claim of the token that the proxy has verified (jwt_authn), such as sub; inner claims by dots.",
    )


class RequestQueue(Declared):
    """How many may wait, for how long, and what becomes of those that wait in vain."""

    max_waiting: int | None = Field(
        default=None,
        ge=1,
        le=QUEUE_LIMIT,
        description="Requests of the class that may wait; one more is refused (429). At most, and by default, the "
        "gate's --max-waiting.",
    )
    max_wait_milliseconds: int | None = Field(
        default=None,
        ge=1,
        le=int(LONGEST_WAIT_SECONDS * 1000),
        description="How long a request may wait, milliseconds; one that would wait longer is refused on arrival "
        "(429 with Retry-After). Absent: the class's patience. At most the gate's --max-wait.",
    )
    late: WhenLate = Field(
        default=WhenLate.WAIT,
        description="What becomes of a request that can no longer keep its TTFT target. Wait: it takes what would "
        "stand idle. Refuse: it is refused at once (429), unless an engine is open to it.",
    )
