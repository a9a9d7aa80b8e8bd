"""`tripylon version`: ours, Envoy's, the Gateway API's."""

from __future__ import annotations

from tripylon.cli import FINE
from tripylon.cli.options import Output

GATEWAY_API_VERSION = "v1.7.0"
"""The release of the Gateway API whose kinds and rules are built in."""


def version(*, output: Output = "text") -> int:
    """Print the versions of Tripylon, Envoy and the Gateway API."""
    versions = {"tripylon": _ours(), "envoy": _envoys(), "gatewayAPI": GATEWAY_API_VERSION}
    if output == "text":
        names = {"tripylon": "Tripylon", "envoy": "Envoy", "gatewayAPI": "Gateway API"}
        for key, value in versions.items():
            print(f"{names[key]:12} {value}")
        return FINE
    from tripylon.cli.output import print_data

    print_data(versions, output)
    return FINE


def _ours() -> str:
    from importlib.metadata import version

    return version("tripylon")


def _envoys() -> str:
    """The version that the binary itself tells, or why it does not."""
    from tripylon.errors import StartError
    from tripylon.files.launch import check_binary
    from tripylon.pb.descriptors import envoy_binary

    try:
        return check_binary(envoy_binary())
    except StartError as error:
        return f"none: {error}"
