"""The reader of documents: a promise is kept to the letter, but for what a document leaves out."""

from __future__ import annotations

import pytest
from tests.live.console import Command, commands, unlike

PAGE = """
Text.

```console
$ start one &
$ ask one
first
…
last
```

```yaml
no: command
```

```console
$ ask two
```
"""


def test_commands_are_read_with_what_they_promise() -> None:
    assert tuple(commands(PAGE)) == (
        Command("start one &"),
        Command("ask one", ("first", "…", "last")),
        Command("ask two"),
    )


@pytest.mark.parametrize(
    ("promised", "printed", "kept"),
    [
        (("a", "b"), "a\r\nb\r\n", True),
        (("a", "…"), "a\nb\nc", True),
        (("a", "…", "c"), "a\nc\n", True),
        (("…", "c"), "a\nb\nc\n", True),
        (("a",), "a\nb\n", False),
        (("a", "c"), "a\nb\nc\n", False),
        (("a", "…", "c"), "a\nb\n", False),
        (("a.c",), "abc\n", False),
    ],
)
def test_only_what_is_left_out_may_differ(promised: tuple[str, ...], printed: str, kept: bool) -> None:
    assert (unlike(Command("ask", promised), printed) == "") is kept
