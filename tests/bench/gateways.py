"""What the benchmark runs: gateways with any number of routes, as objects and as folders of YAML, each host its own.

A route stands for a host name, an HTTPRoute with one rule, a Service and an EndpointSlice of one endpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import yaml

from tripylon.api.kinds import decode_json, kind_of
from tripylon.api.meta import Resource
from tripylon.files.source import FileSource

_GATEWAY = """apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: bench}
spec:
  gatewayClassName: tripylon
  listeners:
  - name: http
    port: %d
    protocol: HTTP
"""
_ROUTE = """apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: route-%(number)d
  namespace: bench
spec:
  parentRefs:
  - name: edge
  hostnames:
  - host-%(number)d.example.com
  rules:
  - matches:
    - path:
        type: PathPrefix
        value: %(path)s
    backendRefs:
    - name: service-%(number)d
      port: 80
"""
_SERVICE = """apiVersion: v1
kind: Service
metadata:
  name: service-%(number)d
  namespace: bench
spec:
  ports:
  - port: 80
    targetPort: %(port)d
"""
_SLICE = """apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: service-%(number)d
  namespace: bench
  labels:
    kubernetes.io/service-name: service-%(number)d
addressType: IPv4
endpoints:
- addresses: [127.0.0.1]
ports:
- port: %(port)d
"""


def host(number: int) -> str:
    """The host name of a route."""
    return f"host-{number}.example.com"


def gateway(port: int) -> str:
    """The Gateway document."""
    return _GATEWAY % port


def route(number: int, path: str = "/") -> str:
    """One HTTPRoute document."""
    return _ROUTE % {"number": number, "path": path}


def backend(number: int, port: int) -> tuple[str, str]:
    """The Service and EndpointSlice documents of a route."""
    values = {"number": number, "port": port}
    return _SERVICE % values, _SLICE % values


def documents(count: int, port: int, backend_port: int) -> Iterator[str]:
    """All documents of a gateway with that many routes."""
    yield gateway(port)
    for number in range(count):
        yield route(number)
        yield from backend(number, backend_port)


def write_folder(folder: Path, count: int, port: int, backend_port: int, *, in_one_file: int = 1) -> None:
    """One file for the Gateway and one for each route with its backend, or for so many; 20,000 files may be read."""
    folder.mkdir(parents=True)
    (folder / "gateway.yaml").write_text(gateway(port))
    for first in range(0, count, in_one_file):
        numbers = range(first, min(first + in_one_file, count))
        text = "---\n".join(route_file(number, backend_port) for number in numbers)
        (folder / f"route-{first:05}.yaml").write_text(text)


def write_documents(folder: Path, count: int, port: int, backend_port: int) -> None:
    """One file for each document; the second one is the first route."""
    folder.mkdir(parents=True)
    for number, text in enumerate(documents(count, port, backend_port)):
        (folder / f"{number:05}.yaml").write_text(text)


def route_file(number: int, backend_port: int, path: str = "/") -> str:
    """The file of one route."""
    return "---\n".join((route(number, path), *backend(number, backend_port)))


def write_single(folder: Path, count: int, port: int, backend_port: int) -> Path:
    """Everything in one file, with comments as people write them; returns its path."""
    folder.mkdir(parents=True)
    path = folder / "all.yaml"
    path.write_text("---\n".join(documents(count, port, backend_port)))
    return path


def objects(folder: Path, count: int, port: int, backend_port: int) -> tuple[Resource, ...]:
    """The same as decoded objects, by way of one file."""
    return FileSource([write_single(folder, count, port, backend_port)]).scan().put


def whole(number: int, backend_port: int) -> tuple[Resource, ...]:
    """A route with its Service and its EndpointSlice, decoded."""
    texts = (route(number), *backend(number, backend_port))
    return tuple(decode_json(msgspec.json.encode(yaml.safe_load(text))) for text in texts)


def changed(resource: Resource, path: str) -> Resource:
    """The route with another path prefix."""
    return decode_json(changed_json(resource, path))


def changed_json(resource: Resource, path: str) -> bytes:
    """The same as an API server would send it."""
    plain = msgspec.to_builtins(resource)
    plain |= {"apiVersion": kind_of(resource).api_version, "kind": kind_of(resource).name}
    plain["spec"]["rules"][0]["matches"][0]["path"]["value"] = path
    return msgspec.json.encode(plain)
