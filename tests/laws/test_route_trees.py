"""Law of trees: a host's routes as a tree answer each request as the list does that the tree was made of.

Both forms are evaluated here by what Envoy documents: the first route that matches; in a prefix map the longest prefix
of the whole `:path`, query included, and then nothing but the list found there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tripylon.envoy import route_trees
from tripylon.pb import pack
from tripylon.pb.messages import Matcher, Route, RouteList, VirtualHost

SEGMENTS = ("a", "b", "ab", "c", "A", "a.b", "v1", "%20")
REGEXES = (
    *(
        ".*",
        "/a.*",
        "/a/v1|/b/.*",
        "/c/.*|/A",
        "/ab?/.*",
        "/ab*/.+",
        "/v1{0,1}/.*",
        "/a+/c.*",
        "/(a|b)/.+",
        "/v[0-9]+.*",
    ),
    *("(?i)/A/b", r"/a\.b.*", "[*]", "/ab+/.*"),
)


class Asked(NamedTuple):
    """A request, as far as routes here look at it."""

    path: str
    tenant: str
    random: int


def paths(least: int = 1, most: int = 4) -> st.SearchStrategy[str]:
    made = st.lists(st.sampled_from(SEGMENTS), min_size=least, max_size=most).map(lambda words: "/" + "/".join(words))
    return st.builds(lambda path, end: path + end if path != "/" else path, made, st.sampled_from(("", "", "/")))


@st.composite
def routes(draw: st.DrawFn, kinds: tuple[str, ...], least: int) -> Route:
    """A route; `least` segments stand in its path."""
    made = Route()
    match made.match, draw(st.sampled_from(kinds)):
        case place, "path":
            place.path = draw(paths(least))
        case place, "prefix":
            place.path_separated_prefix = draw(paths(least)).rstrip("/") or "/a"
        case place, "regex":
            place.safe_regex.regex = draw(st.sampled_from(REGEXES))
        case place, "any":
            place.prefix = draw(st.sampled_from(("/", "/", "/a", "")))
        case place, "odd":
            place.path = draw(paths(least))
            place.case_sensitive.value = False
    for tenant in draw(st.lists(st.sampled_from("xy"), max_size=1)):
        made.match.headers.add(name="tenant").string_match.exact = tenant
    if draw(st.integers(0, 9)) == 0:
        made.match.runtime_fraction.default_value.numerator = draw(st.integers(0, 100))
    return made


NARROW = st.lists(routes(("path", "path", "prefix", "prefix", "odd"), 2), min_size=95, max_size=140)
WIDE = st.lists(routes(("path", "prefix", "prefix", "regex", "regex"), 0), min_size=6, max_size=10)
ANY = st.lists(routes(("any", "prefix"), 0), max_size=3)
LISTS = st.one_of(
    st.builds(lambda narrow, wide, last: [*narrow, *wide, *last], NARROW, WIDE, ANY),
    st.builds(lambda narrow, wide, last: [*narrow[:50], *wide, *narrow[50:], *last], NARROW, WIDE, ANY),
)
"""Routes for whole paths mostly, so that what is wider, and comes later or between, answers something, too."""

ASKED = st.builds(
    Asked,
    st.one_of(
        st.builds(
            lambda path, tail: path + tail, paths(0, 6), st.sampled_from(("", "", "?", "?a=/b", "/?/", "x", "/x"))
        ),
        st.sampled_from(("*", "", "/%")),
    ),
    st.sampled_from("xyz"),
    st.integers(0, 99),
)


def matches(route: Route, asked: Asked) -> bool:
    """Envoy's `RouteMatch`: the path without its query, and every other condition."""
    path, match = re.split("[?#]", asked.path)[0], route.match
    match match.WhichOneof("path_specifier"):
        case "path":
            sensitive = match.case_sensitive.value or not match.HasField("case_sensitive")
            fits = path == match.path if sensitive else path.lower() == match.path.lower()
        case "path_separated_prefix":
            fits = path == match.path_separated_prefix or path.startswith(match.path_separated_prefix + "/")
        case "prefix":
            fits = path.startswith(match.prefix)
        case _:
            fits = re.fullmatch(match.safe_regex.regex, path) is not None
    drawn = not match.HasField("runtime_fraction") or asked.random < match.runtime_fraction.default_value.numerator
    return fits and drawn and all(each.string_match.exact == asked.tenant for each in match.headers)


def first(listed: Iterable[Route], asked: Asked) -> str | None:
    return next((route.name for route in listed if matches(route, asked)), None)


def by_tree(tree: Matcher, asked: Asked) -> str | None:
    """`xds.type.matcher.v3.Matcher` with a prefix map; in a list in which nothing matches Envoy does not go back."""
    held = tree.matcher_tree.prefix_match_map.map
    found = max((prefix for prefix in held if asked.path.startswith(prefix)), key=len, default=None)
    if found is None and not tree.HasField("on_no_match"):
        return None
    place = held[found] if found is not None else tree.on_no_match
    return first(RouteList.FromString(place.action.typed_config.value).routes, asked)


def named(made: Iterable[Route]) -> list[Route]:
    listed = []
    for number, route in enumerate(made):
        one = Route(name=f"r{number}")
        one.match.CopyFrom(route.match)
        listed.append(one)
    return listed


def parts(listed: Iterable[Route]) -> tuple[route_trees.Part, ...]:
    return tuple(map(route_trees.part, listed))


@settings(max_examples=150, deadline=None)
@given(
    LISTS,
    st.lists(ASKED, min_size=20, max_size=60),
    st.sampled_from((1, 2, 8, 32)),
    st.sampled_from((2, 3, 1000)),
)
def test_tree_and_list_answer_alike(made: list[Route], asked: list[Asked], bucket: int, growth: int) -> None:
    listed = named(made)
    kept = route_trees._BUCKET, route_trees._GROWTH
    route_trees._BUCKET, route_trees._GROWTH = bucket, growth
    try:
        tree = route_trees.matcher(parts(listed))
    finally:
        route_trees._BUCKET, route_trees._GROWTH = kept
    if tree is None:
        return
    answers = tree.matcher_tree.prefix_match_map.map.values()
    held = [RouteList.FromString(each.action.typed_config.value) for each in (*answers, tree.on_no_match)]
    assert sum(len(each.routes) for each in held) <= growth * len(listed), "the lists are bounded"
    for one in asked:
        assert by_tree(tree, one) == first(listed, one), one


def exact(count: int) -> list[Route]:
    made = []
    for number in range(count):
        route = Route()
        route.match.path = f"/things/{number}"
        made.append(route)
    return made


def regex(words: str) -> Route:
    made = Route()
    made.match.safe_regex.regex = words
    return made


def longest(tree: Matcher) -> int:
    answers = tree.matcher_tree.prefix_match_map.map.values()
    return max(len(RouteList.FromString(each.action.typed_config.value).routes) for each in answers)


def test_a_few_regular_expressions_leave_the_lists_short() -> None:
    listed = named([*exact(2000), *(regex(f".*/{word}") for word in ("x", "y", "z"))])
    tree = route_trees.matcher(parts(listed))
    assert tree is not None
    assert longest(tree) <= 40
    for path in ("/things/1999", "/things/0/x", "/z", "/things/2000"):
        assert by_tree(tree, Asked(path, "", 0)) == first(listed, Asked(path, "", 0))


def test_few_routes_stay_a_list() -> None:
    assert route_trees.matcher(parts(named(exact(route_trees.MANY)))) is None


def test_routes_that_paths_do_not_tell_apart_stay_a_list() -> None:
    assert route_trees.matcher(parts(named(regex(f".*/{number}") for number in range(500)))) is None


def test_paths_that_go_on_and_on_are_no_trouble() -> None:
    deep = []
    for number in range(1500):
        route = Route()
        route.match.path_separated_prefix = "/a" * (number + 1)
        deep.append(route)
    host = VirtualHost(name="deep", domains=["*"], routes=named(reversed(deep)))
    route_trees.plant(host)
    held = len(host.routes) or sum(
        len(RouteList.FromString(each.action.typed_config.value).routes)
        for each in (*host.matcher.matcher_tree.prefix_match_map.map.values(), host.matcher.on_no_match)
    )
    assert 1500 <= held <= 4500


def test_the_same_routes_make_the_same_bytes() -> None:
    trees = [route_trees.matcher(parts(named(exact(500)))) for _ in range(2)]
    assert len({pack(tree).value for tree in trees if tree is not None}) == 1


@pytest.mark.parametrize("words", REGEXES)
def test_a_regular_expression_holds_wherever_its_paths_lead(words: str) -> None:
    """Among rules for narrower paths behind it, whatever it begins with."""
    narrow = []
    for number in range(160):
        route = Route()
        route.match.path_separated_prefix = f"/{('a', 'b', 'ab', 'c', 'A', 'abb', 'v', 'v1')[number % 8]}/s{number}"
        narrow.append(route)
    listed = named([regex(words), *narrow])
    tree = route_trees.matcher(parts(listed))
    assert tree is not None
    for route in narrow:
        for tail in ("", "/x", "?q", "0"):
            one = Asked(route.match.path_separated_prefix + tail, "", 0)
            assert by_tree(tree, one) == first(listed, one), one
