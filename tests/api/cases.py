"""The cases of `rules.yaml`: objects that break rules, and what their authors are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tripylon.api.kinds import KINDS, Kind

_BY_NAME = {kind.name: kind for kind in KINDS}
_LISTENER = {"name": "l", "port": 80}
_PLAIN_LISTENER = {**_LISTENER, "protocol": "HTTP"}


def broken_objects() -> list[tuple[Kind, dict[str, Any], list[str]]]:
    """Kind, object, and the messages with their hints."""
    text = Path(__file__).with_name("rules.yaml").read_text().replace("LONG", "a" * 253)
    return [(_BY_NAME[case["kind"]], _whole(case), case["says"]) for case in yaml.safe_load(text)]


def _whole(case: dict[str, Any]) -> dict[str, Any]:
    kind = _BY_NAME[case["kind"]]
    obj: dict[str, Any] = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": "x"}}
    match case:
        case {"gateway": part}:
            obj["spec"] = {"gatewayClassName": "c", "listeners": [_PLAIN_LISTENER], **part}
        case {"listener": part}:
            obj["spec"] = {"gatewayClassName": "c", "listeners": [{**_LISTENER, **part}]}
        case {"rule": part}:
            obj["spec"] = {"rules": [part]}
        case _:
            pass
    return obj | {key: case[key] for key in ("spec", "status") if key in case}
