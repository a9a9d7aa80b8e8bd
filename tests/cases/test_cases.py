"""The main suite: objects in, facets out; see README.md beside this file for the language of a case.

`--update` rewrites what is expected with what is. Every case's output is also put before the real Envoy.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.cases.facets import actual
from tests.cases.harness import NOW, Case, load, paths, run
from tests.cases.together import refused_by_envoy

from tripylon.api.kinds import kind_of
from tripylon.api.validate import validate
from tripylon.status.desired import desired, with_status

PATHS = paths()
LEAST = 120
"""How many cases there are to be."""
BATCH = 30


def _id(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", PATHS, ids=_id)
def test_case(path: Path, request: pytest.FixtureRequest) -> None:
    case = load(path)
    found = actual(run(case), case.expect)
    if request.config.getoption("--update", default=False):
        _rewrite(case, found)
        return
    assert _dump(found) == _dump(case.expect), case.title


@pytest.mark.parametrize("start", range(0, len(PATHS), BATCH))
def test_envoy_takes_every_case(start: int, tmp_path: Path) -> None:
    cases = [load(path) for path in PATHS[start : start + BATCH]]
    assert refused_by_envoy(cases, tmp_path) == []


def test_every_status_is_one_that_a_cluster_would_take() -> None:
    for path in PATHS:
        outcome = run(load(path))
        for resource in outcome.resources:
            programming = outcome.programming
            status = desired(outcome.graph, resource, options=outcome.options, programming=programming, now=NOW)
            assert validate(kind_of(resource), with_status(resource, status)) == (), (path, resource.ref)


def test_there_are_enough_cases_and_each_has_its_own_title() -> None:
    titles = [load(path).title for path in PATHS]
    assert len(titles) >= LEAST
    assert len(set(titles)) == len(titles)


def _dump(expected: object) -> str:
    return yaml.safe_dump(expected, sort_keys=True, width=1000, allow_unicode=True)


def _rewrite(case: Case, found: dict[str, object]) -> None:
    """Everything in front of `expect:` stays as it was written."""
    if _dump(found) == _dump(case.expect):
        return
    head, _, _ = case.path.read_text().partition("\nexpect:")
    body = yaml.safe_dump({"expect": found}, sort_keys=False, width=110, allow_unicode=True)
    case.path.write_text(f"{head.rstrip()}\n{body}")
