"""One Kubernetes cluster on this machine: real etcd, API server and controllers, pods as processes.

A cluster is one process tree in namespaces of its own (network, mounts, processes), whose first process is a small
supervisor. All its addresses exist only in there, so clusters do not disturb each other, and when the supervisor ends
the kernel ends everything else: processes, mounts, addresses and rules. What runs "inside" is started through
`Cluster.run`; `Cluster.kubectl` and `Cluster.apply` are the usual ways to talk to the API.

An ordinary user's cluster lies in a user namespace besides. That has one user only: every program runs as its root,
whatever a pod's `runAsUser` says, and containers see the machine's tree for reading, with a /tmp of their own.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster import components, images
from tests.cluster.build import BuildError, Programs, cache
from tests.cluster.kubectl import provide_kubectl, search_path

READY = Path(__file__).with_name("ready.py")
CLONE_NEWNET = 0x40000000
USABLE_ADDRESS, UNUSABLE_ADDRESS = "10.250.0.2", "10.249.0.1"
"""A load balancer address that is given when it is asked for, and one that never is."""


class ClusterError(Exception):
    """The cluster cannot do what was asked; the message says why and what to do."""


class Cluster:
    """A cluster by its name; several may run side by side. `max_grace_s` cuts every pod's grace period."""

    def __init__(self, name: str, programs: Programs, *, max_grace_s: float | None = None) -> None:
        self.name = name
        self.programs = programs
        self.max_grace_s = max_grace_s
        self.folder = cache() / "run" / name

    @property
    def kubeconfig(self) -> Path:
        """Full rights; its address exists only inside."""
        return self.folder / "kubeconfig"

    @property
    def logs(self) -> Path:
        """One file per container that ever ran: NAMESPACE_POD_CONTAINER.log; they outlive the pods."""
        return self.folder / "node" / "logs"

    def up(self) -> float:
        """Starts it and returns when nodes and CRDs are ready; the seconds that it took. Raises ClusterError."""
        began_s = time.monotonic()
        check_machine()
        if self.pid():
            raise ClusterError(f"cluster {self.name} is up already")
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in (self.folder, self.folder / "log", self.folder / "node"):
            folder.mkdir(parents=True)
        try:
            self._start_supervisor()
            self._start_components()
        except BaseException:
            self.down(keep=True)
            raise
        return time.monotonic() - began_s

    def down(self, *, keep: bool = False) -> bool:
        """Ends everything that up began; keep leaves the folder with the logs. False if it was not up."""
        pid = self.pid()
        if pid:
            parent = parent_of(pid)
            os.kill(pid, signal.SIGKILL)  # the kernel kills what is in its process namespace before it is gone
            wait_until(lambda: not (self.pid() or is_alive(parent)), 30, f"cluster {self.name} does not end")
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        return bool(pid)

    def pid(self) -> int:
        """The supervisor's process on the machine, 0 when the cluster is not up."""
        try:
            pid, started = (self.folder / "supervisor.pid").read_text().split()
            return int(pid) if started == start_time(int(pid)) else 0
        except (OSError, ValueError):
            return 0

    def run(
        self,
        command: Sequence[str],
        *,
        check: bool = True,
        text: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in the cluster's network. Raises ClusterError if it fails and check is on."""
        environment = self.environment() | dict(variables or {})
        ran = subprocess.run(
            self.inside(command), input=text, capture_output=True, text=True, env=environment, check=False
        )
        if check and ran.returncode:
            raise ClusterError(f"`{' '.join(command)}` failed ({ran.returncode}):\n{ran.stderr.strip()[-3000:]}")
        return ran

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command line that runs a command in the cluster's network, with the machine's own files."""
        return [*self._enter("--net"), *command]

    def environment(self) -> dict[str, str]:
        """The environment of commands that run inside."""
        return dict(os.environ) | {"KUBECONFIG": str(self.kubeconfig), "PATH": search_path()}

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Within it, sockets that this thread opens (and threads that it starts) belong to the cluster's network."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/thread-self/ns/net").open() as outside, Path(f"/proc/{self.pid()}/ns/net").open() as inside:
            enter_namespace(libc, inside.fileno())
            try:
                yield
            finally:
                enter_namespace(libc, outside.fileno())

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """What kubectl prints. Raises ClusterError."""
        return self.run(["kubectl", *arguments], text=text).stdout

    def apply(self, manifests: str) -> None:
        """Server-side apply of YAML documents."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=manifests)

    def get(self, kind: str, name: str, namespace: str = "default") -> Any:
        """One object as JSON. Raises ClusterError when it does not exist."""
        return json.loads(self.kubectl("get", kind, name, "-n", namespace, "-o", "json"))

    def signal(self, component: str, number: signal.Signals) -> None:
        """Sends a signal to etcd, apiserver, controller-manager or node: SIGSTOP makes it slow, SIGKILL a bad day."""
        self._ask(do="signal", name=component, signal=int(number))

    def start(self, component: str) -> None:
        """Starts a component again that has ended."""
        argv = components.commands(self.folder, self.programs, self.max_grace_s)[component]
        self._ask(do="start", name=component, argv=argv, log=str(self.folder / "log" / f"{component}.log"))

    def running(self) -> dict[str, int]:
        """The components that run, with their process ids inside."""
        return dict(self._ask(do="list")["running"])

    def stop(self, component: str) -> None:
        """Kills a component and waits for its end."""
        self.signal(component, signal.SIGKILL)
        wait_until(lambda: component not in self.running(), 10, f"{component} does not end")

    def wait_ready(self) -> None:
        """Waits until the API server answers, for example after it was started again."""
        self._ready("api")

    def _start_supervisor(self) -> None:
        socket_path = self.folder / "supervisor.sock"
        if len(str(socket_path)) > 100:
            raise ClusterError(f"{socket_path} is too long for a socket: set TRIPYLON_CLUSTER_CACHE to a shorter path")
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        unshare = ["unshare", *user, "--net", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with (self.folder / "log" / "supervisor.log").open("w") as log:
            parent = subprocess.Popen(
                [*unshare, str(self.programs.supervisor), str(socket_path)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=self.environment(),
            )  # fmt: skip
        wait_until(lambda: socket_path.exists() or parent.poll() is not None, 10, "the supervisor does not start")
        if parent.poll() is not None:
            said = (self.folder / "log" / "supervisor.log").read_text().strip()
            raise ClusterError(f"no namespaces for a cluster: {said}")
        child = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()[0]
        (self.folder / "supervisor.pid").write_text(f"{child} {start_time(int(child))}")
        parent.returncode = 0  # it lives as long as the cluster, longer than this object

    def _start_components(self) -> None:
        setup = subprocess.run(
            [*self._enter("--net", "--mount"), "sh", "-euc", components.NETWORK],
            capture_output=True, text=True, env=self.environment(), check=False,
        )  # fmt: skip
        if setup.returncode:
            raise ClusterError(f"the cluster's network cannot be made: {setup.stderr.strip()}")
        (self.folder / "images.yaml").write_text(json.dumps(images.images(self.programs), indent=1))
        keys = [str(self.programs.cluster), "pki", str(self.folder / "pki"), str(self.kubeconfig)]
        subprocess.run([*keys, *components.CERTIFICATE_NAMES], check=True)
        self.start("etcd")
        self.start("apiserver")
        self._ready("api")
        self.start("controller-manager")
        self.start("node")
        self._ready("crds", str(self.programs.crds))

    def _ready(self, *arguments: str) -> None:
        ran = self.run([sys.executable, str(READY), str(self.folder / "pki"), *arguments], check=False)
        if ran.returncode:
            raise ClusterError(f"{ran.stderr.strip()[-2000:]}\nsee the logs in {self.folder / 'log'}")

    def _enter(self, *namespaces: str) -> list[str]:
        pid = self.pid()
        if not pid:
            raise ClusterError(f"cluster {self.name} is not up: run `make cluster-up`")
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(pid), *user, *namespaces, "--"]

    def _ask(self, **question: Any) -> Any:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.folder / "supervisor.sock"))
            connection.sendall(json.dumps(question).encode() + b"\n")
            answer = json.loads(connection.makefile().readline())
        if error := answer.get("error"):
            raise ClusterError(error)
        return answer


def check_machine() -> None:
    """Raises ClusterError with the one line that tells what is missing here. Fetches kubectl if it is missing."""
    check_system()
    try:
        provide_kubectl()
    except BuildError as error:
        raise ClusterError(str(error)) from error


def check_system() -> None:
    """As much of check_machine as can be said without fetching anything. Raises ClusterError."""
    if sys.platform != "linux":
        raise ClusterError("the test cluster needs Linux: use KUBECONFIG=… with a cluster of your own")
    packages = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux", "nsenter": "util-linux"}
    missing = sorted(
        {package for program, package in packages.items() if not shutil.which(program, path=search_path())}
    )
    if missing:
        raise ClusterError(f"the test cluster needs the system's packages {' and '.join(missing)}: install them")
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    tried = subprocess.run(
        ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--mount-proc", "true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tried.returncode:
        raise ClusterError(
            "the test cluster needs root, or a kernel that lets users make namespaces: run it as root, or use"
            f" KUBECONFIG=… with a cluster of your own ({tried.stderr.strip()})"
        )


def running_clusters() -> list[str]:
    """The names of the clusters that are up."""
    run = cache() / "run"
    names = sorted(path.name for path in run.iterdir()) if run.exists() else []
    return [name for name in names if Cluster(name, Programs(Path())).pid()]


def start_time(pid: int) -> str:
    """Tells a process from a later one of the same number. Raises OSError when there is none, or only its remains."""
    state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if state == "Z":
        raise ProcessLookupError(pid)
    return fields[18]


def is_alive(pid: int) -> bool:
    try:
        return bool(start_time(pid))
    except OSError:
        return False


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def enter_namespace(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def wait_until(condition: Any, limit_s: float, failure: str) -> None:
    """Returns once the condition holds. Raises ClusterError after the limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(failure)
        time.sleep(0.02)
