"""Who is asked whether a request may pass (Gateway API, HTTPExternalAuthFilter, GEP-1494).

The invariant: a service that cannot be asked lets nobody through. A reference that cannot be followed is a `Fault` like
that to a backend, and whoever named it answers the requests concerned with 500.
"""

from __future__ import annotations

from tripylon.api.filters import ExternalAuth, GRPCAuth, HTTPAuth
from tripylon.graph import Read
from tripylon.model.backends import Fault, resolve
from tripylon.model.plan import AuthService
from tripylon.values import Ref

MOST_SERVICES_OF_A_PLACE = 2
"""So many services a rule, or one of its backends, can have asked."""
MOST_SERVICES_OF_A_LISTENER = 4


def plan_external_auth(read: Read, source: Ref, auth: ExternalAuth) -> AuthService | Fault:
    """The service of a filter that `source` states, a route, a Gateway or a ListenerSet."""
    grpc = auth.protocol == "GRPC"
    target = resolve(read, source, auth.backend_ref, grpc=grpc)
    if isinstance(target, Fault):
        return target._replace(message=f"asks a service whether requests may pass, and {target.message}")
    http = auth.http or HTTPAuth()
    asked = (auth.grpc or GRPCAuth()).allowed_headers if grpc else http.allowed_headers
    return AuthService(
        grpc=grpc,
        cluster=target,
        path="" if grpc else _rooted(http.path),
        asked_headers=tuple(name.lower() for name in asked),
        answered_headers=() if grpc else tuple(name.lower() for name in http.allowed_response_headers),
        max_body_bytes=auth.forward_body.max_size if auth.forward_body is not None else 0,
    )


def _rooted(path: str) -> str:
    """A prefix of paths; the request's own path, which follows, begins with a slash."""
    trimmed = path.strip("/")
    return f"/{trimmed}" if trimmed else ""
