"""What others need to know of our kinds: definitions for a cluster, schemas for editors.

Both are views of the structs, so they cannot differ from what is decoded and checked. The Gateway API's own definitions
are not made here: a cluster gets them from that project.
"""

from __future__ import annotations

from typing import Any

from tripylon.api.kinds import KINDS, Kind
from tripylon.api.own import OWN_GROUP
from tripylon.api.schema import closed_schema, schema

CATEGORIES = ("tripylon", "gateway-api")
"""Names under which `kubectl get` lists objects of all our kinds."""


def own_kinds() -> tuple[Kind, ...]:
    """The kinds whose definitions we ship."""
    return tuple(kind for kind in KINDS if kind.group == OWN_GROUP)


def crd(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of one of our kinds; ValueError for a kind that somebody else defines."""
    if kind.group != OWN_GROUP:
        raise ValueError(f"{kind.name} is defined by {kind.group or 'Kubernetes'}, not by Tripylon")
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "names": {
                "categories": list(CATEGORIES),
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "shortNames": list(kind.short_names),
                "singular": kind.name.lower(),
            },
            "scope": kind.scope,
            "versions": [_version(kind, version) for version in kind.versions],
        },
    }


def json_schema(kind: Kind) -> dict[str, Any]:
    """A JSON schema of whole documents of a kind, for editors (YAML language servers)."""
    made = closed_schema(kind.struct, descriptions=True)
    group = f"{kind.group}/" if kind.group else ""
    made["properties"]["apiVersion"]["enum"] = [f"{group}{version}" for version in kind.versions]
    made["properties"]["kind"]["enum"] = [kind.name]
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": kind.name, **made}


def _version(kind: Kind, version: str) -> dict[str, Any]:
    return {
        "name": version,
        "served": True,
        "storage": version == kind.version,
        "schema": {"openAPIV3Schema": schema(kind.struct, descriptions=True)},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": column.name, "type": column.type, "jsonPath": column.path}
            | ({"priority": column.priority} if column.priority else {})
            for column in kind.columns
        ],
    }
