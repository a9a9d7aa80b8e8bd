"""What is wrong with files, with the place: the standalone counterpart of findings, made before any object is built."""

from __future__ import annotations

from typing import Literal

import msgspec

from tripylon.values import Ref

Severity = Literal["error", "warning"]


class Problem(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One thing to tell about a file."""

    file: str
    """The file or folder, as a path that begins like the one the user gave."""
    line: int = 0
    """Line, from 1; 0: the file as a whole."""
    column: int = 0
    """Column, from 1; 0: the file as a whole."""
    severity: Severity = "error"
    """`warning` when nothing that we would serve is missing."""
    object: Ref | None = None
    """The object that the document describes, where that much can be read."""
    field: str = ""
    """Path of the field within the object, such as `spec.rules[0].name`; empty: the object as a whole."""
    reason: str
    """One CamelCase word for programs, such as `InvalidSyntax`."""
    message: str
    """What is wrong, in one sentence without its full stop."""
    hint: str = ""
    """What to do about it, fit to follow the message behind a semicolon; empty when the message leaves no doubt."""

    def __str__(self) -> str:
        """`file:line:column: message; hint`, as compilers write it."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}" + (f"; {self.hint}" if self.hint else "")
