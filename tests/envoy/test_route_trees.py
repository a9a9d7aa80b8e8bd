"""A host with many rules, from the objects to the bytes: a tree that Envoy takes, with the rules' names in it."""

from __future__ import annotations

from tests.laws import worlds
from tests.laws.worlds import make

from tripylon.api.meta import Resource
from tripylon.envoy import emit
from tripylon.envoy.static import decode
from tripylon.envoy.verify import verify_resources
from tripylon.pb.messages import RouteList, VirtualHost
from tripylon.xds.snapshot import Resource as Published


def rules(count: int) -> list[Resource]:
    """Objects with so many rules for one hostname, ten to a route."""
    objects: list[Resource] = [worlds.EDGE, make("Service", "a", "s", spec={"ports": [{"port": 80}]})]
    for number in range(0, count, 10):
        spec = {
            "parentRefs": [{"name": "edge", "sectionName": "one"}],
            "hostnames": ["many.example.net"],
            "rules": [
                {
                    "matches": [{"path": {"type": "Exact", "value": f"/things/{place}"}}],
                    "backendRefs": [{"name": "s", "port": 80}],
                }
                for place in range(number, number + 10)
            ],
        }
        objects.append(make("HTTPRoute", "a", f"r{number}", spec=spec))
    return objects


def test_a_host_with_many_rules_is_a_tree_that_envoy_takes() -> None:
    everything = emit.everything(worlds.settled(rules(200)))
    flat: list[Published] = [each for named in everything.values() for each in named.values()]
    hosts = decode(flat)[VirtualHost.DESCRIPTOR.full_name]
    host = VirtualHost.FromString(next(body for name, body in hosts.items() if "many.example.net" in name))
    assert not host.routes
    lists = [
        RouteList.FromString(each.action.typed_config.value)
        for each in host.matcher.matcher_tree.prefix_match_map.map.values()
    ]
    assert {route.match.path for each in lists for route in each.routes} == {f"/things/{place}" for place in range(200)}
    assert "HTTPRoute/a/r190/9" in {route.name for each in lists for route in each.routes}
    assert verify_resources(flat) == ()
