"""`tripylon controller`: one replica of Kubernetes mode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tripylon.cli.options import Logging, address
from tripylon.cli.run import RouteLayoutFlag, access_log_place
from tripylon.settings import ControllerSettings

_DEFAULTS = ControllerSettings()
_LOGGING = Logging(log_format="json")


def controller(
    *,
    kubeconfig: Annotated[
        Path | None, Parameter(help="Default: KUBECONFIG, the pod's account, ~/.kube/config.")
    ] = None,
    context: Annotated[str, Parameter(help="Context of the kubeconfig; default: its current one.")] = "",
    namespace: Annotated[
        str,
        Parameter(help="Namespace of the controller's own objects.", env_var=["TRIPYLON_NAMESPACE", "POD_NAMESPACE"]),
    ] = _DEFAULTS.namespace,
    identity: Annotated[
        str, Parameter(help="Name of this replica; default: the host's.", env_var=["TRIPYLON_IDENTITY", "POD_NAME"])
    ] = "",
    lease: Annotated[str, Parameter(help="Lease by which replicas choose their leader.")] = _DEFAULTS.lease,
    controller_name: Annotated[str, Parameter(help="controllerName of the GatewayClasses that are ours.")] = (
        _DEFAULTS.controller_name
    ),
    namespaces: Annotated[str, Parameter(help="Namespaces whose objects count, with commas; default: all.")] = "",
    secret_namespaces: Annotated[
        str, Parameter(help="Namespaces whose Secrets may be listed, with commas; default: as --namespaces.")
    ] = "",
    xds: Annotated[str, Parameter(help="Address on which proxies are served.")] = str(_DEFAULTS.xds),
    advertise: Annotated[
        str,
        Parameter(
            help="IP address at which other replicas reach this one; default: found out.",
            env_var=["TRIPYLON_ADVERTISE", "POD_IP"],
        ),
    ] = "",
    xds_service: Annotated[str, Parameter(help="DNS name by which proxies reach the replicas.")] = "",
    xds_secret: Annotated[str, Parameter(help="Secret with the certificate of that name.")] = _DEFAULTS.xds_secret,
    health: Annotated[str, Parameter(help="Address of /healthz and /readyz.")] = str(_DEFAULTS.health),
    metrics: Annotated[str, Parameter(help="Address of /metrics.")] = str(_DEFAULTS.metrics),
    proxy_image: Annotated[str, Parameter(help="Image of proxies; default: stock Envoy.")] = "",
    proxy_pull_policy: Annotated[str, Parameter(help="imagePullPolicy of that image.")] = "",
    proxy_ca: Annotated[str, Parameter(help="File in that image with the authorities trusted by default.")] = (
        _DEFAULTS.proxy_ca
    ),
    access_log: Annotated[str, Parameter(help="Where proxies log requests: `stdout`, a file, or `off`.")] = "stdout",
    route_layout: RouteLayoutFlag = "auto",
    logging: Logging = _LOGGING,
) -> int:
    """Serve the Gateways of a Kubernetes cluster: one replica of any number.

    Every replica serves xDS to proxies; the one that holds the Lease writes status and runs the proxies.
    """
    import asyncio

    from tripylon import controller as root

    logging.configure()
    settings = ControllerSettings(
        kubeconfig=kubeconfig,
        context=context,
        namespace=namespace,
        identity=identity,
        lease=lease,
        controller_name=controller_name,
        namespaces=_listed(namespaces),
        secret_namespaces=_listed(secret_namespaces),
        xds=address(xds, flag="--xds", default_host=_DEFAULTS.xds.host, default_port=_DEFAULTS.xds.port),
        advertise=advertise,
        xds_service=xds_service or f"tripylon.{namespace}.svc.cluster.local",
        xds_secret=xds_secret,
        health=address(health, flag="--health", default_host=_DEFAULTS.health.host, default_port=_DEFAULTS.health.port),
        metrics=address(
            metrics, flag="--metrics", default_host=_DEFAULTS.metrics.host, default_port=_DEFAULTS.metrics.port
        ),
        proxy_image=proxy_image,
        proxy_pull_policy=proxy_pull_policy,
        proxy_ca=proxy_ca,
        access_log=access_log_place(access_log),
        route_layout=route_layout,
    )
    return asyncio.run(root.run(settings))


def _listed(text: str) -> tuple[str, ...]:
    """Names between commas, as environment variables hold lists."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
