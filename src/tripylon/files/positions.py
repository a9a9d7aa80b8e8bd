"""Where the fields of a document stand: line and column for a path such as `("spec", "rules", 0)`, counted from 1.

The text is read as a stream of events, and only as far as needed, so that a mistake at the top of a long document costs
little and aliases cost nothing. A field's place is that of its key, an item's place that of its first character.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import yaml

from tripylon.api.problems import Path

_STEP = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_-]*)|\[([0-9]+)\]|\[(['\"]?)(.*?)\3\]")


def field_path(text: str) -> Path:
    """The path that `tripylon.api.validate.path_text` wrote; what follows something unreadable is left out."""
    steps: list[str | int] = []
    at = 0
    while at < len(text) and (match := _STEP.match(text, at)):
        name, index, _, key = match.groups()
        steps.append(int(index) if index is not None else name if name is not None else key)
        at = match.end()
    return tuple(steps)


def positions(text: str, paths: tuple[Path, ...]) -> dict[Path, tuple[int, int]]:
    """Line and column of each path; of the innermost part that is there when the path leads further.

    What cannot be read any more (a syntax error further down) is where the last readable part is.
    """
    finder = _Finder(paths)
    with contextlib.suppress(yaml.YAMLError):
        finder.run(iter(yaml.parse(text, Loader=yaml.CSafeLoader)))
    return finder.found


def first_duplicate(text: str) -> tuple[str, int, int] | None:
    """Key, line and column of the first key that its map had already; None when there is none or no YAML."""
    # Per open container: the keys seen so far (None in a list), and whether a key comes next.
    open_containers: list[tuple[set[str] | None, list[bool]]] = []
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.CollectionEndEvent):
                open_containers.pop()
                continue
            if not isinstance(event, yaml.NodeEvent):
                continue
            keys, expects_key = open_containers[-1] if open_containers else (None, [False])
            if keys is not None:
                if expects_key[0] and isinstance(event, yaml.ScalarEvent) and event.value != "<<":
                    if event.value in keys:
                        return event.value, *_place(event)
                    keys.add(event.value)
                expects_key[0] = not expects_key[0]
            if isinstance(event, yaml.CollectionStartEvent):
                is_map = isinstance(event, yaml.MappingStartEvent)
                open_containers.append((set() if is_map else None, [is_map]))
    except yaml.YAMLError:
        pass
    return None


class _Finder:
    """One walk through the events of a document, for all paths at once."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.found: dict[Path, tuple[int, int]] = dict.fromkeys(paths, (1, 1))
        self.pending = len(self.found)

    def run(self, events: Iterator[yaml.Event]) -> None:
        """Fill `found`, up to the point where every path is settled."""
        for event in events:
            if isinstance(event, yaml.NodeEvent):
                self.node(0, list(self.found), event, events)
                return

    def node(self, depth: int, paths: list[Path], event: yaml.Event, events: Iterator[yaml.Event]) -> None:
        """Walk through the node that `event` begins; all of `paths` lead `depth` steps to it, or further."""
        place = _place(event)
        further: dict[str | int, list[Path]] = {}
        for path in paths:
            if depth == 0 or isinstance(path[depth - 1], int):
                self.found[path] = place
            if len(path) > depth:
                further.setdefault(path[depth], []).append(path)
            else:
                self.pending -= 1
        if isinstance(event, yaml.MappingStartEvent):
            self.mapping(depth, further, events)
        elif isinstance(event, yaml.SequenceStartEvent):
            self.sequence(depth, further, events)
        self.pending -= sum(map(len, further.values()))

    def mapping(self, depth: int, further: dict[str | int, list[Path]], events: Iterator[yaml.Event]) -> None:
        """The keys and values up to the end of the map; what is found leaves `further`."""
        for key in events:
            if isinstance(key, yaml.MappingEndEvent) or not self.pending:
                return
            paths = further.pop(key.value, None) if isinstance(key, yaml.ScalarEvent) else None
            _skip(key, events)
            value = next(events)
            if paths:
                self.found.update(dict.fromkeys(paths, _place(key)))
                self.node(depth + 1, paths, value, events)
            else:
                _skip(value, events)

    def sequence(self, depth: int, further: dict[str | int, list[Path]], events: Iterator[yaml.Event]) -> None:
        """The items up to the end of the list; what is found leaves `further`."""
        for index, item in enumerate(events):
            if isinstance(item, yaml.SequenceEndEvent) or not self.pending:
                return
            if paths := further.pop(index, None):
                self.node(depth + 1, paths, item, events)
            else:
                _skip(item, events)


def _place(event: yaml.Event) -> tuple[int, int]:
    """Line and column where the event begins."""
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _skip(event: yaml.Event, events: Iterator[yaml.Event]) -> None:
    """Leave out the rest of the node that `event` begins."""
    depth = int(isinstance(event, yaml.CollectionStartEvent))
    while depth:
        event = next(events)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
