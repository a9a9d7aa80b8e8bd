"""The routes of a host with many rules, as a tree over paths: Envoy passes over a few dozen routes instead of all.

A list of routes costs each request 17 ns for every route before the one that answers. The tree is one map of path
prefixes; the longest that a request's path begins with leads to a short list. The invariant: such a list holds, in the
order of the whole, every route that could match a path with that prefix and no longer one of the map, so that each
request is answered as by the whole list. That must be so, for Envoy never goes back from a list in which nothing
matched. Conditions other than the path stay with their routes. The reasons are in `docs/adr/0016`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tripylon.envoy.source import to_bytes
from tripylon.pb import pack, type_url
from tripylon.pb.messages import HttpRequestHeaderMatchInput, Matcher, Route, RouteList, RouteMatch, VirtualHost

MANY = 100
"""Up to so many routes the list stays: passing over them costs 2 us at most."""
_BUCKET = 32
"""Paths with a common prefix are told apart only if so many routes have it: passing over them costs 0.5 us."""
_GROWTH = 3
"""So many times the routes of the whole a tree may hold, as a route stands in every list in which it could answer."""

_DEEPEST = 64
"""So many times prefixes are told apart within one another; what is deeper stays together."""

_LITERAL = re.compile(r"[A-Za-z0-9/_-]*")
_REPEATED = ("*", "?", "{", "+")
_CUT_OFF = re.compile(r"[?#]")
"""Where Envoy ends the path that routes are matched with; the map is asked for what comes behind, too."""


class Part(NamedTuple):
    """One route of a host: serialised, so that it is only copied into lists, and what it demands of paths."""

    data: bytes
    """As a field of `RouteList`."""
    literal: str
    """Every path that the route matches begins with this."""
    behind: str | None
    """What may follow: None: anything; otherwise one of these characters or nothing."""


class _Anchored(NamedTuple):
    """What a route demands of a path's beginning, as in `Part`."""

    place: int
    """In the order of the whole."""
    literal: str
    behind: str | None


_List = tuple[int, ...]
"""Places of routes, in order."""
_Lists = dict[str, _List]
"""Prefix → the routes for paths that begin with it, and with no longer prefix of these."""


def part(route: Route) -> Part:
    """A route as it goes into a tree or a list."""
    return Part(to_bytes(RouteList(routes=[route])), *_demand(route.match))


def plant(host: VirtualHost) -> None:
    """Turns the routes of a host into a tree, where that is worth it; each request is answered as before."""
    if len(host.routes) > MANY:
        parts = tuple(map(part, host.routes))
        del host.routes[:]
        fill(host, parts)


def fill(host: VirtualHost, parts: Sequence[Part]) -> None:
    """Gives a host its routes: as a tree where that is worth it, else as a list."""
    tree = matcher(parts)
    if tree is not None:
        host.matcher.CopyFrom(tree)
    else:
        host.routes.extend(RouteList.FromString(_joined(parts)).routes)


def matcher(routes: Sequence[Part]) -> Matcher | None:
    """The tree that stands for a list of routes; None: they are few, or their paths do not tell them apart."""
    if len(routes) <= MANY:
        return None
    anchored = tuple(_Anchored(place, each.literal, each.behind) for place, each in enumerate(routes))
    lists = _split("", anchored, ())
    if len(lists) == 1:
        return None
    built = Matcher()
    if whole := lists.pop(""):
        _answer(built.on_no_match, routes, whole)
    tree = built.matcher_tree
    tree.input.name = "path"
    tree.input.typed_config.CopyFrom(pack(HttpRequestHeaderMatchInput(header_name=":path")))
    for prefix, places in lists.items():
        _answer(tree.prefix_match_map.map[prefix], routes, places)
    return built


def _answer(place: Matcher.OnMatch, routes: Sequence[Part], places: _List) -> None:
    place.action.name = "routes"
    place.action.typed_config.type_url = type_url(RouteList)
    place.action.typed_config.value = _joined([routes[each] for each in places])


def _joined(parts: Iterable[Part]) -> bytes:
    """The `RouteList` of these."""
    return b"".join([each.data for each in parts])


# --- What a route demands of a path ---


def _demand(match: RouteMatch) -> tuple[str, str | None]:
    """What is not known to demand anything may match every path, and stands in every list."""
    kind = match.WhichOneof("path_specifier")
    if match.HasField("case_sensitive") and not match.case_sensitive.value:
        return "", None
    if kind == "safe_regex":
        return _beginning(match.safe_regex.regex), None
    literal = str(getattr(match, kind)) if kind in ("path", "prefix", "path_separated_prefix") else ""
    if _CUT_OFF.search(literal):
        return "", None
    return literal, {"path": "", "path_separated_prefix": "/"}.get(kind or "")


def _beginning(regex: str) -> str:
    """The characters with which everything begins that a regular expression matches as a whole; perhaps too few."""
    if "|" in regex:
        return ""
    literal = _LITERAL.match(regex)
    found = literal.group() if literal else ""
    return found[:-1] if regex[len(found) :].startswith(_REPEATED) else found


# --- The lists ---


def _split(prefix: str, below: Sequence[_Anchored], above: _List, *, depth: int = 0) -> _Lists:
    """The lists for all paths that begin with `prefix`.

    `below` are the routes whose literal begins with it, `above` those with a shorter one that can match all the same.
    Splitting ends where few routes are left, or where it would make more of them than `_GROWTH` allows.
    """
    whole = {prefix: _merged(above, below)}
    bound = _GROWTH * len(below)
    if len(below) <= _BUCKET or len(above) > bound or depth == _DEEPEST:
        return whole
    own, groups = _grouped(prefix, below)
    kept, total = list(own), 0
    lists: _Lists = {}
    for group in sorted(groups, key=lambda each: (len(each), each[0].literal)):
        if len(kept) + len(group) <= _BUCKET:
            kept.extend(group)
            continue
        longer = _common([each.literal for each in group])
        passed = [each.place for each in own if _may_go_on(each, longer)]
        found = _split(longer, group, tuple(sorted((*above, *passed))), depth=depth + 1)
        total += sum(map(len, found.values()))
        if total > bound:
            return whole
        lists.update(found)
    lists[prefix] = _merged(above, kept)
    return lists if total + len(lists[prefix]) <= bound else whole


def _grouped(prefix: str, below: Iterable[_Anchored]) -> tuple[list[_Anchored], Iterable[list[_Anchored]]]:
    """The routes with the prefix as their literal, and the others by the character that follows it."""
    own: list[_Anchored] = []
    groups: defaultdict[str, list[_Anchored]] = defaultdict(list)
    for each in below:
        if each.literal == prefix:
            own.append(each)
        else:
            groups[each.literal[len(prefix)]].append(each)
    return own, groups.values()


def _common(literals: Sequence[str]) -> str:
    """The longest beginning that all share."""
    least, greatest = min(literals), max(literals)
    differing = (place for place, pair in enumerate(zip(least, greatest, strict=False)) if pair[0] != pair[1])
    return least[: next(differing, len(least))]


def _may_go_on(route: _Anchored, path: str) -> bool:
    """Whether a route can match paths that begin with `path`, which is longer than its literal."""
    return route.behind is None or path[len(route.literal)] in route.behind


def _merged(above: _List, below: Iterable[_Anchored]) -> _List:
    return tuple(sorted((*above, *(each.place for each in below))))
