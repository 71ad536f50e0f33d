"""Prometheus behind a port: prometheus-api-client's blocking calls, off the event loop and bounded.

Failures are told apart by what a user should do about them, and no message carries a
secret: neither credentials, nor those in the address, nor what a proxy answered.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.util import Retry

from sluice.observe.promql import Series

_WORKERS = 4
"""Queries under way at once; one pass asks at most ten."""
_GRACE_SECONDS = 0.5
"""On top of the client's own time-out, which counts per read, before the wait for its thread is given up."""
_STATUS = re.compile(r"HTTP Status Code (\d{3})")


class Failure(StrEnum):
    """Why a query has no answer."""

    UNREACHABLE = "Unreachable"
    TIMED_OUT = "TimedOut"
    REFUSED = "Refused"
    """The credentials are missing or wrong."""
    REJECTED = "Rejected"
    """Something answered, but not with the result of a query."""


class QueryError(Exception):
    """A query without an answer; the message is for people and holds no secret."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class PrometheusPort(Protocol):
    """What the observer needs of Prometheus."""

    async def query(self, promql: str, at_seconds: float) -> tuple[Series, ...]:
        """The instant vector of ``promql`` at ``at_seconds`` since the epoch; raises :class:`QueryError`."""
        ...

    async def close(self) -> None:
        """End threads and connections."""
        ...


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A token that is shown to nobody."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class BasicLogin:
    """User and password; the latter is shown to nobody."""

    user: str
    password: str = field(repr=False)


Credentials = BearerToken | BasicLogin


def credentials_of(data: Mapping[str, str]) -> Credentials | None:
    """Credentials from a Secret's decoded data: ``token``, or ``username`` and ``password``; None: neither is there."""
    if token := data.get("token", "").strip():
        return BearerToken(token)
    if (user := data.get("username", "").strip()) and (password := data.get("password", "").strip()):
        return BasicLogin(user, password)
    return None


class _Bearer(AuthBase):
    """As ``auth``, not as a header: a header would give way to a ``.netrc`` entry of the same host."""

    def __init__(self, credentials: BearerToken) -> None:
        self._credentials = credentials

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._credentials.token}"
        return request


class PrometheusClient:
    """The port over HTTP."""

    def __init__(self, url: str, *, timeout_seconds: float = 5.0, credentials: Credentials | None = None) -> None:
        self._shown = without_userinfo(url)
        self._timeout_seconds = timeout_seconds
        self._threads = ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="prometheus")
        # POST: a query over hundreds of classes is longer than a request line may be. No retries:
        # the loop comes again in seconds, and a retry would outlive its time-out.
        session = requests.Session()
        session.auth = _authentication(credentials)
        self._connection = PrometheusConnect(
            url=url.rstrip("/"),
            retry=Retry(total=0),
            session=session,
            timeout=timeout_seconds,  # type: ignore[arg-type]  # annotated int, but handed on to requests: seconds
            method="POST",
        )

    async def query(self, promql: str, at_seconds: float) -> tuple[Series, ...]:
        """See :class:`PrometheusPort`."""
        answer = asyncio.get_running_loop().run_in_executor(self._threads, self._ask, promql, at_seconds)
        try:
            return await asyncio.wait_for(answer, self._timeout_seconds + _GRACE_SECONDS)
        except TimeoutError:
            raise self._error(Failure.TIMED_OUT, f"no answer within {self._timeout_seconds:g} s") from None

    async def close(self) -> None:
        """See :class:`PrometheusPort`; a thread that still waits for an answer is left to its time-out."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connection.close()

    def _ask(self, promql: str, at_seconds: float) -> tuple[Series, ...]:
        """The blocking half. ``from None``: the library's errors quote addresses and answers."""
        try:
            result = self._connection.custom_query(promql, params={"time": f"{at_seconds:.3f}"})
            return tuple(map(_series, result))
        except PrometheusApiClientException as error:
            raise self._refusal(error) from None
        except requests.Timeout:
            raise self._error(Failure.TIMED_OUT, f"no answer within {self._timeout_seconds:g} s") from None
        except (ValueError, KeyError, TypeError, IndexError):
            # First: a body that is no JSON raises a ValueError that is a RequestException as well.
            raise self._error(Failure.REJECTED, "the answer is not that of a query") from None
        except requests.RequestException as error:
            raise self._error(Failure.UNREACHABLE, _root_cause(error)) from None

    def _refusal(self, error: PrometheusApiClientException) -> QueryError:
        found = _STATUS.search(str(error))
        status = int(found.group(1)) if found else 0
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return self._error(Failure.REFUSED, f"HTTP {status}: the credentials are refused or missing")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return self._error(Failure.UNREACHABLE, f"HTTP {status}")
        return self._error(Failure.REJECTED, f"HTTP {status}")

    def _error(self, failure: Failure, text: str) -> QueryError:
        return QueryError(failure, f"Prometheus at {self._shown}: {text}")


def without_userinfo(url: str) -> str:
    """``url`` without user, password, query and fragment: what may be shown."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _authentication(credentials: Credentials | None) -> AuthBase | None:
    if isinstance(credentials, BearerToken):
        return _Bearer(credentials)
    if isinstance(credentials, BasicLogin):
        return HTTPBasicAuth(credentials.user, credentials.password)
    return None


def _series(element: Mapping[str, Any]) -> Series:
    """One element of the API's ``vector`` result: https://prometheus.io/docs/prometheus/latest/querying/api/."""
    _, value = element["value"]
    return Series(labels=dict(element["metric"]), value=float(value))


def _root_cause(error: BaseException) -> str:
    """The operating system's words at the bottom of a chain of wrapped errors, else the error's kind."""
    seen: BaseException | None = error
    words = type(error).__name__
    for _ in range(8):
        if seen is None:
            break
        if isinstance(seen, OSError) and seen.strerror:
            words = seen.strerror
        inner = seen.args[0] if seen.args and isinstance(seen.args[0], BaseException) else None
        seen = getattr(seen, "reason", None) or inner or seen.__cause__ or seen.__context__
        seen = seen if isinstance(seen, BaseException) else None
    return words
