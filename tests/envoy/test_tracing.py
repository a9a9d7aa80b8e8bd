"""Attributes of spans: what is accepted in a policy is what Envoy is told."""

from __future__ import annotations

from tripylon.envoy.tracing import FORMATS
from tripylon.model.telemetry import ATTRIBUTE_KEYS


def test_every_attribute_that_is_accepted_has_a_value() -> None:
    assert set(FORMATS) == ATTRIBUTE_KEYS
