"""The type checker sees Envoy's messages: wrong names, fields and types are errors before anything runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tripylon.pb import pool

ROOT = Path(__file__).parents[2]

RIGHT = """
from tripylon.pb import pack
from tripylon.pb.messages import Any, Cluster, ClusterHttpProtocolOptions, DiscoveryType, Duration, HeaderAppendAction
from tripylon.pb.messages import HeaderValueOption, RouteConfiguration, Router

def routes(kind: DiscoveryType.ValueType) -> RouteConfiguration:
    made = RouteConfiguration(name="shop")
    host = made.virtual_hosts.add()
    host.domains.append("*")
    route = host.routes.add()
    route.match.prefix = "/"
    route.route.timeout.FromMilliseconds(1500)
    route.typed_per_filter_config["router"].CopyFrom(pack(Router()))
    HeaderValueOption(append_action=HeaderAppendAction.ADD_IF_ABSENT)
    packed: Any = pack(ClusterHttpProtocolOptions())
    Cluster(name=packed.type_url, type=kind, connect_timeout=Duration(seconds=1))
    return made

routes(Cluster.EDS)
"""

WRONG = """
from tripylon.pb.messages import Cluster, HealthStatus, Route, RouteConfiguration
from tripylon.pb.messages import Nothing  # wrong
from google.protobuf.duration_pb2 import Duration
RouteConfiguration(nam="shop")  # wrong
RouteConfiguration().virtual_hostz.add()  # wrong
RouteConfiguration().name = 3  # wrong
Cluster(type=HealthStatus.HEALTHY)  # wrong
Cluster(connect_timeout=Duration())  # wrong
Route().HasField("rout")  # wrong
Route().route.retry_policy.num_retries = 3  # wrong
Route().route.retry_policy.num_retries.value = 3
"""


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stubs", ROOT / "tools" / "stubs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stubs() -> None:
    subprocess.run([sys.executable, str(ROOT / "tools" / "stubs.py")], check=True, timeout=300, capture_output=True)


@pytest.fixture(scope="module")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def mypy(cache: Path, *paths: Path) -> str:
    """What mypy prints about the files under the project's settings."""
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(cache), *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, timeout=110, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.usefixtures("stubs")
@pytest.mark.parametrize("source", [RIGHT, WRONG], ids=["right", "wrong"])
def test_mypy_finds_exactly_the_wrong_lines(source: str, tmp_path: Path, mypy_cache: Path) -> None:
    (tmp_path / "sample.py").write_text(source)
    expected = {number for number, line in enumerate(source.splitlines(), 1) if line.endswith("# wrong")}
    printed = mypy(mypy_cache, tmp_path / "sample.py")
    assert {int(line) for line in re.findall(r"sample\.py:(\d+): error:", printed)} == expected, printed


@pytest.mark.usefixtures("stubs")
def test_every_message_and_field_that_we_name_exists(mypy_cache: Path) -> None:
    """The type checker on every file of ours that uses the messages; it knows exactly the installed Envoy's fields."""
    users = [path for path in sorted((ROOT / "src").rglob("*.py")) if "tripylon.pb" in path.read_text()]
    printed = mypy(mypy_cache, *users)
    problems = r": error: .*\[(attr-defined|call-arg|arg-type|assignment|call-overload|index|union-attr|misc)\]"
    assert [line for line in printed.splitlines() if re.search(problems, line)] == []


def test_stubs_never_take_the_name_of_the_package_envoy(tool: ModuleType, tmp_path: Path) -> None:
    names = {"Router": "envoy.extensions.filters.http.router.v3.Router", "Any": "google.protobuf.Any"}
    tool.write_stubs(tmp_path, names, pool(), "key")
    assert {path.name for path in (tmp_path / ".stubs").iterdir()} == {"envoy_pb"}
    assert (tmp_path / ".stubs/envoy_pb/envoy/extensions/filters/http/router/v3/router_pb2.pyi").is_file()
    assert not list(tmp_path.rglob("*.py"))
    exported = (tmp_path / "src/tripylon/pb/messages.pyi").read_text()
    assert "from envoy_pb.google.protobuf.any_pb2 import Any as Any\n" in exported


def test_stubs_are_current_only_when_all_was_written(tool: ModuleType, tmp_path: Path) -> None:
    names = {"Empty": "google.protobuf.Empty"}
    assert not tool.is_current(tmp_path, "key")
    assert tool.write_stubs(tmp_path, names, pool(), "key") == 1
    assert tool.is_current(tmp_path, "key")
    assert not tool.is_current(tmp_path, "another key")
    (tmp_path / "src/tripylon/pb/messages.pyi").unlink()
    assert not tool.is_current(tmp_path, "key")


def test_a_nested_type_is_exported_from_within_its_message(tool: ModuleType) -> None:
    kind = pool().FindEnumTypeByName("envoy.config.cluster.v3.Cluster.LbPolicy")
    module = "envoy_pb.envoy.config.cluster.v3.cluster_pb2"
    text = tool.exports({"LbPolicy": kind})
    assert f"import {module}\n" in text
    assert f"LbPolicy = {module}.Cluster.LbPolicy\n" in text
