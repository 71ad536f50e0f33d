"""Python's collector kept short: a full collection holds every thread up, the one that answers probes too.

It walks through all objects that could be part of a cycle. With a thousand classes these are
some hundred thousand, most of them modules and declarations that stay for ever, and a walk takes
a tenth of a second and more. What is frozen is not walked through; it is freed all the same when
nothing refers to it, and only a cycle among frozen objects that is let go later would stay.
"""

from __future__ import annotations

import gc


def settle_down() -> None:
    """What is alive now stays for long: do not walk through it again. Call it when there is little garbage."""
    gc.freeze()
