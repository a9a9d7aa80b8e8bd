"""The programs of a cluster with their flags, and the addresses, which exist only in its own network namespace."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.build import Programs

HOST = "10.244.0.1"
PODS, SERVICES, LOAD_BALANCERS = "10.244.0.0/16", "10.96.0.0/16", "10.250.0.0/24"
API_SERVICE = "10.96.0.1"
CERTIFICATE_NAMES = (f"{HOST}:6443", HOST, "127.0.0.1", API_SERVICE)
TRUST_BUNDLES = "certificates.k8s.io/v1beta1/clustertrustbundles"
"""A built-in kind that may hold trusted certificates, off by default at this version of Kubernetes."""

NETWORK = f"""
echo 1 > /proc/sys/net/ipv4/ip_forward
ip -batch - <<END
link set lo up
link add node0 type bridge
addr add {HOST}/32 dev node0
link set node0 up
route add {SERVICES} dev node0 src {HOST}
route add {LOAD_BALANCERS} dev node0 src {HOST}
END
"""
"""Shell: no way out; a bridge without ports holds the node's address, as not every kernel has dummy devices."""

CONTROLLERS = (
    "clusterrole-aggregation",
    "daemonset",
    "deployment",
    "disruption",
    "endpointslice",
    "garbage-collector",
    "job",
    "namespace",
    "replicaset",
    "root-ca-certificate-publisher",
    "serviceaccount",
    "statefulset",
)


def commands(folder: Path, programs: Programs, max_grace_s: float | None) -> dict[str, list[str]]:
    """The command line of each component, by its name, in the order of their start."""
    pki, kubeconfig, cluster = folder / "pki", folder / "kubeconfig", str(programs.cluster)
    return {
        "etcd": [cluster, "etcd", *etcd_flags(folder)],
        "apiserver": [cluster, "apiserver", *apiserver_flags(pki)],
        "controller-manager": [
            *(cluster, "controller-manager", "--kubeconfig", str(kubeconfig), "--leader-elect=false"),
            *("--bind-address", "127.0.0.1", "--root-ca-file", f"{pki}/ca.crt"),
            *("--service-account-private-key-file", f"{pki}/service-account.key", "--concurrent-gc-syncs", "5"),
            *("--controllers", ",".join(f"{name}-controller" for name in CONTROLLERS)),
        ],
        "node": [
            *(cluster, "node", "--kubeconfig", str(kubeconfig), "--images", f"{folder}/images.yaml"),
            *("--container", str(programs.container), "--dir", f"{folder}/node", "--address", HOST),
            *("--pod-cidr", PODS, "--service-cidr", SERVICES, "--lb-cidr", LOAD_BALANCERS),
            *("--api-service-ip", API_SERVICE, *serving(pki)),
            *(() if max_grace_s is None else ("--max-grace", f"{max_grace_s}s")),
        ],
    }


def etcd_flags(folder: Path) -> list[str]:
    clients, peers = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [
        *("--data-dir", f"{folder}/etcd", "--unsafe-no-fsync", "--log-level", "warn"),
        *("--listen-client-urls", clients, "--advertise-client-urls", clients),
        *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
        *("--initial-cluster", f"default={peers}"),
    ]


def apiserver_flags(pki: Path) -> list[str]:
    return [
        *("--etcd-servers", "http://127.0.0.1:2379", "--bind-address", "0.0.0.0", "--secure-port", "6443"),
        *("--advertise-address", HOST, *serving(pki), "--client-ca-file", f"{pki}/ca.crt"),
        *("--authorization-mode", "RBAC", "--allow-privileged"),
        *("--service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
        *("--service-account-key-file", f"{pki}/service-account.pub"),
        *("--service-account-signing-key-file", f"{pki}/service-account.key"),
        *("--service-cluster-ip-range", SERVICES),
        *("--feature-gates", "ClusterTrustBundle=true", "--runtime-config", f"{TRUST_BUNDLES}=true"),
        # The taint of a node that is not ready would stay: no node lifecycle controller runs.
        *("--disable-admission-plugins", "TaintNodesByCondition"),
        *("--kubelet-client-certificate", f"{pki}/admin.crt", "--kubelet-client-key", f"{pki}/admin.key"),
        *("--kubelet-preferred-address-types", "InternalIP"),
    ]


def serving(pki: Path) -> tuple[str, ...]:
    return ("--tls-cert-file", f"{pki}/server.crt", "--tls-private-key-file", f"{pki}/server.key")
