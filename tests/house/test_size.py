"""The size budget, and what no file may hold: small modules, short functions, nothing left for later."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MAX_MODULE, MEDIAN_MODULE, FUNCTIONS_P95 = 600, 150, 45
LATER = re.compile(r"\b(T[O]DO|F[I]XME|X[X]X|H[A]CK)\b")
BARE_IGNORE = re.compile(r"#\s*type:\s*ignore(?!\[)|#\s*noqa(?!:)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> list[Function]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, Function)]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_modules_are_small() -> None:
    sizes = {name(path): lines(path) for path in SOURCES}
    assert {path: size for path, size in sizes.items() if size > MAX_MODULE} == {}
    assert median(sizes.values()) <= MEDIAN_MODULE


def test_functions_are_short() -> None:
    sizes = [(node.end_lineno or 0) - node.lineno + 1 for path in SOURCES for node in functions(path)]
    assert quantiles(sizes, n=100)[94] <= FUNCTIONS_P95


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_module_says_what_it_is(path: Path) -> None:
    words = (ast.get_docstring(tree(path)) or "").split()
    assert len(words) >= 4 or path.name == "__init__.py", "a module's docstring says what it holds, and why"
    assert words


def test_nothing_is_left_for_later() -> None:
    places = [ROOT / "src", ROOT / "tests", ROOT / "tools", ROOT / "examples"]
    files = [path for place in places for path in place.rglob("*") if path.suffix in (".py", ".yaml", ".md")]
    assert [name(path) for path in files if LATER.search(path.read_text())] == []


def test_exemptions_say_from_what() -> None:
    assert [name(path) for path in SOURCES if BARE_IGNORE.search(path.read_text())] == []
