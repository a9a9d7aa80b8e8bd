"""What the log says of followed lists: each turn once, and of an API server that is away not a line for every kind."""

from __future__ import annotations

import structlog

from tripylon.kube.reflector import Reflector, State


class WatchLog:
    """Remembers what it said."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._states: dict[str, State] = {}
        self._away: set[str] = set()
        self._said: set[str] = set()

    def note(self, reflector: Reflector, *, may_be_absent: bool = False) -> bool:
        """Say what is new of a list; True when it can be followed again after the server was away.

        `may_be_absent`: nobody can install the kind, so that its absence is no news but for who looks closely.
        """
        title, state = reflector.title, reflector.state
        before = self._states.get(title, "starting")
        self._states[title] = state
        if state == before:
            return False
        if state == "failing" and reflector.unreachable:
            if not self._away:
                self._log.warning("the API server cannot be reached; what is known serves on", error=reflector.message)
            self._away.add(title)
            return False
        returned = title in self._away
        self._away.discard(title)
        if returned and not self._away:
            self._log.info("the API server answers again")
        if returned and state == "live":
            return True
        if state == "absent" and may_be_absent:
            self._log.debug("the API server has no such kind", list=title)
        else:
            self._tell(reflector, state, before)
        return False

    def once(self, message: str) -> None:
        """Say something, the first time."""
        if message not in self._said:
            self._said.add(message)
            self._log.warning(message)

    def forget(self, reflector: Reflector) -> None:
        """The list is followed no longer."""
        self._states.pop(reflector.title, None)
        self._away.discard(reflector.title)

    def _tell(self, reflector: Reflector, state: State, before: State) -> None:
        title = reflector.title
        if state == "forbidden":
            self._log.warning(
                "no permission to follow a kind; the others work",
                list=title,
                error=reflector.message,
            )
        elif state == "failing":
            self._log.warning(
                "a kind cannot be followed just now; what is known serves on", list=title, error=reflector.message
            )
        elif state == "absent":
            self._log.info("waiting for a kind that the API server does not serve", list=title)
        elif before in ("forbidden", "absent", "failing"):
            self._log.info("following a kind now", list=title)
