"""Exceptions that cross a module's border.

A user's mistake is a `Finding`, never one of these. An exception here means that the world failed us (a port in use, a
missing binary) or that a value handed to a pure function cannot be what it claims to be. Read `findings.py` next.
"""


class TripylonError(Exception):
    """A failure that is shown to the user as one message: what happened, where, and what to do."""


class StartError(TripylonError):
    """Something outside our control keeps us from starting; the message says what to do about it."""
