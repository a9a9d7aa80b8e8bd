"""Which HTTPS listener took a connection: noted with it, and demanded by routes (Gateway API, misdirected requests).

All HTTPS listeners of a port share one routing table, where a hostname belongs to the listener that should have been
asked. So a host with its 421 stands there once, however many listeners there are.
"""

from __future__ import annotations

from tripylon.pb import pack
from tripylon.pb.messages import FilterChain, NetworkSetFilterState, Route

_KEY = "tripylon.listener"


def note(chain: FilterChain, listener: str) -> None:
    """Has every connection that a filter chain takes bear the id of a listener; goes before what reads requests."""
    settings = NetworkSetFilterState()
    value = settings.on_new_connection.add()
    value.object_key = _KEY
    value.factory_key = "envoy.string"
    value.format_string.text_format_source.inline_string = listener
    network = chain.filters.add()
    network.name = "envoy.filters.network.set_filter_state"
    network.typed_config.CopyFrom(pack(settings))


def demand(route: Route, listener: str) -> None:
    """Has a route match only requests of connections that a listener took."""
    condition = route.match.filter_state.add()
    condition.key = _KEY
    condition.string_match.exact = listener
