"""The configuration that an Envoy in a pod starts with, and the small files beside it.

The control plane is reached over TLS, checked against an authority that may change, by a token that changes every
hour; Envoy takes both from files that it watches, so neither needs a restart. The node's id is left out: the command
line gives it (`--service-node namespace/pod`), since all pods of a Gateway share this configuration.

Envoy's administration is a socket file. On a port whoever may write a route to 127.0.0.1 could ask it for everybody's
configuration, or to end. Two static listeners lead to exactly one page each of it: readiness and metrics. A third one,
on loopback, lets those read it and end the pod in order who know a key. Read `bootstrap.py` first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath

import msgspec

from tripylon.envoy import scopes
from tripylon.envoy.bootstrap import DEFAULT_LIMITS, Endpoint, Limits, address, ads_source, assemble
from tripylon.envoy.series import Json
from tripylon.values import is_address

ADMIN_CLUSTER = "tripylon-admin"
"""Name of the static cluster that is Envoy's own administration."""

AUTHORITY_FILE = "ca.crt"
"""File with the certificates by which the control plane is known; whoever makes the folder puts it there."""

KEY_HEADER = "x-tripylon-key"
"""Header with the key to Envoy's administration."""

_METRICS = "/stats/prometheus"
_TOKEN_HEADER = "authorization"  # noqa: S105 - the name of a header
_AUTHORITY_SDS, _TOKEN_SDS = "sds-authority.json", "sds-token.json"
_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105
_HTTP = "type.googleapis.com/envoy.extensions.filters.http"
_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


class Pod(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an Envoy finds in its pod. The defaults are those of the Deployment that we make."""

    folder: str = "/etc/tripylon"
    """Mounted folder with the bootstrap, the files of `sds_files`, and `ca.crt`."""
    token: str = "/var/run/secrets/tripylon/token"  # noqa: S105 - a path
    """File with the projected service account token; its folder is watched."""
    admin: Endpoint = "/run/tripylon/admin.sock"
    """Where Envoy's administration listens: a file in a folder that Envoy may write to."""
    admin_port: int = 19000
    """Leads to the administration, on loopback and with the key: reads everything, and takes the pod out of service."""
    bind: str = "0.0.0.0"  # noqa: S104 - probes and scrapers come from outside the pod
    """IP address of the two listeners."""
    readiness_port: int = 8082
    """Answers `/ready`: 200 once there is a configuration and until draining starts."""
    metrics_port: int = 9091
    """Answers `/metrics`, and the same under Envoy's own name for it, `/stats/prometheus`."""


DEFAULT_POD = Pod()


def bootstrap_kubernetes(
    cluster: str,
    *,
    ads: tuple[str, int],
    server_name: str,
    key: str,
    pod: Pod = DEFAULT_POD,
    limits: Limits = DEFAULT_LIMITS,
    stats: Json = None,
) -> bytes:
    """The bootstrap as JSON, one line, keys sorted.

    `cluster` is the Gateway as `namespace/name`. `ads` is host (a DNS name or an IP address) and port of the control
    plane, `server_name` the DNS name that its certificate must carry. `key` is what opens `pod.admin_port`, so nobody
    may guess it who writes routes. `stats` is one of `series.py`, by default the usual one.
    """
    clusters = (_ads_cluster(ads, server_name, pod), _admin_cluster(pod))
    whole = assemble({"cluster": cluster}, admin=pod.admin, clusters=clusters, limits=limits, stats=stats)
    static: dict[str, Json] = {
        "clusters": list(clusters),
        "listeners": [
            scopes.anchor(),
            _listener("readiness", (pod.bind, pod.readiness_port), _pages({"/ready": "/ready"})),
            _listener("metrics", (pod.bind, pod.metrics_port), _pages({"/metrics": _METRICS, _METRICS: _METRICS})),
            # Whoever ends the pod goes on asking when all other connections are told to go.
            {**_listener("admin", ("127.0.0.1", pod.admin_port), _locked(key)), "drain_type": "MODIFY_ONLY"},
        ],
    }
    return json.dumps({**whole, "static_resources": static}, sort_keys=True, separators=(",", ":")).encode()


def sds_files(pod: Pod = DEFAULT_POD) -> Mapping[str, str]:
    """Files that must lie in `pod.folder`, by name: they tell Envoy which authority and which token to use.

    They are constant; what changes are the files that they name.
    """
    folder, token = PurePosixPath(pod.folder), PurePosixPath(pod.token)
    authority: Json = {"trusted_ca": {"filename": str(folder / AUTHORITY_FILE)}, "watched_directory": _path(folder)}
    secret: Json = {"secret": {"filename": str(token), "watched_directory": _path(token.parent)}}
    return {
        _AUTHORITY_SDS: _secret("authority", {"validation_context": authority}),
        _TOKEN_SDS: _secret("token", {"generic_secret": secret}),
    }


def _secret(name: str, content: Mapping[str, Json]) -> str:
    resource: Json = {"@type": _SECRET, "name": name, **content}
    return json.dumps({"resources": [resource]}, sort_keys=True, separators=(",", ":"))


def _path(folder: PurePosixPath) -> Json:
    return {"path": str(folder)}


# --- The control plane -----------------------------------------------------------------------------------------------


def _ads_cluster(ads: tuple[str, int], server_name: str, pod: Pod) -> Json:
    found: dict[str, Json] = {"type": "STATIC"}
    if not is_address(ads[0]):
        dns = "envoy.extensions.clusters.dns.v3.DnsCluster"
        found = {"cluster_type": _typed("envoy.clusters.dns", dns, {"dns_lookup_family": "ALL"})}
    return {
        **ads_source(ads, filters=[_token_injector(pod), _codec()]),
        **found,
        "transport_socket": _typed(
            "envoy.transport_sockets.tls",
            "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            {"sni": server_name, "common_tls_context": _verifying(server_name, pod)},
        ),
    }


def _verifying(server_name: str, pod: Pod) -> Json:
    name: Json = {"san_type": "DNS", "matcher": {"exact": server_name}}
    return {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [name]},
            "validation_context_sds_secret_config": _from_file("authority", pod, _AUTHORITY_SDS),
        },
    }


def _token_injector(pod: Pod) -> Json:
    """Puts the token into every new stream; without one a stream fails, and the control plane is asked again later."""
    generic = _typed(
        "envoy.http.injected_credentials.generic",
        "envoy.extensions.http.injected_credentials.generic.v3.Generic",
        {
            "credential": _from_file("token", pod, _TOKEN_SDS),
            "header": _TOKEN_HEADER,
            "header_value_prefix": "Bearer ",
        },
    )
    config: Json = {"@type": f"{_HTTP}.credential_injector.v3.CredentialInjector", "credential": generic}
    return {"name": "envoy.filters.http.credential_injector", "typed_config": config}


def _codec() -> Json:
    config: Json = {"@type": f"{_HTTP}.upstream_codec.v3.UpstreamCodec"}
    return {"name": "envoy.filters.http.upstream_codec", "typed_config": config}


def _from_file(name: str, pod: Pod, file: str) -> Json:
    # Mounted files are replaced by a link to their folder, so it is the folder that has to be watched.
    place = PurePosixPath(pod.folder)
    source: Json = {"path": str(place / file), "watched_directory": _path(place)}
    return {"name": name, "sds_config": {"path_config_source": source, "resource_api_version": "V3"}}


# --- Envoy's own pages -------------------------------------------------------------------------------------------


def _admin_cluster(pod: Pod) -> Json:
    return {
        "name": ADMIN_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": ADMIN_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(pod.admin)}}]}],
        },
    }


def _listener(name: str, at: tuple[str, int], routes: list[Json]) -> dict[str, Json]:
    """A listener that passes on what these routes match and nothing else, also when Envoy takes no more connections."""
    router: Json = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_HTTP}.router.v3.Router"}}
    manager = _typed(
        "envoy.filters.network.http_connection_manager",
        _MANAGER,
        {
            "stat_prefix": f"tripylon-{name}",
            "route_config": {"name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]},
            "http_filters": [router],
        },
    )
    return {
        "name": f"tripylon-{name}",
        "address": address(at),
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "filter_chains": [{"filters": [manager]}],
    }


def _pages(pages: Mapping[str, str]) -> list[Json]:
    """Routes from these paths, exactly, to pages of the administration."""
    return [
        _to_admin({"path": path, "headers": [_header(":method", "GET")]}, prefix_rewrite=page)
        for path, page in pages.items()
    ]


def _locked(key: str) -> list[Json]:
    """Routes for whom knows the key: to all pages that change nothing, and to what takes the pod out of service."""
    known = _header(KEY_HEADER, key)
    reading: Json = {"prefix": "/", "headers": [known, _header(":method", "GET")]}
    ending: list[Json] = [
        {"path": path, "headers": [known, _header(":method", "POST")]}
        for path in ("/healthcheck/fail", "/drain_listeners")
    ]
    return [_to_admin(match) for match in (reading, *ending)]


def _to_admin(match: Json, **action: Json) -> dict[str, Json]:
    return {"match": match, "route": {"cluster": ADMIN_CLUSTER, "timeout": "15s", **action}}


def _header(name: str, value: str) -> Json:
    return {"name": name, "string_match": {"exact": value}}


def _typed(name: str, message: str, config: Mapping[str, Json]) -> Json:
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{message}", **config}}
