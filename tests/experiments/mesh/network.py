"""A node and a pod on it, as network namespaces; the node redirects the pod's connections, and has kube-proxy's rules.

The node is the namespace that this process is in already, the pod is one of its own beside it. The backends' addresses
are on the node's loopback, since what they are reached by makes no difference to who chooses them.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tests.experiments.mesh.programming import CAPTURE_PORT

POD_ADDRESS = "10.244.0.2"
BACKENDS = {"echo-v1": "10.244.1.11", "echo-v2": "10.244.1.12"}
UNCAPTURED = "10.96.0.30"
"""The cluster IP of a Service that is left out of the redirection, to compare with."""

_TRIAL = "table ip trial { chain capture { type nat hook prerouting priority dstnat; tcp dport 1 redirect to :2; }; }"
_RULES = f"""
table ip mesh {{
  chain capture {{
    type nat hook prerouting priority dstnat - 5;
    iifname "pod" ip daddr != {UNCAPTURED} meta l4proto tcp redirect to :{CAPTURE_PORT}
  }}
}}
table ip services {{
  map ports {{
    type ipv4_addr . inet_service : ipv4_addr . inet_service
    elements = {{
      10.96.0.10 . 80 : {BACKENDS["echo-v2"]} . 8080, 10.96.0.10 . 8080 : {BACKENDS["echo-v2"]} . 8080,
      10.96.0.11 . 80 : {BACKENDS["echo-v1"]} . 8080, 10.96.0.12 . 80 : {BACKENDS["echo-v2"]} . 8080,
      {UNCAPTURED} . 80 : {BACKENDS["echo-v2"]} . 8080,
    }}
  }}
  chain of-pods {{ type nat hook prerouting priority dstnat; dnat to ip daddr . tcp dport map @ports; }}
  chain of-the-node {{ type nat hook output priority -100; dnat to ip daddr . tcp dport map @ports; }}
}}
"""
_NODE = """
ip link set lo up
ip link add pod type veth peer name eth0 netns {pod}
ip address add 10.244.0.1/24 dev pod
ip link set pod up
ip route add default via 10.244.0.2
"""
_POD = f"""
ip link set lo up
ip address add {POD_ADDRESS}/24 dev eth0
ip link set eth0 up
ip route add default via 10.244.0.1
"""


def environment() -> dict[str, str]:
    """Ours, with the folders in which tools for the network lie."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


def unshared() -> list[str]:
    """Before a command: it gets a network and processes of its own, all of which end with it."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def what_is_missing() -> str:
    """Why this machine cannot have such a node, in one line; empty: it can."""
    try:
        tried = subprocess.run(
            [*unshared(), "sh", "-ec", 'command -v ip nsenter >/dev/null; echo "$0" | nft -f -', _TRIAL],
            capture_output=True, text=True, check=False, env=environment(),
        )  # fmt: skip
    except FileNotFoundError:
        return "the mesh experiment needs util-linux: there is no unshare"
    if tried.returncode == 0:
        return ""
    said = " ".join(tried.stderr.split()) or "ip, nft or nsenter is missing"
    return f"the mesh experiment needs root or namespaces for users, iproute2 and nftables: {said}"


def make_node() -> list[str]:
    """Sets everything up in the present namespace; what stands before a command that is to run in the pod."""
    pod = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], env=environment())
    ours = Path("/proc/self/ns/net").readlink()
    while Path(f"/proc/{pod.pid}/ns/net").readlink() == ours:
        time.sleep(0.005)
    inside = ["nsenter", "--target", str(pod.pid), "--net"]
    addresses = "".join(f"ip address add {each}/32 dev lo\n" for each in BACKENDS.values())
    _do(["sh", "-e"], _NODE.format(pod=pod.pid) + addresses)
    _do([*inside, "sh", "-e"], _POD)
    _do(["nft", "-f", "-"], _RULES)
    return inside


def _do(command: list[str], script: str) -> None:
    subprocess.run(command, input=script, text=True, check=True, env=environment())
