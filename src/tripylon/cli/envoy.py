"""`tripylon envoy`: the Envoy configuration that files come to, as JSON, sorted out by Gateway.

Private keys are left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tripylon.cli import FINE, UsageError
from tripylon.cli.options import QUIET, Logging, Paths, existing

if TYPE_CHECKING:
    from tripylon.cli.offline import Offline
    from tripylon.values import Name

Sections = dict[str, list[dict[str, Any]]]


def envoy(
    *paths: Paths,
    gateway: Annotated[str, Parameter(help="Only this one: namespace/name, or the name.", show_env_var=False)] = "",
    logging: Logging = QUIET,
) -> int:
    """Print the Envoy configuration of each Gateway as JSON.

    An object with one entry for each Gateway; with `--gateway` that entry alone. What is wrong with the files is
    counted on stderr, and left out of the configuration.
    """
    logging.configure()
    from tripylon.cli.offline import load
    from tripylon.cli.output import print_json
    from tripylon.cli.table import summary

    offline = load(existing(paths))
    made = {str(name): configuration(offline, name) for name in _gateways(offline)}
    if gateway:
        print_json(_chosen(made, gateway))
    else:
        print_json(made)
    notices = offline.notices()
    if notices:
        print(f"{summary(notices)}; see `tripylon check`.", file=sys.stderr)
    return FINE


def configuration(offline: Offline, gateway: Name) -> Sections:
    """Everything that is sent for one gateway, by kind of resource."""
    from tripylon.envoy import emit, names
    from tripylon.envoy.plain import plain
    from tripylon.model.gateways import GATEWAY_PLANS
    from tripylon.model.hosts import HOSTS
    from tripylon.model.plan import HostKey
    from tripylon.model.tls import GATEWAY_TLS
    from tripylon.xds.snapshot import CDS, EDS, LDS, RDS, SDS, SRDS, VHDS

    graph = offline.graph
    plan, tls = graph.get(GATEWAY_PLANS, gateway), graph.get(GATEWAY_TLS, gateway)
    hosts = [key for key in graph.rows(HOSTS) if key.table.gateway == gateway]
    clusters = _clusters(offline, gateway)
    secrets = {name for listener in (tls.listeners if tls else ()) for name in listener.certificates}
    usable = [listener for listener in (plan.listeners if plan else ()) if listener.usable]
    addresses = plan.addresses if plan else ()
    sockets = {(each.port, address, each.protocol == "UDP") for each in usable for address in addresses}
    tables = {each.table(gateway) for each in usable if each.http}
    wanted = {
        "listeners": (LDS, {names.listener(gateway, *socket) for socket in sockets}),
        "routeConfigurations": (RDS, set(map(names.route_table, tables))),
        "virtualHosts": (VHDS, {names.virtual_host(key) for key in hosts}),
        "scopes": (SRDS, {names.scope(key) for key in (*hosts, *(HostKey(table, "") for table in tables))}),
        "clusters": (CDS, clusters),
        "endpoints": (EDS, clusters),
        "secrets": (SDS, {names.secret(name) for name in secrets}),
    }
    everything = emit.everything(graph)
    return {
        section: [plain(everything[url][name]) for name in sorted(chosen & everything[url].keys())]
        for section, (url, chosen) in wanted.items()
    }


def _gateways(offline: Offline) -> Iterable[Name]:
    from tripylon.model.gateways import GATEWAY_PLANS

    return sorted(offline.graph.rows(GATEWAY_PLANS))


def _clusters(offline: Offline, gateway: Name) -> set[str]:
    from tripylon.envoy import names
    from tripylon.model.route_plans import ROUTE_PLANS
    from tripylon.model.stream_plans import STREAMS

    streams = [plan for key, plan in offline.graph.rows(STREAMS).items() if key.gateway == gateway]
    sessions = {names.stream(plan.key) for plan in streams if plan.key.protocol == "UDP"}
    routes = offline.graph.rows(ROUTE_PLANS).values()
    attached = (route for route in routes if any(parent.gateway == gateway for parent in route.parents))
    found = {names.cluster(key) for route in attached for key in route.clusters}
    return found | sessions | {names.cluster(key) for plan in streams for key in plan.clusters}


def _chosen(made: Mapping[str, Sections], gateway: str) -> Sections:
    found = [name for name in made if gateway in (name, name.partition("/")[2])]
    if len(found) != 1:
        known = ", ".join(made) or "none"
        raise UsageError(f"{'more than one' if found else 'no'} Gateway is named {gateway!r}; there are: {known}")
    return made[found[0]]
