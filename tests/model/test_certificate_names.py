"""Listeners whose certificates have names in common, found without comparing each name with each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tripylon.model.listeners import sharing_names
from tripylon.values import hostname_matches, intersect_hostnames, wider_hostnames

HOSTNAMES = st.sampled_from(
    ("*.com", "*.example.com", "*.a.example.com", "example.com", "www.example.com", "a.example.com", "x.a.example.com")
)
NAMES = st.dictionaries(st.sampled_from("abcdef"), st.frozensets(HOSTNAMES, max_size=3))


@given(NAMES)
def test_names_in_common_are_those_that_intersect(names: dict[str, frozenset[str]]) -> None:
    for one, others in sharing_names(names).items():
        assert others == {
            other
            for other in names
            if other != one and any(intersect_hostnames(a, b) is not None for a in names[one] for b in names[other])
        }


@given(HOSTNAMES, HOSTNAMES | st.just(""))
def test_wider_hostnames_are_those_that_cover(hostname: str, wider: str) -> None:
    assert (wider in wider_hostnames(hostname)) == hostname_matches(wider, hostname)
