"""EndpointSlices → endpoints: which instances behind a destination take requests (Kubernetes, EndpointSlice)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tripylon.api.core import EndpointSlice
from tripylon.model.cluster_plans import Endpoint
from tripylon.values import is_address


def endpoints(
    slices: Iterable[EndpointSlice], port: Callable[[EndpointSlice], int], *, in_any_state: bool = False
) -> tuple[Endpoint, ...]:
    """Endpoints that take requests, each once and sorted, so that equal sets are equal.

    These are the ready ones, and when there are none, those that still serve while they end; `in_any_state` disregards
    that. `port` is the number that the destination's port has in a slice, 0 when the slice does not have it.
    """
    return tuple(sorted(set(_taking(slices, port, in_any_state=in_any_state)), key=_order))


def _taking(
    slices: Iterable[EndpointSlice], port: Callable[[EndpointSlice], int], *, in_any_state: bool
) -> Iterator[Endpoint]:
    """What is no IP address cannot be sent and is left out; of an endpoint's addresses the first stands for all."""
    numbered = [(slice_, port(slice_)) for slice_ in slices]
    pairs = [(number, endpoint) for slice_, number in numbered if number for endpoint in slice_.endpoints]
    ready = [pair for pair in pairs if pair[1].conditions.ready is not False]
    ending = [pair for pair in pairs if pair[1].conditions.serving]
    for number, endpoint in pairs if in_any_state else ready or ending:
        if can_be_sent(endpoint.addresses):
            yield Endpoint(endpoint.addresses[0], number, endpoint.zone)


def can_be_sent(addresses: tuple[str, ...]) -> bool:
    """Whether an endpoint's first address is one that Envoy takes."""
    return bool(addresses) and is_address(addresses[0])


def _order(endpoint: Endpoint) -> tuple[str, int, str]:
    return (endpoint.address, endpoint.port, endpoint.zone)
