"""What is in flight as a check on output lengths (Little's law: L = lambda * W).

The mean output length of *completed* requests is biased after a change: short answers
complete first, so for about one residence time the completed ones are too short, and
after a tightening too long. What is in flight over what is admitted is the mean time a
request stays, whatever has completed so far.
"""

from __future__ import annotations

import math


def residence_seconds(in_flight: float, admitted_rate: float) -> float | None:
    """Mean seconds that a request stays; None without admissions to divide by."""
    if admitted_rate <= 0 or not math.isfinite(in_flight) or not math.isfinite(admitted_rate):
        return None
    return max(0.0, in_flight) / admitted_rate


def explained_residence_seconds(ttft_seconds: float, tpot_seconds: float, output_tokens: float) -> float:
    """Seconds that a request of ``output_tokens`` stays: TTFT + TPOT * (D - 1)."""
    return ttft_seconds + tpot_seconds * max(0.0, output_tokens - 1.0)


def implied_output_tokens(
    in_flight: float, admitted_rate: float, ttft_seconds: float, tpot_seconds: float
) -> float | None:
    """The mean output length that the requests in flight speak for; at least one token.

    None where it cannot be told: nothing is admitted, or no time per token is known.
    """
    stay = residence_seconds(in_flight, admitted_rate)
    if stay is None or not tpot_seconds > 0:
        return None
    return 1.0 + max(0.0, stay - ttft_seconds) / tpot_seconds


def output_tokens_by_exposure(
    in_flight: float, admitted_rate: float, completed_rate: float, ttft_seconds: float, tpot_seconds: float
) -> float | None:
    """Mean output length as the time spent decoding over the answers completed; at least one token.

    The maximum-likelihood mean of exponential lengths under censoring: answers still running
    count with the tokens they have, so it holds while a fleet fills up and when a load steps,
    where Little's law (:func:`implied_output_tokens`) does not yet. All five are means over one
    window. None where nothing was completed or no time per token is known.
    """
    if completed_rate <= 0 or not tpot_seconds > 0:
        return None
    decoding = max(0.0, in_flight - admitted_rate * ttft_seconds)
    return 1.0 + decoding / (completed_rate * tpot_seconds)


def length_disagreement(
    in_flight: float, admitted_rate: float, ttft_seconds: float, tpot_seconds: float, output_tokens: float
) -> float | None:
    """How far the measured stay is from what the completed lengths explain, as a share of the latter.

    Zero: both agree. Positive: what is in flight is longer than what has completed, so
    ``output_tokens`` is too small. None where nothing is admitted or explained.
    """
    stay = residence_seconds(in_flight, admitted_rate)
    explained = explained_residence_seconds(ttft_seconds, tpot_seconds, output_tokens)
    if stay is None or not explained > 0:
        return None
    return stay / explained - 1.0
