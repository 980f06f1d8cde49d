"""What went wrong at a storage: whether it passes by itself, without depending on any storage's package."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from enum import Enum


class Trouble(Enum):
    MISSING = "missing"
    DENIED = "denied"
    PASSING = "passing"
    LASTING = "lasting"


_PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 509})
_PASSING_ERRNO = frozenset({
    errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EPIPE,
    errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETRESET, getattr(errno, "EREMOTEIO", errno.EIO), errno.EIO,
    errno.ESTALE,
})  # fmt: skip
# Classes of aiohttp, botocore and fsspec that stand for a connection that broke, was refused or took too long.
_PASSING_NAMES = frozenset({
    "ClientConnectionError", "ClientPayloadError", "ServerDisconnectedError", "ContentLengthError", "FSTimeoutError",
    "HTTPClientError", "ConnectionClosedError", "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError",
    "IncompleteReadError", "IncompleteRead", "ResponseStreamingError", "ResponseParserError",
})  # fmt: skip
_DENIED_NAMES = frozenset({
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError",
    "ProfileNotFound", "NoAuthTokenError", "UnauthorizedSSOTokenError", "SSOTokenLoadError",
})  # fmt: skip


def trouble_of(error: BaseException) -> Trouble:
    """Which kind of trouble an exception of a filesystem stands for."""
    status = _status(error)
    names = {kind.__name__ for one in _chain(error) for kind in type(one).__mro__}
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError) or status in (404, 410):
        return Trouble.MISSING
    if isinstance(error, PermissionError) or status in (401, 403) or names & _DENIED_NAMES:
        return Trouble.DENIED
    if status is not None:
        return Trouble.PASSING if status in _PASSING_STATUS else Trouble.LASTING
    if isinstance(error, TimeoutError | ConnectionError) or names & _PASSING_NAMES:
        return Trouble.PASSING
    passing = isinstance(error, OSError) and error.errno in _PASSING_ERRNO
    return Trouble.PASSING if passing else Trouble.LASTING


def is_past_the_end(error: BaseException) -> bool:
    """Whether a range was asked for that begins beyond the object's end."""
    return _status(error) == 416


def words(error: BaseException) -> str:
    """The first line of what an exception says, at most 200 characters."""
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _status(error: BaseException) -> int | None:
    """The HTTP status that was answered: aiohttp's exceptions say it, botocore's carry the response."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        said = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
        found = said if said is not None else getattr(one, "status", None)
        if isinstance(found, int) and found >= 400:
            return found
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(5):
        if error is None:
            return
        yield error
        error = error.__cause__
