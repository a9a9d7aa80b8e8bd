"""The incremental graph: tables of inputs, tables derived from them, and a flush that recomputes what changes reach.

A `Table` names a key → value mapping, an `Index` names a grouping of one, a `Derive` says how the values of a table are
built. These three are plain constants, so a build function never sees the graph: it gets a `Read`, asks it for values,
and every question is recorded. When an answer changes, exactly the keys that asked are built again.

The one invariant, tested with Hypothesis in `tests/laws`: after any sequence of puts and deletes the content equals
that of a fresh graph fed with the final state. Read `world/world.py` next for the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Set
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from tripylon.values import Built

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
G = TypeVar("G", bound=Hashable)
T = TypeVar("T")

_Cell = tuple["_Node", Any]
_Bag = tuple[Any, ...] | dict[Any, None]
"""Different things in order of arrival: few are a tuple, for its size, many a dict, for its speed."""
_FEW = 8
_NO_KEYS: tuple[Any, ...] = ()
_NO_GROUPS: dict[Any, None] = {}
_Part = tuple[Callable[..., Any], object, tuple[object, ...], Any]
"""A part of a row that is kept for the next build: how and of what it was made, and what came out."""
_NO_PARTS: dict[int, _Part] = {}


class Table(Generic[K, V]):
    """Names a mapping of the graph; carries the types of its keys and values, and no data."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Table({self.name})"


class Index(Generic[G, K, V]):
    """Names a grouping of a table's rows: `keys(key, value)` says under which group keys a row is found.

    `keys` is asked again when the row goes, so it must depend on nothing else.
    """

    __slots__ = ("keys", "name", "table")

    def __init__(self, name: str, table: Table[K, V], keys: Callable[[K, V], Iterable[G]]) -> None:
        self.name = name
        self.table = table
        self.keys = keys

    def __repr__(self) -> str:
        return f"Index({self.name})"


class Read(Protocol):
    """How a build function asks for values; each answer is tracked."""

    def get(self, table: Table[K, V], key: K) -> V | None:
        """The value at `key`, or None."""

    def lookup(self, index: Index[G, K, V], group: G) -> tuple[V, ...]:
        """All values in a group, in no particular order: sort before use."""

    def members(self, index: Index[G, K, V], group: G) -> tuple[K, ...]:
        """The keys of all rows in a group, in no particular order."""

    def count(self, index: Index[G, K, V], group: G) -> int:
        """How many rows a group has."""

    def kept(self, make: Callable[..., T], of: object, *given: object) -> T:
        """`make(of, *given)`, as it came out when this row was built last, if it was made of this very object then.

        For rows of many parts of which a change touches few. `make` must be a pure function of what it is given.
        """


class Derive(Generic[K, V]):
    """Says how the rows of `table` come about.

    A key exists while any of `sources` (a table's keys, or an index's groups) has it; `build(read, key)` returns its
    value and findings, or None for no row. `build` must be a pure function of what it reads.
    """

    __slots__ = ("build", "sources", "table")

    def __init__(
        self,
        table: Table[K, V],
        sources: tuple[Table[K, Any] | Index[K, Any, Any], ...],
        build: Callable[[Read, K], Built[V, Any] | None],
    ) -> None:
        self.table = table
        self.sources = sources
        self.build = build


class Changes:
    """What one flush changed: keys per table (values differ, appeared or went), and the subjects whose findings did."""

    __slots__ = ("subjects", "tables")

    def __init__(self) -> None:
        self.tables: dict[Table[Any, Any], dict[Any, None]] = {}
        self.subjects: set[Any] = set()

    def keys(self, table: Table[K, V]) -> Set[K]:
        """Changed keys of one table, in the order in which they changed."""
        return self.tables.get(table, _NO_GROUPS).keys()

    def __bool__(self) -> bool:
        return bool(self.tables or self.subjects)


class _Sizes:
    """Who asked how many rows the groups of an index have: rows that only change do not concern them."""

    __slots__ = ("readers",)

    def __init__(self) -> None:
        self.readers: dict[Any, _Bag] = {}


class _Groups:
    """The state of one index: group → keys, group → cells that asked for it, nodes that are fed by it."""

    __slots__ = ("feeds", "index", "members", "readers", "sizes")

    def __init__(self, index: Index[Any, Any, Any]) -> None:
        self.index = index
        self.members: dict[Any, _Bag] = {}
        self.readers: dict[Any, _Bag] = {}
        self.feeds: list[_Node] = []
        self.sizes = _Sizes()

    def moved(self, key: Any, old: Any, new: Any) -> None:
        """Re-files a row whose value changed (None: there was or is none) and marks whoever is concerned."""
        before = dict.fromkeys(self.index.keys(key, old)) if old is not None else _NO_GROUPS
        after = dict.fromkeys(self.index.keys(key, new)) if new is not None else _NO_GROUPS
        for group in before:
            if group not in after:
                _mark(self.sizes.readers.get(group))
                if not _take(self.members, group, key):
                    self._appeared_or_went(group)
            _mark(self.readers.get(group))
        for group in after:
            if group not in before:
                _mark(self.sizes.readers.get(group))
                if _add(self.members, group, key) == 1:
                    self._appeared_or_went(group)
                _mark(self.readers.get(group))

    def _appeared_or_went(self, group: Any) -> None:
        for node in self.feeds:
            node.dirty[group] = None


class _Node:
    """The state of one table."""

    __slots__ = (
        "changed",
        "deps",
        "derive",
        "dirty",
        "feeds",
        "findings",
        "groups",
        "parts",
        "readers",
        "rows",
        "sources",
        "table",
    )

    def __init__(self, table: Table[Any, Any], derive: Derive[Any, Any] | None) -> None:
        self.table = table
        self.derive = derive
        self.rows: dict[Any, Any] = {}
        self.findings: dict[Any, tuple[Any, ...]] = {}
        self.readers: dict[Any, _Bag] = {}
        self.groups: list[_Groups] = []
        self.feeds: list[_Node] = []
        self.dirty: dict[Any, None] = {}
        """Keys to build anew, in order: what came together lies together in memory, and is built in less time so."""
        self.changed: dict[Any, None] = {}
        """Keys whose rows differ, appeared or went since the last flush."""
        self.deps: dict[Any, tuple[Any, ...]] = {}
        """What the build of each key asked, in order: place, key, place, key and so on."""
        self.parts: dict[Any, dict[int, _Part]] = {}
        """What builds keep for the next one of the same key, by the identity of what it was made of."""
        self.sources: list[dict[Any, Any]] = []

    def set(self, key: Any, value: Any) -> bool:
        """Stores a row (None removes it); False and no effect when nothing differs."""
        old = self.rows.get(key)
        if old is value or old == value:
            return False
        if value is None:
            del self.rows[key]
        else:
            self.rows[key] = value
        if (old is None) != (value is None):
            for node in self.feeds:
                node.dirty[key] = None
        self.changed[key] = None
        _mark(self.readers.get(key))
        for groups in self.groups:
            groups.moved(key, old, value)
        return True


def _mark(cells: _Bag | None) -> None:
    if cells:
        for node, key in cells:
            node.dirty[key] = None


def _add(bags: dict[Any, _Bag], name: Any, item: Any) -> int:
    """Puts something new into one of the bags; how many things that bag holds now."""
    bag = bags.get(name)
    if bag is None:
        bags[name] = (item,)
        return 1
    if isinstance(bag, tuple):
        if len(bag) < _FEW:
            bags[name] = (*bag, item)
            return len(bag) + 1
        bag = bags[name] = dict.fromkeys(bag)
    bag[item] = None
    return len(bag)


def _take(bags: dict[Any, _Bag], name: Any, item: Any) -> int:
    """Takes something out of one of the bags, which goes when it is empty; how many things are left in it."""
    bag = bags[name]
    if isinstance(bag, tuple):
        bags[name] = bag = tuple([each for each in bag if each != item])
    else:
        del bag[item]
    if not bag:
        del bags[name]
    return len(bag)


def _questions(deps: tuple[Any, ...]) -> dict[tuple[_Node | _Groups | _Sizes, Any], None]:
    """What was asked, each place and key once."""
    return dict.fromkeys(zip(deps[::2], deps[1::2], strict=True))


def _place_order(place: tuple[Table[Any, Any], Any]) -> tuple[str, str]:
    table, key = place
    return table.name, str(key)


class _Tracker:
    """The `Read` of one build: answers, and remembers what was asked."""

    __slots__ = ("_before", "_groups", "_nodes", "asked", "parts")

    def __init__(
        self,
        nodes: Mapping[Table[Any, Any], _Node],
        groups: Mapping[Index[Any, Any, Any], _Groups],
        before: Mapping[int, _Part],
    ) -> None:
        self._nodes = nodes
        self._groups = groups
        self._before = before
        self.parts: dict[int, _Part] = {}
        self.asked: list[Any] = []
        """As in `_Node.deps`."""

    def get(self, table: Table[K, V], key: K) -> V | None:
        node = self._nodes[table]
        self.asked += node, key
        value: V | None = node.rows.get(key)
        return value

    def lookup(self, index: Index[G, K, V], group: G) -> tuple[V, ...]:
        groups = self._groups[index]
        self.asked += groups, group
        rows = self._nodes[index.table].rows
        return tuple([rows[key] for key in groups.members.get(group, _NO_KEYS)])

    def members(self, index: Index[G, K, V], group: G) -> tuple[K, ...]:
        groups = self._groups[index]
        self.asked += groups, group
        return tuple(groups.members.get(group, _NO_KEYS))

    def count(self, index: Index[G, K, V], group: G) -> int:
        groups = self._groups[index]
        self.asked += groups.sizes, group
        return len(groups.members.get(group, _NO_KEYS))

    def kept(self, make: Callable[..., T], of: object, *given: object) -> T:
        part = self._before.get(id(of))
        if part is None or part[0] is not make or part[2] != given:
            part = (make, of, given, make(of, *given))
        self.parts[id(of)] = part  # which keeps `of` alive, so that nothing else gets its identity
        made: T = part[3]
        return made


class Graph:
    """Holds the rows of all tables; `put` and `delete` change inputs, `flush` brings the derived tables up to date.

    `derives` must be in dependency order: a build function may read only inputs and tables derived before its own.
    `subject(finding)` names the object that a finding is about; `on_error(table, key, error)` turns a build function's
    exception, which is a bug of ours, into findings: the row keeps its previous value.
    """

    def __init__(
        self,
        *,
        inputs: Iterable[Table[Any, Any]],
        derives: Iterable[Derive[Any, Any]],
        indexes: Iterable[Index[Any, Any, Any]],
        subject: Callable[[Any], Hashable],
        on_error: Callable[[Table[Any, Any], Any, Exception], tuple[Any, ...]],
    ) -> None:
        self._nodes: dict[Table[Any, Any], _Node] = {table: _Node(table, None) for table in inputs}
        self._order: list[_Node] = []
        self._groups: dict[Index[Any, Any, Any], _Groups] = {}
        self._subject = subject
        self._on_error = on_error
        self._findings: dict[Any, dict[tuple[Table[Any, Any], Any], tuple[Any, ...]]] = {}
        self._subjects: set[Any] = set()
        derives = tuple(derives)
        for derive in derives:
            node = _Node(derive.table, derive)
            self._nodes[derive.table] = node
            self._order.append(node)
        for index in indexes:
            groups = self._groups[index] = _Groups(index)
            self._nodes[index.table].groups.append(groups)
        for derive in derives:
            self._feed(derive)

    def _feed(self, derive: Derive[Any, Any]) -> None:
        node = self._nodes[derive.table]
        for source in derive.sources:
            feeder: _Node | _Groups
            if isinstance(source, Index):
                feeder = self._groups[source]
                node.sources.append(feeder.members)
            else:
                feeder = self._nodes[source]
                node.sources.append(feeder.rows)
            feeder.feeds.append(node)

    def put(self, table: Table[K, V], key: K, value: V) -> bool:
        """Sets an input row; False when it equals what is there, and then nothing is recomputed."""
        return self._nodes[table].set(key, value)

    def delete(self, table: Table[K, V], key: K) -> bool:
        """Removes an input row; False when there was none."""
        return self._nodes[table].set(key, None)

    def get(self, table: Table[K, V], key: K) -> V | None:
        """The row at `key` now; derived rows are as of the last flush."""
        value: V | None = self._nodes[table].rows.get(key)
        return value

    def rows(self, table: Table[K, V]) -> Mapping[K, V]:
        """All rows of a table; read only."""
        return self._nodes[table].rows

    def group(self, index: Index[G, K, V], group: G) -> Iterator[V]:
        """The rows of one group."""
        rows = self._nodes[index.table].rows
        return (rows[key] for key in self._groups[index].members.get(group, _NO_KEYS))

    def group_size(self, index: Index[G, K, V], group: G) -> int:
        """How many rows one group has."""
        return len(self._groups[index].members.get(group, _NO_KEYS))

    def findings(self, subject: Hashable) -> tuple[Any, ...]:
        """All findings about one object; the order is the same whatever the order of changes was."""
        places = self._findings.get(subject, {})
        return tuple(finding for place in sorted(places, key=_place_order) for finding in places[place])

    def all_findings(self) -> Iterator[Any]:
        """Every finding there is."""
        for found in self._findings.values():
            for findings in found.values():
                yield from findings

    def flush(self, *, only: Collection[Table[Any, Any]] | None = None) -> Changes:
        """Recomputes what the changes since the last flush can reach; returns what differs now.

        `only` in these tables, if they are named: the others wait for the next flush.
        """
        for node in self._order:
            if only is not None and node.table not in only:
                continue
            while node.dirty:
                dirty, node.dirty = node.dirty, {}
                for key in dirty:
                    self._rebuild(node, key)
        return self._taken(only)

    def advance(self, most: int) -> bool:
        """Does a part of what the next `flush` would do: so many rows, or fewer. False when nothing is left."""
        node = next((each for each in self._order if each.dirty), None)
        if node is None:
            return False
        for key in list(islice(node.dirty, most)):
            del node.dirty[key]
            self._rebuild(node, key)
        return True

    def _taken(self, only: Collection[Table[Any, Any]] | None) -> Changes:
        """What changed, in these tables if they are named; it is forgotten here."""
        changes = Changes()
        changes.subjects, self._subjects = self._subjects, set()
        for node in self._nodes.values():
            if node.changed and (only is None or node.table in only):
                changes.tables[node.table], node.changed = node.changed, {}
        return changes

    def _rebuild(self, node: _Node, key: Any) -> None:
        for source in node.sources:
            if key in source:
                break
        else:
            self._settle(node, key, [], None)
            node.parts.pop(key, None)
            return
        tracker = _Tracker(self._nodes, self._groups, node.parts.get(key, _NO_PARTS))
        assert node.derive is not None
        try:
            built = node.derive.build(tracker, key)
        except Exception as error:  # noqa: BLE001 - a bug in one build function must not stop its neighbours
            built = Built(node.rows.get(key), self._on_error(node.table, key, error))
        self._settle(node, key, tracker.asked, built)
        if tracker.parts:
            node.parts[key] = tracker.parts
        elif key in node.parts:
            del node.parts[key]

    def _settle(self, node: _Node, key: Any, asked: list[Any], built: Built[Any, Any] | None) -> None:
        """Takes in what a build asked and what came of it; None: no row."""
        before, after = node.deps.get(key, _NO_KEYS), tuple(asked)
        if before != after:
            self._depend(node, key, before, after)
        node.set(key, built.value if built is not None else None)
        findings = built.findings if built is not None else ()
        if findings or key in node.findings:
            self._report(node, key, findings)

    def _depend(self, node: _Node, key: Any, before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
        cell: _Cell = (node, key)
        known, wanted = _questions(before), _questions(after)
        for question in known:
            if question not in wanted:
                place, asked = question
                _take(place.readers, asked, cell)
        for question in wanted:
            if question not in known:
                place, asked = question
                _add(place.readers, asked, cell)
        if after:
            node.deps[key] = after
        else:
            del node.deps[key]

    def _report(self, node: _Node, key: Any, findings: tuple[Any, ...]) -> None:
        before = node.findings.get(key, ())
        if before == findings:
            return
        source = (node.table, key)
        for subject in {self._subject(finding) for finding in before}:
            self._subjects.add(subject)
            places = self._findings[subject]
            del places[source]
            if not places:
                del self._findings[subject]
        for finding in findings:
            subject = self._subject(finding)
            self._subjects.add(subject)
            places = self._findings.setdefault(subject, {})
            places[source] = (*places.get(source, ()), finding)
        if findings:
            node.findings[key] = findings
        else:
            node.findings.pop(key, None)
