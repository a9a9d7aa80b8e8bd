"""Every name of the table is a type of the installed Envoy, and behaves as protobuf's own classes do."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tripylon.pb import messages, pack, pool, to_object, type_url
from tripylon.pb.descriptors import envoy_binary
from tripylon.pb.messages import (
    Any,
    Bootstrap,
    Cluster,
    Duration,
    HeaderAppendAction,
    HeaderValueOption,
    HealthStatus,
    HttpConnectionManager,
    HttpFilter,
    Listener,
    Metadata,
    Router,
    Struct,
)
from tripylon.pb.table import MESSAGES

ROOT = Path(__file__).parents[2]


def test_every_name_of_the_table_resolves_to_its_type() -> None:
    """Also shows that nothing else in the module hides a name, as an import of `typing.Any` would."""
    assert set(dir(messages)) == set(MESSAGES)
    assert {name: getattr(messages, name).DESCRIPTOR.full_name for name in MESSAGES} == dict(MESSAGES)


def test_every_type_has_one_exported_name() -> None:
    assert len(set(MESSAGES.values())) == len(MESSAGES)


@pytest.mark.parametrize("folder", ["src", "tests", "tools"])
def test_every_name_that_is_imported_is_in_the_table(folder: str) -> None:
    used = {(path, name) for path in (ROOT / folder).rglob("*.py") for name in imported_names(path)}
    assert {(str(path), name) for path, name in used if name not in MESSAGES} == set()


def imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "tripylon.pb.messages":
            yield from (alias.name for alias in node.names)


def test_an_unknown_name_says_where_to_add_it() -> None:
    with pytest.raises(AttributeError, match=r"'Nothing'; is it in tripylon\.pb\.table"):
        _ = getattr(messages, "Nothing")  # noqa: B009


def test_importing_does_no_work() -> None:
    program = "import tripylon.pb.messages, sys; assert 'google.protobuf.descriptor_pb2' not in sys.modules"
    environment = {**os.environ, "TRIPYLON_ENVOY_BINARY": "/nonexistent/envoy"}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=environment)


def test_a_message_that_is_used_needs_a_binary() -> None:
    program = "from tripylon.pb.messages import Route"
    environment = {**os.environ, "TRIPYLON_ENVOY_BINARY": "/nonexistent/envoy"}
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=60, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "StartError: cannot read Envoy's binary /nonexistent/envoy (No such file or directory)" in done.stderr


def test_well_known_types_have_their_methods() -> None:
    duration = Duration()
    duration.FromMilliseconds(1500)
    cluster = Cluster(name="shop", type=Cluster.EDS, connect_timeout=duration)
    assert cluster.connect_timeout.ToMilliseconds() == 1500
    packed = Any()
    packed.Pack(cluster)
    unpacked = Cluster()
    assert packed.Is(Cluster.DESCRIPTOR)
    assert packed.Unpack(unpacked)
    assert unpacked == cluster
    struct = Struct()
    struct.update({"a": [1, "b", None]})
    assert to_object(struct) == {"a": [1, "b", None]}


def test_enums_are_reached_by_class_and_by_their_own_name() -> None:
    assert HeaderValueOption.OVERWRITE_IF_EXISTS == HeaderAppendAction.OVERWRITE_IF_EXISTS
    assert HealthStatus.Name(HealthStatus.HEALTHY) == "HEALTHY"
    assert Listener(drain_type=Listener.MODIFY_ONLY).drain_type == Listener.DrainType.Value("MODIFY_ONLY")


def test_pack_names_the_type_and_is_the_same_for_the_same_content() -> None:
    one, other = Metadata(), Metadata()
    for name in ("a", "b", "c", "d"):
        one.filter_metadata[name].update({"x": 1})
    for name in ("d", "c", "b", "a"):
        other.filter_metadata[name].update({"x": 1})
    assert pack(one).SerializeToString() == pack(other).SerializeToString()
    assert pack(one).type_url == type_url(one) == type_url(Metadata)
    assert type_url(Router) == "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def test_to_object_opens_packed_messages_under_protobufs_field_names() -> None:
    listed = HttpFilter(name="router", typed_config=pack(Router(suppress_envoy_headers=True)))
    assert to_object(listed) == {
        "name": "router",
        "typed_config": {"@type": type_url(Router), "suppress_envoy_headers": True},
    }


def test_envoy_reads_what_to_object_writes(tmp_path: Path) -> None:
    bootstrap = Bootstrap()
    listener = bootstrap.static_resources.listeners.add()
    listener.name = "web"
    listener.address.socket_address.address = "127.0.0.1"
    listener.address.socket_address.port_value = 0
    manager = HttpConnectionManager(stat_prefix="web")
    manager.http_filters.add(name="router", typed_config=pack(Router()))
    host = manager.route_config.virtual_hosts.add()
    host.name = "all"
    host.domains.append("*")
    route = host.routes.add()
    route.match.prefix = "/"
    route.direct_response.status = 204
    listener.filter_chains.add().filters.add(name="http", typed_config=pack(manager))
    config = tmp_path / "bootstrap.json"
    config.write_text(json.dumps(to_object(bootstrap)))
    command = [str(envoy_binary()), "--mode", "validate", "-l", "error", "-c", str(config)]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_pool_is_private() -> None:
    """A class of another pool does not fit, so a library with other descriptors of the same names cannot disturb us."""
    from google.protobuf import descriptor_pool, duration_pb2

    assert pool() is not descriptor_pool.Default()
    with pytest.raises(TypeError):
        Cluster(connect_timeout=duration_pb2.Duration(seconds=1))  # type: ignore[arg-type]
