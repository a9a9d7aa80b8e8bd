"""The documents say what the source says: reference pages, messages, metrics, environment variables, exit codes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tripylon.admin.metrics import Metrics
from tripylon.api.kinds import KINDS
from tripylon.api.markers import Text
from tripylon.api.schema import docs, marks, nested
from tripylon.cli import COMMANDS
from tripylon.envoy.options import EmitOptions
from tripylon.files.problems import Problem
from tripylon.graph import Graph
from tripylon.loop import Engine
from tripylon.model.options import Options
from tripylon.values import Ref
from tripylon.xds.cache import Group

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "tripylon"
DOCS = (ROOT / "README.md", *(path for path in (ROOT / "docs").rglob("*.md")), *(ROOT / "examples").rglob("*.md"))

CONDITIONS = (
    "Accepted",
    "AddressesAssigned",
    "Conflicted",
    "InsecureFrontendValidationMode",
    "OverlappingTLSConfig",
    "PartiallyInvalid",
    "Programmed",
    "ResolvedRefs",
    "SupportedVersion",
)
NO_REASONS = {
    *CONDITIONS,
    *(kind.name for kind in KINDS),
    *("List",),  # a kind that is not read
    *("In", "NotIn", "Exists", "DoesNotExist"),  # operators of label selectors
    *("Rule", "Match"),  # what a route drops
    *("Collector",),  # a destination that is no object
    *("Hostname",),  # a type of address
    *("Terminating",),  # how the API server is quoted
}
"""CamelCase words in the source that are something else than reasons."""
_CAMEL_CASE = re.compile(r"[A-Z][a-z]+([A-Z][A-Za-z]*)*")


def test_reference_pages_are_up_to_date() -> None:
    command = (sys.executable, str(ROOT / "tools" / "reference.py"), "--check")
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_field_is_explained() -> None:
    silent = [
        f"{struct.__name__}.{field}"
        for kind in KINDS
        for struct in nested(kind.struct)
        for field, text in docs(struct).items()
        if not text
    ]
    assert not silent


def test_every_reason_has_an_entry_in_the_messages() -> None:
    page = (ROOT / "docs" / "messages.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    documented -= {"Conflicted"}  # of policies; also a condition
    assert reasons() == documented


def test_every_condition_is_named_in_the_messages() -> None:
    page = (ROOT / "docs" / "messages.md").read_text()
    unused = {"InsecureFrontendValidationMode"}  # never turned bad by us
    assert not [name for name in CONDITIONS if f"`{name}`" not in page and name not in unused]


def reasons() -> set[str]:
    """Every word in the source that looks like a reason and is not known to be something else."""
    files = [
        *(SOURCE / "model").glob("*.py"),
        *(SOURCE / "files").glob("*.py"),
        *(path for path in (SOURCE / "status").glob("*.py") if path.name != "features.py"),
        *(SOURCE / "envoy" / "refusals.py", SOURCE / "kube" / "deploy.py", SOURCE / "loop.py", SOURCE / "provision.py"),
    ]
    values = {
        value
        for kind in KINDS
        for struct in nested(kind.struct)
        for mark in marks(struct)
        if isinstance(mark, Text)
        for value in mark.values
    }
    return {word for file in files for word in words(file)} - values - NO_REASONS


def words(file: Path) -> Iterator[str]:
    """The CamelCase words among the texts of a file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _CAMEL_CASE.fullmatch(node.value):
            yield node.value


class Running:
    """As much of a gateway as its metrics ask for."""

    def __init__(self) -> None:
        engine = Engine(Options(), EmitOptions())
        self.graph: Graph = engine.graph
        self.group: Group = engine.group
        self.built = True
        self.problems: tuple[Problem, ...] = ()
        self.restarts = 0

    def locate(self, ref: Ref, field: str = "") -> tuple[str, int, int] | None:
        return None

    async def envoy_metrics(self) -> bytes:
        return b""


def test_every_metric_is_explained() -> None:
    rendered = Metrics(Running()).render().decode()
    made = set(re.findall(r"^# TYPE (tripylon_\w+)(?<!_created) ", rendered, re.MULTILINE))
    page = (ROOT / "docs" / "operating.md").read_text()
    assert made == set(re.findall(r"^\| `(tripylon_\w+)", page, re.MULTILINE))


def test_every_environment_variable_is_explained() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    explained = set(re.findall(r"`(TRIPYLON_\w+)`", page))
    read = {
        word for file in SOURCE.rglob("*.py") for word in re.findall(r"\"(TRIPYLON_[A-Z_]*[A-Z])\"", file.read_text())
    }
    assert read <= explained
    run = (SOURCE / "cli" / "run.py").read_text().partition("def run(")[2].partition(") -> int")[0]
    flags = set(re.findall(r"^    (\w+): ", run, re.MULTILINE)) - {"logging"} | {"log_level", "log_format"}
    assert {f"TRIPYLON_{flag.upper()}" for flag in flags} <= explained


def test_readme_lists_every_command() -> None:
    page = (ROOT / "README.md").read_text()
    assert not [command.name for command in COMMANDS if f"`tripylon {command.name}" not in page]
    assert len(page.splitlines()) <= 200


@pytest.mark.parametrize("page", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), f"{target} is not there"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{target} is not there"


def slug(heading: str) -> str:
    """The anchor of a heading, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
