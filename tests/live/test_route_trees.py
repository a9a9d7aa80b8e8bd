"""The real Envoy answers by a tree of routes as it does by the list that the tree was made of.

One Envoy holds the same random routes twice, as two hosts; each random request is sent to both.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from tests.laws.specified import Asked
from tests.live.agreement_wire import Client
from tests.live.xds_rig import HOST, free_port

from tripylon.envoy import route_trees
from tripylon.envoy.verify import verify
from tripylon.pb import pack
from tripylon.pb.descriptors import envoy_binary
from tripylon.pb.messages import Bootstrap, HttpConnectionManager, HttpFilter, Route, Router, VirtualHost

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

SEED = 20262
ROUTES = 600
REQUESTS = 2500
SEGMENTS = ("a", "b", "ab", "c", "A", "a.b", "v1", "items", "x", "y")
REGEXES = (
    "/a.*",
    "/a|/b",
    "/ab?/c",
    "/(a|b)/.+/c",
    "/a{1,2}/b",
    "/v[0-9]+",
    "(?i)/A/b/c",
    r"/a\.b",
    ".*/items/x",
    "/.",
)
METHODS = ("GET", "GET", "POST", "PUT", "OPTIONS")


def path(random: Random, longest: int) -> str:
    return "".join(f"/{random.choice(SEGMENTS)}" for _ in range(random.randint(1, longest)))


def route(random: Random, number: int) -> Route:
    made = Route(name=f"r{number}")
    match random.choices(("path", "prefix", "regex", "any"), (12, 12, 1, 0.2))[0]:
        case "path":
            made.match.path = path(random, 4) + random.choice(("", "", "/"))
        case "prefix":
            made.match.path_separated_prefix = path(random, 4)
        case "regex":
            made.match.safe_regex.regex = random.choice(REGEXES)
        case _:
            made.match.prefix = "/"
            made.match.headers.add(name="x-two").string_match.exact = "1"
    if random.random() < 0.2:
        made.match.headers.add(name=":method").string_match.exact = random.choice(METHODS)
    if random.random() < 0.3:
        made.match.headers.add(name="x-one").string_match.safe_regex.regex = random.choice(("[12]", "3"))
    if random.random() < 0.2:
        made.match.query_parameters.add(name="q").string_match.exact = random.choice("12")
    if random.random() < 0.1:
        made.match.grpc.SetInParent()
    header = made.response_headers_to_add.add().header
    header.key, header.value = "x-rule", made.name
    made.direct_response.status = 200
    return made


def asked(random: Random, port: int, routes: list[Route]) -> Asked:
    """A request near some route, or anywhere."""
    match = random.choice(routes).match
    near = match.path or match.path_separated_prefix or path(random, 3)
    whole = near + random.choice(("", "", "", "/", "x", "/x", path(random, 2), "/../a", "/%61"))
    headers = tuple((name, random.choice("123")) for name in ("x-one", "x-two") if random.random() < 0.5)
    query = random.choice(((), (), (("q", "1"),), (("q", "2"), ("r", "/a/b"))))
    grpc = random.random() < 0.15
    return Asked(port, "", whole, "POST" if grpc else random.choice(METHODS), headers, query, None, grpc)


def bootstrap(port: int, hosts: list[VirtualHost]) -> bytes:
    manager = HttpConnectionManager(stat_prefix="trees")
    manager.normalize_path.value = True
    manager.route_config.virtual_hosts.extend(hosts)
    manager.http_filters.append(HttpFilter(name="router", typed_config=pack(Router())))
    made = Bootstrap()
    listener = made.static_resources.listeners.add(name="trees")
    listener.address.socket_address.address = HOST
    listener.address.socket_address.port_value = port
    listener.filter_chains.add().filters.add(name="http", typed_config=pack(manager))
    return pack(made).value


def test_envoy_answers_by_a_tree_as_by_the_list(tmp_path: Path) -> None:
    random = Random(SEED)
    routes = [route(random, number) for number in range(ROUTES)]
    hosts = [VirtualHost(name=name, domains=[f"{name}.example"], routes=routes) for name in ("list", "tree")]
    route_trees.plant(hosts[1])
    assert hosts[1].HasField("matcher")
    assert not hosts[1].routes
    port = free_port()
    config = bootstrap(port, hosts)
    assert verify(config) == ()
    file = tmp_path / "config.pb"
    file.write_bytes(config)
    command = [str(envoy_binary()), "--config-path", str(file), "--disable-hot-restart", "--concurrency", "1"]
    with (tmp_path / "envoy.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            answers = asyncio.run(compare(random, port, routes))
        finally:
            process.send_signal(signal.SIGKILL)
    assert sum(answers.values()) == REQUESTS
    assert len(answers) > ROUTES // 6, "many different routes answer"
    assert answers["404"] > 10, "and none, sometimes"


async def compare(random: Random, port: int, routes: list[Route]) -> Counter[str]:
    """Sends each request to both hosts; how often each route answered."""
    client, found = Client(HOST, port, None), Counter[str]()
    ends_s = time.monotonic() + 20
    while await client.ask(Asked(port, "list.example", "/")) == "closed" and time.monotonic() < ends_s:
        await asyncio.sleep(0.05)
    for _ in range(REQUESTS):
        one = asked(random, port, routes)
        by_list, by_tree = [await client.ask(one._replace(host=f"{name}.example")) for name in ("list", "tree")]
        assert by_tree == by_list, one
        found[by_list] += 1
    client.close()
    return found
