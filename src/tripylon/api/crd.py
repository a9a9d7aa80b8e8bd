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
    return {"$schema": _DRAFT, **_document(kind)}


def json_schema_of_all() -> dict[str, Any]:
    """One JSON schema for documents of every kind we read: `kind` and `apiVersion` decide which fields are offered."""
    return {
        "$schema": _DRAFT,
        "title": "Objects that Tripylon reads",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {
            "apiVersion": {"enum": sorted({each for kind in KINDS for each in _api_versions(kind)})},
            "kind": {"enum": [kind.name for kind in KINDS]},
        },
        "allOf": [
            {
                "if": {"required": ["kind"], "properties": {"kind": {"const": kind.name}}},
                "then": {"$ref": f"#/definitions/{kind.name}"},
            }
            for kind in KINDS
        ],
        "definitions": {kind.name: _document(kind) for kind in KINDS},
    }


_DRAFT = "http://json-schema.org/draft-07/schema#"


def _document(kind: Kind) -> dict[str, Any]:
    made = closed_schema(kind.struct, descriptions=True)
    made["properties"]["apiVersion"]["enum"] = list(_api_versions(kind))
    made["properties"]["kind"]["enum"] = [kind.name]
    return {"title": kind.name, **made}


def _api_versions(kind: Kind) -> tuple[str, ...]:
    return tuple(f"{kind.group}/{version}" if kind.group else version for version in kind.versions)


def _version(kind: Kind, version: str) -> dict[str, Any]:
    return {
        "name": version,
        "served": True,
        "storage": version == kind.version,
        "schema": {"openAPIV3Schema": schema(kind.struct, descriptions=True)},
        **({"subresources": {"status": {}}} if "status" in kind.struct.__struct_fields__ else {}),
        "additionalPrinterColumns": [
            {"name": column.name, "type": column.type, "jsonPath": column.path}
            | ({"priority": column.priority} if column.priority else {})
            for column in kind.columns
        ],
    }
