"""References to GatewayParameters, on a class and on a Gateway: may they be followed?

Parameters say how proxies are run, so they mean something only where somebody runs them: in a cluster. What they say is
read by whoever does; here it is only judged whether they can be found. Read `gateways.py` next.
"""

from __future__ import annotations

from tripylon.api.gateway import Gateway, GatewayClass
from tripylon.api.own import OWN_GROUP
from tripylon.findings import Finding
from tripylon.graph import Read
from tripylon.model.options import Options
from tripylon.values import Name, Ref
from tripylon.world.world import GATEWAY_PARAMETERS

KIND = "GatewayParameters"


def class_parameters(read: Read, class_: GatewayClass, options: Options) -> tuple[Finding, ...]:
    """What is wrong with the parameters that a class refers to; empty: nothing, or there are none."""
    ref = class_.spec.parameters_ref
    if ref is None:
        return ()
    fault = _fault(read, ref.group, ref.kind, Name(ref.namespace, ref.name), options)
    return (_finding(class_.ref, f"GatewayClass `{class_.key}`", fault, "spec.parametersRef"),) if fault else ()


def gateway_parameters(read: Read, gateway: Gateway, options: Options) -> tuple[Finding, ...]:
    """What is wrong with the parameters that a Gateway refers to; empty: nothing, or there are none."""
    ref = gateway.spec.infrastructure.parameters_ref if gateway.spec.infrastructure else None
    if ref is None:
        return ()
    fault = _fault(read, ref.group, ref.kind, Name(gateway.metadata.namespace, ref.name), options)
    place = "spec.infrastructure.parametersRef"
    return (_finding(gateway.ref, f"Gateway `{gateway.key}`", fault, place),) if fault else ()


def _fault(read: Read, group: str, kind: str, name: Name, options: Options) -> tuple[str, str] | None:
    """Why a reference cannot be followed, and what to do."""
    if (group, kind) != (OWN_GROUP, KIND):
        return (
            f"parameters of kind {group or 'core'}/{kind}, which is not supported",
            f"Refer to a {KIND} of {OWN_GROUP}",
        )
    if options.standalone:
        return f"a {KIND}, which means nothing without a cluster", "Leave the reference out"
    if read.get(GATEWAY_PARAMETERS, name) is None:
        return f"{KIND} `{name}`, which does not exist", f"Create {KIND} `{name}`"
    return None


def _finding(ref: Ref, subject: str, fault: tuple[str, str], field: str) -> Finding:
    what, hint = fault
    return Finding(
        object=ref,
        condition="Accepted",
        reason="InvalidParameters",
        message=f"{subject} refers to {what}",
        hint=hint,
        field=field,
    )
