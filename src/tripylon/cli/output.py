"""Results on stdout: JSON and YAML of plain values, and whether somebody looks at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Literal

import msgspec


def print_json(value: object) -> None:
    """Print one JSON document, indented; structs are written as their fields."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_yaml(documents: Iterable[object]) -> None:
    """Print YAML documents with `---` between them, keys in the order that they have."""
    print(yaml_text(documents), end="")


def print_data(value: object, form: Literal["json", "yaml"]) -> None:
    """Print one value in the form asked for."""
    if form == "json":
        print_json(value)
    else:
        print_yaml((value,))


def yaml_text(documents: Iterable[object]) -> str:
    """The documents as `print_yaml` prints them."""
    import yaml

    class Dumper(yaml.CSafeDumper):
        """Writes texts of several lines as they stand, and every list indented under its key's own column."""

    Dumper.add_representer(str, _text)
    plain = [msgspec.to_builtins(document) for document in documents]
    return yaml.dump_all(plain, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def on_terminal() -> bool:
    """Whether stdout is a terminal that may get colours."""
    import os

    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _text(dumper: Any, value: str) -> Any:
    style = "|" if "\n" in value and "\t" not in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)
