"""Which entry of `spec.addresses` gets which address, whatever is asked for and whatever there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tripylon.api.core import Service, ServiceSpec
from tripylon.api.gateway import Gateway, GatewaySpec, GatewaySpecAddress
from tripylon.api.meta import ObjectMeta
from tripylon.kube.addresses import reached, within_cluster
from tripylon.model.addresses import CLUSTER, SENTINEL, assigned, canonical

OUTSIDE = ("192.0.2.1", "192.0.2.2", "2001:db8::1")
WITHIN = ("10.96.0.1", "10.96.0.2", "fd00::1")
ROUTABILITIES = ("", CLUSTER, SENTINEL, "example.com/CorpWan")

ENTRIES = st.lists(
    st.builds(
        GatewaySpecAddress,
        value=st.sampled_from(("", "", *OUTSIDE, *WITHIN, "2001:DB8:0::1")),
        routability=st.sampled_from(ROUTABILITIES),
    ),
    min_size=1,
    max_size=5,
)


def service(type_: str, *, within: tuple[str, ...] = (), outside: tuple[str, ...] = ()) -> Service:
    return Service(
        metadata=ObjectMeta(name="s"), spec=ServiceSpec(type=type_, cluster_ips=within, external_ips=outside)
    )


@given(
    ENTRIES,
    st.none() | st.builds(tuple, st.lists(st.sampled_from(OUTSIDE), unique=True)),
    st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_every_entry_gets_one_address_of_its_own_kind_or_none(
    entries: list[GatewaySpecAddress], outside: tuple[str, ...] | None, there: list[bool]
) -> None:
    spec = GatewaySpec(gateway_class_name="c", listeners=(), addresses=tuple(entries))
    gateway = Gateway(metadata=ObjectMeta(name="edge", namespace="shop"), spec=spec)
    front = None if outside is None else service("NodePort", within=("10.96.9.9",), outside=outside)
    wanted = within_cluster(gateway).items()
    within = {
        name: service("ClusterIP", within=(value or f"10.96.1.{number}",))
        if exists and canonical(value) not in OUTSIDE
        else None
        for number, ((name, value), exists) in enumerate(zip(wanted, there, strict=False))
    }
    found = reached(gateway, front, within)
    given = assigned(entries, found.addresses)
    satisfied = [each for each in given if each is not None]
    assert sorted(satisfied, key=str) == sorted(found.addresses, key=str), "status tells what is reached, all of it"
    assert len({each.value for each in satisfied}) == len(satisfied)
    for entry, each in zip(entries, given, strict=True):
        if each is not None:
            assert each.routability in ({"", CLUSTER} if not entry.routability else {entry.routability})
            assert entry.routability in ("", CLUSTER, SENTINEL)
