"""What can go wrong between us and an API server, in the server's own words, and how long to wait then."""

from __future__ import annotations

import random

import msgspec

from tripylon.errors import TripylonError


class ApiError(TripylonError):
    """The API server refused a request, or could not be asked (`status` is 0)."""

    def __init__(self, status: int, reason: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; 0: there was no answer."""
        self.reason = reason
        """The server's CamelCase word, such as `Conflict`, `AlreadyExists`, `Expired`."""
        self.message = message
        self.retry_after = retry_after
        """Seconds after which the server asks to be asked again; None: it did not say."""

    @property
    def not_found(self) -> bool:
        """Whether the object, or its kind, is not there."""
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """Whether someone else changed the object first; `AlreadyExists` is none."""
        return self.status == 409 and self.reason != "AlreadyExists"

    @property
    def already_exists(self) -> bool:
        """Whether an object was to be made that is there."""
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def gone(self) -> bool:
        """Whether a resourceVersion or a continue token is too old."""
        return self.status == 410 or self.reason in ("Expired", "Gone")

    @property
    def forbidden(self) -> bool:
        """Whether we lack a permission."""
        return self.status == 403

    @property
    def unreachable(self) -> bool:
        """Whether there was no answer: not known whether the request took effect."""
        return self.status == 0


class Status(msgspec.Struct):
    """The API's `Status` object, as far as we read it."""

    class Details(msgspec.Struct, rename="camel"):
        """Further facts."""

        retry_after_seconds: int = 0

    kind: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0
    details: Details | None = None

    def error(self, status: int = 0, retry_after: float | None = None) -> ApiError:
        """As an exception."""
        if retry_after is None and self.details is not None and self.details.retry_after_seconds:
            retry_after = float(self.details.retry_after_seconds)
        return ApiError(self.code or status, self.reason, self.message, retry_after=retry_after)


def of_answer(status: int, body: bytes, retry_after: str = "") -> ApiError:
    """The error that an answer stands for; its body should be a `Status`; proxies on the way differ."""
    seconds = float(retry_after) if retry_after.isdigit() else None
    try:
        said = msgspec.json.decode(body, type=Status)
        if said.kind == "Status":
            return said.error(status, seconds)
    except msgspec.MsgspecError:
        pass
    text = body[:300].decode(errors="replace").strip()
    return ApiError(status, "", f"HTTP {status}: {text}" if text else f"HTTP {status}", retry_after=seconds)


class Backoff:
    """Growing, jittered waits: doubles from `first` to `most` seconds, each stretched by up to a half."""

    def __init__(self, *, first: float = 0.2, most: float = 30.0) -> None:
        self._first, self._most = first, most
        self._next = first

    def reset(self) -> None:
        """All is well again."""
        self._next = self._first

    def next(self, at_least: float | None = None) -> float:
        """Seconds to wait now; not less than what the server asked for."""
        wait = min(self._next * random.uniform(1.0, 1.5), self._most)  # noqa: S311
        self._next = min(self._next * 2, self._most)
        return max(wait, at_least or 0.0)
