"""Which series Envoy keeps: what documents, dashboards and tests name is kept, and nothing else is promised."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tripylon.api.parameters import StatsMatcher
from tripylon.envoy.bootstrap import bootstrap
from tripylon.envoy.series import PREFIXES, SUFFIXES, Json, chosen, every, usual
from tripylon.envoy.verify import verify

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operating.md"
_NAME = re.compile(r"\benvoy_(?:server|listener|cluster|http|tcp|udp|control_plane|overload|listener_manager)_\w+")
_CODES = re.compile(r"_rq_xx\b")


def written(name: str) -> str:
    """A name or part of one as Prometheus has it."""
    return name.replace(".", "_")


def kept(name: str) -> bool:
    """Whether a series, by its name in Prometheus without labels, is kept."""
    beginnings = tuple(f"envoy_{written(prefix)}" for prefix in PREFIXES)
    ends = tuple(written(suffix) for suffix in SUFFIXES)
    plain = _CODES.sub("_rq_5xx", re.sub(r"_(bucket|sum|count)$", "", name))
    return plain.startswith(beginnings) or plain.endswith(ends)


def named() -> Iterator[tuple[str, str]]:
    """Every series that a file of the project names, with the file."""
    for folder in ("docs", "charts", "examples", "tests"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".md", ".yaml", ".yml", ".json", ".tpl", ".py") and path != Path(__file__):
                for found in _NAME.findall(path.read_text(errors="replace")):
                    if not found.endswith("_"):
                        yield str(path.relative_to(ROOT)), found


def test_every_series_that_is_named_is_kept() -> None:
    found = set(named())
    assert any(path.startswith("tests/live") for path, _ in found)  # so the search finds something
    assert not {(path, name) for path, name in found if not kept(name)}


def test_the_page_lists_what_is_kept() -> None:
    page = PAGE.read_text().partition("### Envoy's own")[2].partition("## Exit codes")[0]
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    names = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    ends = {f"…{written(suffix)}" for suffix in SUFFIXES}
    assert names == ends | {f"envoy_{written(prefix)}*" for prefix in PREFIXES}


CHOICES = [
    {"inclusionList": [{"prefix": "http."}, {"suffix": ".membership_total", "ignoreCase": True}]},
    {"inclusionList": [{"safeRegex": "cluster\\..*"}, {"exact": "server.live"}, {"contains": "rq"}]},
    {"exclusionList": [{"prefix": "cluster."}]},
]


@pytest.mark.parametrize(
    "stats", [usual(), usual(".more"), every(), *(chosen(msgspec.convert(each, StatsMatcher)) for each in CHOICES)]
)
def test_envoy_takes_every_choice(stats: Json) -> None:
    made = bootstrap("node", "group", ads="/run/ads.sock", admin="/run/admin.sock", stats=stats)
    assert json.loads(made)["stats_config"] == stats
    assert verify(made) == ()


def test_what_a_user_chooses_leaves_what_ends_a_proxy_in_order() -> None:
    found = json.dumps(chosen(msgspec.convert(CHOICES[0], StatsMatcher)))
    assert '{"suffix": ".downstream_cx_active"}' in found
    assert '{"suffix": ".downstream_rq_active"}' in found
    assert '{"suffix": ".membership_total", "ignore_case": true}' in found
    assert chosen(None) == usual()
