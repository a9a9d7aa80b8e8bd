"""`tripylon gen`: writes what other tools need to know of us."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from tripylon.cli import COMMANDS, FINE, UsageError, examples

app = cyclopts.App(
    name="gen",
    help_format="plaintext",
    help_epilogue=examples(next(command.examples for command in COMMANDS if command.name == "gen")),
)


@app.command(help_epilogue=examples(("tripylon gen crds | kubectl apply -f -",)))
def crds() -> int:
    """Print the CustomResourceDefinitions of Tripylon's own kinds as YAML."""
    from tripylon.api.crd import crd, own_kinds
    from tripylon.cli.output import print_yaml

    print_yaml(crd(kind) for kind in own_kinds())
    return FINE


@app.command(
    help_epilogue=examples(
        (
            "tripylon gen schema HTTPRoute",
            "tripylon gen schema --to schemas",
        )
    )
)
def schema(
    kind: Annotated[str, Parameter(help="Kind to describe; default: every one.", show_env_var=False)] = "",
    *,
    to: Annotated[Path | None, Parameter(help="Folder that gets one file for each kind.", show_env_var=False)] = None,
) -> int:
    """Print JSON schemas of whole documents, as editors with a YAML language server read them."""
    from tripylon.api.crd import json_schema
    from tripylon.api.kinds import KINDS
    from tripylon.cli.output import print_json

    chosen = [each for each in KINDS if not kind or each.name.lower() == kind.lower()]
    if not chosen:
        raise UsageError(f"there is no kind {kind!r}; known are {', '.join(each.name for each in KINDS)}")
    if to is not None:
        _write({f"{each.name.lower()}.json": json_schema(each) for each in chosen}, to)
    elif len(chosen) == 1:
        print_json(json_schema(chosen[0]))
    else:
        print_json(
            {"$schema": "http://json-schema.org/draft-07/schema#", "oneOf": [json_schema(each) for each in chosen]}
        )
    return FINE


@app.command(help_epilogue=examples(("tripylon gen bootstrap --ads 127.0.0.1:9977 --node edge-1 > bootstrap.json",)))
def bootstrap(
    *,
    ads: Annotated[str, Parameter(help="Where Envoy finds the control plane: host:port or a socket's path.")],
    node: Annotated[str, Parameter(help="Name under which this Envoy asks.")] = "standalone",
    cluster: Annotated[str, Parameter(help="Name of the group of proxies.")] = "tripylon",
    envoy_admin: Annotated[
        str, Parameter(help="Where Envoy's administration listens: host:port or a socket's path.")
    ] = "127.0.0.1:19000",
) -> int:
    """Print the configuration that an Envoy starts with, as JSON."""
    import msgspec

    from tripylon.cli.output import print_json
    from tripylon.envoy.bootstrap import bootstrap as made

    whole = made(node, cluster, ads=_endpoint(ads, "--ads"), admin=_endpoint(envoy_admin, "--envoy-admin"))
    print_json(msgspec.json.decode(whole))
    return FINE


@app.command(help_epilogue=examples(("tripylon gen proxy default/edge --authority ca.crt | kubectl apply -f -",)))
def proxy(
    gateway: Annotated[str, Parameter(help="The Gateway: namespace/name.", show_env_var=False)],
    *,
    authority: Annotated[
        Path, Parameter(help="File with `ca.crt` of the controllers' Secret tripylon-xds-tls.", show_env_var=False)
    ],
    xds: Annotated[
        str, Parameter(help="Where proxies find the controllers: DNS name and port.", show_env_var=False)
    ] = "tripylon.tripylon-system.svc.cluster.local:9977",
    image: Annotated[str, Parameter(help="Image of the proxy; default: stock Envoy.", show_env_var=False)] = "",
) -> int:
    """Print a proxy that you run yourself as YAML, for a Gateway whose GatewayParameters say `selfManaged`.

    A ServiceAccount, a ConfigMap with what Envoy starts with, and a Deployment, to be changed at will.
    """
    import secrets

    from tripylon.cli.options import address
    from tripylon.cli.output import print_yaml
    from tripylon.kube.self_managed import proxy_manifests
    from tripylon.values import Name, is_address

    namespace, _, name = gateway.partition("/")
    if not namespace or not name or "/" in name:
        raise UsageError(f"{gateway!r} is no Gateway: write namespace/name, such as default/edge")
    place = address(xds, flag="--xds", default_host="")
    if not place.host or is_address(place.host):
        raise UsageError(f"--xds: {xds!r} has no DNS name, by which the controllers' certificate could be checked")
    trusted = _certificates(authority)
    key = secrets.token_hex(8)
    print_yaml(proxy_manifests(Name(namespace, name), place, authority=trusted, key=key, image=image))
    return FINE


@app.command(
    help_epilogue=examples(
        (
            "tripylon gen install | kubectl apply --server-side -f -",
            "tripylon gen install --namespace gateways --image registry.example.com/tripylon:0.1.0 > tripylon.yaml",
        )
    )
)
def install(
    *,
    namespace: Annotated[
        str, Parameter(help="Namespace of the controller; it is made.", show_env_var=False)
    ] = "tripylon-system",
    image: Annotated[str, Parameter(help="Image of the controller; default: this version's.", show_env_var=False)] = "",
    proxy_image: Annotated[str, Parameter(help="Image of the proxies; default: stock Envoy.", show_env_var=False)] = "",
    replicas: Annotated[
        int, Parameter(help="Controllers; one at a time writes status, all serve proxies.", show_env_var=False)
    ] = 2,
    definitions: Annotated[
        bool,
        Parameter(help="With the definitions of Tripylon's own kinds, as `gen crds` prints them.", show_env_var=False),
    ] = True,
) -> int:
    """Print all that installs the controller in a cluster as YAML; the Gateway API's definitions are not part of it."""
    from tripylon.cli.output import print_yaml
    from tripylon.kube.install import install_manifests

    try:
        objects = install_manifests(
            namespace, image, proxy_image=proxy_image, replicas=replicas, definitions=definitions
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    print_yaml(objects)
    return FINE


def _endpoint(text: str, flag: str) -> str | tuple[str, int]:
    from tripylon.cli.options import address

    if "/" in text:
        return text
    found = address(text, flag=flag, default_host="127.0.0.1")
    return found.host, found.port


def _certificates(file: Path) -> str:
    """The certificates in a file, as they stand there."""
    from cryptography import x509

    try:
        text = file.read_bytes()
        x509.load_pem_x509_certificates(text)
    except OSError as error:
        raise UsageError(f"--authority: cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--authority: {file} holds no certificate in PEM") from error
    return text.decode()


def _write(files: dict[str, dict[str, object]], folder: Path) -> None:
    import sys

    import msgspec

    from tripylon.errors import StartError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    except OSError as error:
        raise StartError(f"cannot write to {folder}: {error.strerror}") from error
    print(f"{len(files)} schemas in {folder}", file=sys.stderr)
