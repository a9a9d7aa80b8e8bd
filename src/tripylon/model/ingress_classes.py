"""IngressClass → the gateways that take its Ingresses (Kubernetes, networking.k8s.io/v1).

A class of ours names a Gateway as its parameters; without them its Ingresses go to the Gateways that also take routes
which name none (`spec.defaultScope: All`). The invariant: an Ingress of another controller's class is not touched.
Read `ingresses.py` next.
"""

from __future__ import annotations

from typing import Any

from tripylon.api.ingress import DEFAULT_CLASS_ANNOTATION, Ingress, IngressClass
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.findings import Finding, Severity
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.gateway_heads import DEFAULT_GATEWAYS, is_ours
from tripylon.model.ingress_places import INGRESS_PLACES, IngressPlace, certificates_of
from tripylon.model.options import Options
from tripylon.values import Built, Name
from tripylon.world.world import GATEWAYS, INGRESS_CLASSES, INGRESSES

DEFAULT_CLASSES: Index[str, Name, IngressClass] = Index(
    "default ingressclasses",
    INGRESS_CLASSES,
    lambda _, class_: ("",) if class_.metadata.annotations.get(DEFAULT_CLASS_ANNOTATION) == "true" else (),
)
CLASS_VERDICTS: Table[Name, bool] = Table("ingressclass verdicts")
"""The IngressClasses of ours, each with whether it leads to a gateway of ours."""


def derives(options: Options) -> tuple[Derive[Any, Any], ...]:
    """The steps from classes to the gateways of each Ingress."""
    return (
        Derive(CLASS_VERDICTS, (INGRESS_CLASSES,), lambda read, name: judge_class(read, name, options)),
        Derive(INGRESS_PLACES, (INGRESSES,), lambda read, name: place_ingress(read, name, options)),
    )


def place_ingress(read: Read, name: Name, options: Options) -> Built[IngressPlace, Finding] | None:
    """Where an Ingress is served; None when it is not ours. What is wrong with it is told by `ingresses.py`."""
    ingress = read.get(INGRESSES, name)
    if ingress is None:
        return None
    class_ = _class_of(read, ingress)
    if not (options.standalone if class_ is None else _is_class_of_ours(class_, options)):
        return None
    created = ingress.metadata.creation_timestamp
    return Built(IngressPlace(name, created, _gateways(read, class_), certificates_of(ingress)))


def _is_class_of_ours(class_: IngressClass, options: Options) -> bool:
    return class_.spec.controller == options.controller_name


def _class_of(read: Read, ingress: Ingress) -> IngressClass | None:
    """The class that an Ingress names, or the default one; None when there is no such object."""
    if ingress.class_name:
        return read.get(INGRESS_CLASSES, Name("", ingress.class_name))
    defaults = sorted(read.lookup(DEFAULT_CLASSES, ""), key=lambda class_: class_.key)
    # Of several the youngest, as the API server chooses for a new Ingress.
    return max(defaults, key=lambda class_: class_.metadata.creation_timestamp, default=None)


def _gateways(read: Read, class_: IngressClass | None) -> tuple[Name, ...]:
    """The gateways that a class leads to; without a class, or parameters of it, those that are there for everybody."""
    if class_ is None or class_.spec.parameters is None:
        return tuple(sorted(read.members(DEFAULT_GATEWAYS, "All")))
    return () if _fault(class_) else (_named(class_),)


def _named(class_: IngressClass) -> Name:
    assert class_.spec.parameters is not None
    return Name(class_.spec.parameters.namespace, class_.spec.parameters.name)


def _fault(class_: IngressClass) -> tuple[str, str, str] | None:
    """What is wrong with the words of a class's parameters, what to do, and in which field; None: nothing."""
    parameters = class_.spec.parameters
    if parameters is None:
        return None
    if (parameters.api_group, parameters.kind) != (GATEWAY_GROUP, "Gateway"):
        what = f"refers to parameters of kind {parameters.api_group or 'core'}/{parameters.kind}"
        return f"{what}, which is not supported", f"Refer to a Gateway of {GATEWAY_GROUP}", "kind"
    if not parameters.namespace:
        what = f"refers to Gateway `{parameters.name}` without its namespace"
        return what, "Add `scope: Namespace` and `namespace`", "namespace"
    return None


# --- Told on the class -----------------------------------------------------------------------------------------------


def judge_class(read: Read, name: Name, options: Options) -> Built[bool, Finding] | None:
    """Whether a class of ours leads to a gateway of ours; if not, a finding on it says why."""
    class_ = read.get(INGRESS_CLASSES, name)
    if class_ is None or not _is_class_of_ours(class_, options):
        return None
    fault = _fault(class_)
    if fault is not None:
        what, hint, field = fault
        return Built(value=False, findings=(_finding(class_, what, hint, f".{field}"),))
    ours = [each for each in _gateways(read, class_) if _is_gateway_of_ours(read, each, options)]
    if ours:
        return Built(value=True)
    if class_.spec.parameters is None:
        what = "names no Gateway in `spec.parameters`, and there is none for everybody"
        hint = "Name one, or give a Gateway `spec.defaultScope: All`"
        return Built(value=False, findings=(_finding(class_, what, hint, severity="warning"),))
    what = f"leads to Gateway `{_named(class_)}`, which does not exist here"
    hint = "Create the Gateway, or correct its name and namespace"
    return Built(value=False, findings=(_finding(class_, what, hint, ".name"),))


def _is_gateway_of_ours(read: Read, name: Name, options: Options) -> bool:
    gateway = read.get(GATEWAYS, name)
    return gateway is not None and is_ours(read, gateway, options)


def _finding(class_: IngressClass, what: str, hint: str, field: str = "", *, severity: Severity = "error") -> Finding:
    return Finding(
        object=class_.ref,
        severity=severity,
        condition="Accepted",
        reason="InvalidParameters",
        message=f"IngressClass `{class_.key}` {what}; its Ingresses are not served",
        hint=hint,
        field=f"spec.parameters{field}",
    )
