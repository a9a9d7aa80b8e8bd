"""Large routing tables: a scope with routes of its own for each exact hostname (SRDS), so that a change costs one host.

Of a plain table (RDS and VHDS) Envoy builds all hosts anew for each one that changes, which takes milliseconds for
every thousand. A scoped connection manager writes `<table>|<host>` into a header before it looks for routes and finds
the scope of that key. A request that finds none is led by a filter to the table's fallback scope, where the wildcard
hosts and the catch-all are. The invariant: each request is answered as by the plain table, whatever hostname it bears;
the header is ours alone, on the way in and on the way out. Reasons and figures are in `docs/adr/0017`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tripylon.envoy import names
from tripylon.envoy.source import ads, to_bytes
from tripylon.model.plan import HostKey, RouteTable
from tripylon.pb import pack, to_object
from tripylon.pb.messages import (
    EarlyHeaderMutation,
    FilterConfig,
    HeaderValueOption,
    HttpConnectionManager,
    HttpFilter,
    HttpFilterChainConfig,
    Lua,
    Route,
    RouteConfiguration,
    Router,
    ScopedRouteConfiguration,
    ScopedRoutes,
    VirtualHost,
)
from tripylon.settings import RouteLayout

HEADER = "x-tripylon-scope"
"""The header that bears a scope's key; whatever a client says in it is overwritten."""
MANY_HOSTS = 200
"""A table with more exact hostnames has scopes. Below, Envoy builds it in less than 2 ms, and scopes would cost
requests by a wildcard hostname some microseconds."""

_FILTER = "tripylon.scopes"
_CHAIN = "tripylon.filters"
"""The filter that adds all others, this file's among them, where a scope does not leave it out."""
_SCRIPT = """\
function envoy_on_request(request)
  local headers, info = request:headers(), request:streamInfo()
  if info:routeName() ~= "" then return end
  local asked = headers:get("x-tripylon-scope")
  local lower = string.lower(asked)
  if lower ~= asked then
    headers:replace("x-tripylon-scope", lower)
    request:clearRouteCache()
    request:metadata():get("x")
    if info:routeName() ~= "" then return end
  end
  headers:replace("x-tripylon-scope", string.match(asked, "^[^|]*|") .. "*")
  request:clearRouteCache()
end
"""
"""Looks for routes again: by the hostname in lower case, then in the fallback scope. The route of a request is looked
up when somebody asks for something of it, hence the line about metadata. That a request has found a scope is known by
the name of its route, so every route of a scope has one."""


def is_scoped(layout: RouteLayout, exact_hosts: int) -> bool:
    """Whether a table with so many exact hostnames has scopes."""
    return layout == "scoped" or (layout == "auto" and exact_hosts > MANY_HOSTS)


def has_scope(key: HostKey) -> bool:
    """Whether a host has a scope of its own in a scoped table: an exact hostname, in which a port is never meant."""
    return bool(key.hostname) and not key.hostname.startswith("*.")


# --- The scopes ---


def exact_scope(key: HostKey, host: VirtualHost, filters: Iterable[HttpFilter]) -> ScopedRouteConfiguration:
    """The scope of one exact hostname; `host` takes all that comes, and ends with `otherwise`.

    `filters` are all that routes may set up; a host in which no name of theirs is found is served without them.
    """
    name, body = names.scope(key), to_bytes(host)
    routes = _frame(name)
    if not any(each.name.encode() in body for each in filters):
        routes.typed_per_filter_config[_CHAIN].CopyFrom(pack(FilterConfig(disabled=True)))
    routes.virtual_hosts.append(host)
    return _scope(name, routes)


def otherwise() -> Route:
    """The last route of a scope: the hostname is known, so no other host answers what its routes do not match."""
    route = Route(name="none")
    route.match.prefix = ""
    route.direct_response.status = 404
    return route


def fallback_scope(table: RouteTable, hosts: Iterable[bytes]) -> ScopedRouteConfiguration:
    """The scope of all hosts that have none, out of their serialised virtual hosts."""
    name = names.scope(HostKey(table, ""))
    routes = _frame(name)
    routes.ignore_port_in_host_matching = True
    for host in hosts:
        routes.virtual_hosts.add().ParseFromString(host)
    return _scope(name, routes)


def _frame(name: str) -> RouteConfiguration:
    routes = RouteConfiguration(name=name, request_headers_to_remove=[HEADER])
    routes.validate_clusters.value = False
    return routes


def _scope(name: str, routes: RouteConfiguration) -> ScopedRouteConfiguration:
    scope = ScopedRouteConfiguration(name=name, route_configuration=routes)
    scope.key.fragments.add().string_key = name
    return scope


# --- Who uses them ---


def use(manager: HttpConnectionManager, table: RouteTable) -> None:
    """Has a connection manager take its routes from the scopes of a table; to be called when its filters are there.

    The filters of a request are chosen before the filter of this file finds its route, so one that is off by default
    would stay off for wildcard hosts, authentication included. Here all are on, and do nothing where no route asks. One
    filter adds them, so that the scope of an exact hostname that needs none leaves them all out in one word.
    """
    manager.ClearField("rds")
    manager.scoped_routes.CopyFrom(_scoped_routes())
    early = manager.early_header_mutation_extensions.add()
    early.name = "envoy.http.early_header_mutation.header_mutation"
    early.typed_config.CopyFrom(pack(_key_of(table)))
    *asked, router = manager.http_filters
    chain = HttpFilterChainConfig()
    for each in (_filter(), *asked):
        chain.default_filter_chain.filters.add(name=each.name, typed_config=each.typed_config)
    del manager.http_filters[:]
    manager.http_filters.extend((HttpFilter(name=_CHAIN, typed_config=pack(chain)), router))


def _scoped_routes() -> ScopedRoutes:
    """The same for every connection manager, since those with the same settings share one subscription."""
    routes = ScopedRoutes(name="tripylon")
    extractor = routes.scope_key_builder.fragments.add().header_value_extractor
    extractor.name = HEADER
    extractor.element_separator = ":"
    extractor.index = 0
    routes.scoped_rds.scoped_rds_config_source.CopyFrom(ads())
    return routes


def _key_of(table: RouteTable) -> EarlyHeaderMutation:
    mutation = EarlyHeaderMutation()
    append = mutation.mutations.add().append
    append.header.key = HEADER
    append.header.value = f"{names.route_table(table)}|%REQ(:AUTHORITY)%"
    append.append_action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    return mutation


def _filter() -> HttpFilter:
    """All connection managers share one virtual machine of it for each worker."""
    script = Lua(shared_vm_id="tripylon")
    script.default_source_code.inline_string = _SCRIPT
    built = HttpFilter(name=_FILTER)
    built.typed_config.CopyFrom(pack(script))
    return built


def anchor() -> dict[str, Any]:
    """A listener for the bootstrap that takes no connection and keeps the subscription to scopes.

    When the last connection manager that uses scopes goes, Envoy ends the subscription without a word, and a later one
    waits for an answer that never comes.
    """
    manager = HttpConnectionManager(stat_prefix="tripylon-scopes", scoped_routes=_scoped_routes())
    router = manager.http_filters.add()
    router.name = "envoy.filters.http.router"
    router.typed_config.CopyFrom(pack(Router()))
    packed = {"@type": pack(manager).type_url, **to_object(manager)}
    return {
        "name": "tripylon-scopes",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}},
        "bind_to_port": False,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": packed}]}
        ],
    }
