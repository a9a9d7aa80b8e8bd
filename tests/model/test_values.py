"""Small values: what counts as an address."""

from __future__ import annotations

import ipaddress

import pytest

from tripylon.values import is_address

TEXTS = (
    *("1.2.3.4", "01.2.3.4", "1.2.3.04", "0x1.2.3.4", "1.2.3", "1.2.3.4.5", "256.1.1.1", "0.0.0.0", " 1.2.3.4"),
    *("1.2.3.4\n", "١.2.3.4", "1.2.3.4%eth0", "a", "", "a\0b", "%eth0", "::1\0", "\ud800"),
    *("::", "::1", "0:0:0:0:0:0:0:1", "::ffff:1.2.3.4", "1::2::3", "12345::", "g::1", "fe80::1%eth0", "fe80::1%"),
)


@pytest.mark.parametrize("text", TEXTS)
def test_addresses_are_what_the_standard_library_takes(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        assert not is_address(text)
    else:
        assert is_address(text)
