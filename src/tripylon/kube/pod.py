"""The pods of a Gateway's proxies: one container, with Envoy.

They may do nothing but serve: no root, no capabilities, no writable root, no token for the API server; low ports are
opened to everybody in the pod by a sysctl. Envoy gets its bootstrap from a ConfigMap and the token by which it proves
who it is from a projection that Kubernetes renews; its administration is a file that nobody else reaches. The
invariant: a listener that comes or goes changes no pod.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import msgspec

from tripylon.api.parameters import EnvoyBootstrap, EnvoyContainer, Image, PodTemplate, Stats
from tripylon.envoy.bootstrap_kubernetes import DEFAULT_POD
from tripylon.kube import shutdown
from tripylon.kube.overlay import patched
from tripylon.kube.parameters import Parameters
from tripylon.kube.shutdown import Shutdown
from tripylon.settings import DRAIN_TIME_S

Object = dict[str, Any]

CONTAINER = "envoy"
CONFIG_FOLDER = "/etc/tripylon"
"""Where Envoy finds `bootstrap.json` and the other files of its ConfigMap."""
BOOTSTRAP_FILE = "bootstrap.json"
TOKEN_FOLDER = "/var/run/secrets/tripylon"  # noqa: S105 - a folder
TOKEN_FILE = "token"  # noqa: S105 - a file
ADMIN_FOLDER = str(PurePosixPath(str(DEFAULT_POD.admin)).parent)
"""The one folder to which Envoy writes: the socket of its administration."""
READY_PATH = "/ready"
METRICS_PATH = "/metrics"
_USER = 65532


class ProxySettings(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an installation says about all its proxies."""

    image: str = "envoyproxy/envoy:v1.40.0"
    """Image with `envoy` and `bash`, for proxies whose parameters name none."""
    image_pull_policy: str = ""
    """Empty: as Kubernetes chooses by the tag."""
    controller_name: str = "gateway.tripylon.dev/controller"
    """The installation that made an object; its hash stands in a label."""
    audience: str = "tripylon-xds"
    """For whom the proxies' tokens are made."""
    token_seconds: int = 3600
    """How long a token is good; Kubernetes renews it after four fifths of that."""


def pod_spec(name: str, parameters: Parameters, settings: ProxySettings, *, selector: dict[str, str]) -> Object:
    """The `spec` of the pods; `name` is that of their ServiceAccount and ConfigMap."""
    kube = parameters.kube
    template = kube.pod_template or PodTemplate()
    ending = shutdown_of(template)
    spec: Object = {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [_container(parameters, settings, ending)],
        "volumes": [*_volumes(name, settings), *template.extra_volumes],
        "terminationGracePeriodSeconds": ending.grace_s,
        "topologySpreadConstraints": list(template.topology_spread_constraints) or _spread(selector),
    }
    if context := _context(_POD_CONTEXT, template.security_context, omit=kube.omit_default_security_context):
        spec["securityContext"] = context
    return spec | _given(
        imagePullSecrets=list(template.image_pull_secrets),
        nodeSelector=template.node_selector,
        affinity=template.affinity,
        tolerations=list(template.tolerations),
        priorityClassName=template.priority_class_name,
    )


def pod_annotations(stats: Stats | None) -> dict[str, str]:
    """What tells Prometheus where to look."""
    if stats is not None and stats.enabled is False:
        return {}
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(shutdown.METRICS_PORT),
        "prometheus.io/path": METRICS_PATH,
    }


def shutdown_of(template: PodTemplate) -> Shutdown:
    """The times of a pod's end."""
    graceful = template.graceful_shutdown
    sleep = shutdown.DEFAULT_SLEEP_S
    if graceful is not None and graceful.sleep_time_seconds is not None:
        sleep = graceful.sleep_time_seconds
    grace = template.termination_grace_period_seconds
    return Shutdown(sleep, max(shutdown.DEFAULT_GRACE_S, sleep * 2) if grace is None else grace)


def image_reference(image: Image | None, default: str) -> str:
    """The image to run, each part of it from the parameters, else from the installation's default."""
    if image is None:
        return default
    registry, repository, tag, digest = _parts(default)
    if image.tag is not None:
        tag, digest = image.tag, image.digest or ""
    elif image.digest is not None:
        tag, digest = "" if image.digest else tag, image.digest
    registry = registry if image.registry is None else image.registry
    repository = repository if image.repository is None else image.repository
    return f"{registry}/{repository}".removeprefix("/") + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def _parts(reference: str) -> tuple[str, str, str, str]:
    """Registry, repository, tag and digest of an image."""
    rest, _, digest = reference.partition("@")
    first, slash, more = rest.partition("/")
    registry = first if slash and (set(first) & set(".:") or first == "localhost") else ""
    path = more if registry else rest
    repository, _, tag = path.partition(":")
    return registry, repository, tag, digest


# --- The container ------------------------------------------------------------------------------------------------


def _container(parameters: Parameters, settings: ProxySettings, ending: Shutdown) -> Object:
    envoy = parameters.kube.envoy_container or EnvoyContainer()
    template = parameters.kube.pod_template or PodTemplate()
    stats = parameters.kube.stats
    ports = [{"name": "readiness", "containerPort": shutdown.READINESS_PORT, "protocol": "TCP"}]
    if stats is None or stats.enabled is not False:
        ports.append({"name": "metrics", "containerPort": shutdown.METRICS_PORT, "protocol": "TCP"})
    container: Object = {
        "name": CONTAINER,
        "image": image_reference(envoy.image, settings.image),
        "command": ["envoy"],
        "args": _arguments(envoy),
        "env": _environment(envoy),
        "ports": ports,
        "startupProbe": template.startup_probe or _probe(periodSeconds=1, failureThreshold=120),
        "readinessProbe": template.readiness_probe or _probe(periodSeconds=3, failureThreshold=2),
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            {"name": "xds-token", "mountPath": TOKEN_FOLDER, "readOnly": True},
            {"name": "admin", "mountPath": ADMIN_FOLDER},
            *envoy.extra_volume_mounts,
        ],
    }
    graceful = template.graceful_shutdown
    if graceful is None or graceful.enabled is not False:
        container["lifecycle"] = {"preStop": {"exec": {"command": ending.command(CONFIG_FOLDER)}}}
    omit = parameters.kube.omit_default_security_context
    if context := _context(_CONTAINER_CONTEXT, envoy.security_context, omit=omit):
        container["securityContext"] = context
    return container | _given(
        imagePullPolicy=(envoy.image.pull_policy if envoy.image else "") or settings.image_pull_policy,
        resources=envoy.resources,
        livenessProbe=template.liveness_probe,
    )


def _arguments(envoy: EnvoyContainer) -> list[str]:
    bootstrap = envoy.bootstrap or EnvoyBootstrap()
    arguments = [
        "-c",
        f"{CONFIG_FOLDER}/{BOOTSTRAP_FILE}",
        "--service-node",
        "$(POD_NAME).$(POD_NAMESPACE)",
        "--disable-hot-restart",
        "--drain-time-s",
        str(DRAIN_TIME_S),
        # Connections of a listener that changed end with their next answer, instead of one by one over the whole time.
        "--drain-strategy",
        "immediate",
        "--log-level",
        bootstrap.log_level or "info",
    ]
    if levels := sorted(bootstrap.component_log_levels.items()):
        arguments += ["--component-log-level", ",".join(f"{component}:{level}" for component, level in levels)]
    if bootstrap.log_format is not None and bootstrap.log_format.text:
        arguments += ["--log-format", bootstrap.log_format.text]
    return [*arguments, *envoy.extra_args]


def _environment(envoy: EnvoyContainer) -> list[Object]:
    ours = [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ]
    made: list[Object] = patched({"env": ours}, {"env": list(envoy.env)})["env"]
    return made


def _probe(**times: int) -> Object:
    return {"httpGet": {"path": READY_PATH, "port": shutdown.READINESS_PORT}, "timeoutSeconds": 2, **times}


# --- Privileges, places, volumes ------------------------------------------------------------------------------------

_POD_CONTEXT: Object = {
    "runAsNonRoot": True,
    "runAsUser": _USER,
    "runAsGroup": _USER,
    "fsGroup": _USER,
    "seccompProfile": {"type": "RuntimeDefault"},
    "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
}
_CONTAINER_CONTEXT: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}


def _context(ours: Object, theirs: Object | None, *, omit: bool | None) -> Object:
    return patched({} if omit else ours, theirs or {})


def _spread(selector: dict[str, str]) -> list[Object]:
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def _volumes(name: str, settings: ProxySettings) -> list[Object]:
    token = {"audience": settings.audience, "expirationSeconds": settings.token_seconds, "path": TOKEN_FILE}
    return [
        {"name": "config", "configMap": {"name": name}},
        {"name": "xds-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "admin", "emptyDir": {}},
    ]


def _given(**settings: Any) -> Object:
    return {name: value for name, value in settings.items() if value}
