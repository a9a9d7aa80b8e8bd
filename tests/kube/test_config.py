"""Kubeconfigs, what a pod has, and programs that print credentials."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kube.scripted import Scripted, client_of, status
from tests.kube.test_client import said

from tripylon.errors import StartError
from tripylon.kube import credentials
from tripylon.kube.config import ClusterConfig, Exec, Pem, User, from_files, in_cluster, load
from tripylon.kube.credentials import CredentialError, run_plugin
from tripylon.kube.failures import ApiError

V1 = "client.authentication.k8s.io/v1"


def kubeconfig(path: Path, *, user: Any = None, name: str = "one", **cluster: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "shop"}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}:6443/", **cluster}}],
        "users": [{"name": name, "user": user or {"token": "t"}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_reads_a_kubeconfig(tmp_path: Path) -> None:
    data = base64.b64encode(b"PEM").decode()
    user = {
        "client-certificate": "me.crt",
        "client-key-data": data,
        "as": "someone",
        "as-groups": ["a", "b"],
    }
    path = kubeconfig(
        tmp_path / "config",
        user=user,
        **{"certificate-authority": "ca.crt", "tls-server-name": "api", "proxy-url": "http://p"},
    )
    assert load(path) == ClusterConfig(
        server="https://one:6443",
        namespace="shop",
        authority=Pem(path=tmp_path / "ca.crt"),
        server_name="api",
        proxy="http://p",
        user=User(
            certificate=Pem(path=tmp_path / "me.crt"),
            key=Pem(data=b"PEM"),
            impersonate=(("Impersonate-User", "someone"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b")),
        ),
    )


def test_merges_kubeconfigs_each_with_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kubeconfig(tmp_path / "a" / "config", user={"tokenFile": "token"})
    second = kubeconfig(tmp_path / "b" / "config", name="two", **{"certificate-authority": "ca.crt"})
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{first}:{second}")
    assert load().user.token_file == tmp_path / "a" / "token"
    two = load(context="two")
    assert (two.server, two.authority) == ("https://two:6443", Pem(path=tmp_path / "b" / "ca.crt"))
    with pytest.raises(StartError, match="no context 'three'; it has: one, two"):
        load(context="three")


def test_reads_what_a_pod_has(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("tripylon-system\n")
    config = in_cluster(tmp_path, {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"})
    assert config.server == "https://[fd00::1]:443"
    assert config.namespace == "tripylon-system"
    assert config.user.token_file == tmp_path / "token"
    with pytest.raises(StartError, match="no pod"):
        in_cluster(tmp_path, {})


def test_honours_the_proxy_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kubeconfig(tmp_path / "config")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert load(path).proxy == "http://proxy:3128"
    monkeypatch.setenv("NO_PROXY", "one")
    assert load(path).proxy == ""


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({"auth-provider": {"name": "oidc"}}, "auth-provider 'oidc'"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"}}, "v1 and v1beta1"),
        ({"client-certificate-data": "%"}, "client-certificate-data is no base64"),
    ],
)
def test_says_what_it_cannot_use(tmp_path: Path, user: dict[str, Any], words: str) -> None:
    with pytest.raises(StartError, match=words):
        load(kubeconfig(tmp_path / "config", user=user))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "cannot be read as a kubeconfig"),
        ("[]", "holds no mapping"),
        ("{}", "no current-context"),
        (
            "{current-context: a, contexts: [{name: a, context: {cluster: a}}], clusters: [{name: a, cluster: {}}]}",
            "URL",
        ),
    ],
)
def test_says_what_is_wrong_with_a_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(StartError, match=words):
        load(path)


def test_says_that_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="There is no kubeconfig at"):
        from_files((tmp_path / "none",))


# --- programs that print credentials ---------------------------------------------------------------------------


def plugin(folder: Path, status_: dict[str, Any], *, version: str = V1, code: str = "", **more: Any) -> Exec:
    """A program that counts its runs in `runs` and prints the status."""
    script = folder / "login.py"
    said_ = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status_})
    script.write_text(
        "import os, sys, pathlib\n"
        f"runs = pathlib.Path({str(folder / 'runs')!r})\n"
        "runs.write_text((runs.read_text() if runs.exists() else '') + 'x')\n"
        f"pathlib.Path({str(folder / 'info')!r}).write_text(os.environ['KUBERNETES_EXEC_INFO'])\n"
        f"{code}\n"
        f"print({said_!r}.replace('COUNT', str(len(runs.read_text()))))\n"
    )
    return Exec(api_version=V1, command=sys.executable, args=(str(script),), **more)


NOTE_PID = "runs.with_suffix('.pid').write_text(str(os.getpid()))"


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text())


async def test_asks_a_program_once_until_refused(server: Scripted, tmp_path: Path) -> None:
    server.answer("GET", "/version", said, said, status(401), said)
    user = User(exec=plugin(tmp_path, {"token": "tCOUNT", "expirationTimestamp": "2999-01-01T00:00:00Z"}))
    async with client_of(server, user=user) as client:
        for _ in range(3):
            await client.get("/version")
    sent = [each.headers["Authorization"] for each in server.requests]
    assert sent == ["Bearer t1", "Bearer t1", "Bearer t1", "Bearer t2"]


async def test_asks_a_program_again_when_its_token_expired(server: Scripted, tmp_path: Path) -> None:
    server.answer("GET", "/version", said)
    user = User(exec=plugin(tmp_path, {"token": "tCOUNT", "expirationTimestamp": "2020-01-01T00:00:00Z"}))
    async with client_of(server, user=user) as client:
        await client.get("/version")
        await client.get("/version")
    assert [each.headers["Authorization"] for each in server.requests] == ["Bearer t1", "Bearer t2"]
    assert runs(tmp_path) == 2


async def test_takes_a_certificate_from_a_program(tmp_path: Path) -> None:
    made = plugin(
        tmp_path, {"clientCertificateData": "C", "clientKeyData": "K"}, env=(("A", "b"),), provide_cluster_info=True
    )
    config = ClusterConfig(server="https://api", authority=Pem(data=b"PEM"))
    printed = await run_plugin(made, config)
    assert (printed.certificate, printed.key, printed.expires) == (Pem(data=b"C"), Pem(data=b"K"), None)
    info = json.loads((tmp_path / "info").read_text())
    assert info["apiVersion"] == V1
    assert info["spec"]["cluster"]["server"] == "https://api"
    assert base64.b64decode(info["spec"]["cluster"]["certificate-authority-data"]) == b"PEM"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"code": "sys.exit('no session')"}, "ended with 1: no session; get it at x"),
        ({"code": "print('hello')"}, "printed no ExecCredential"),
        ({"version": "client.authentication.k8s.io/v1beta1"}, "v1beta1"),
        ({"status_": {}}, "neither a token nor"),
        ({"interactive": "Always"}, "wants a terminal"),
    ],
)
async def test_says_what_is_wrong_with_a_program(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    made = plugin(tmp_path, **{"status_": {"token": "t"}, "install_hint": "get it at x", **changes})
    with pytest.raises(CredentialError, match=words):
        await run_plugin(made, ClusterConfig(server="https://api"))


async def test_a_program_that_hangs_is_ended_and_all_who_wait_share_its_one_run(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, ahead_s = asyncio.get_running_loop(), 0.0
    really = loop.time
    monkeypatch.setattr(loop, "time", lambda: really() + ahead_s)
    note = tmp_path / "runs.pid"
    hangs = plugin(tmp_path, {"token": "t"}, code=f"{NOTE_PID}; import time; time.sleep(600)")
    async with client_of(server, user=User(exec=hangs), attempts=1) as client:
        asking = asyncio.gather(*(client.get("/version") for _ in range(5)), return_exceptions=True)
        async with asyncio.timeout(60):
            while not (note.exists() and note.read_text()):
                await asyncio.sleep(0.02)
        ahead_s = credentials._EXEC_TIMEOUT_S + 1  # it runs; now its time is over
        answers = await asking
    assert [type(each) for each in answers] == [ApiError] * 5
    assert {str(each) for each in answers} == {f"The login program {sys.executable} took over 60 s"}
    assert runs(tmp_path) == 1
    assert not server.requests
    pid = int(note.read_text())
    with pytest.raises(ProcessLookupError):
        async with asyncio.timeout(60):
            while True:
                os.kill(pid, 0)
                await asyncio.sleep(0.02)


async def test_says_that_a_program_is_missing() -> None:
    with pytest.raises(CredentialError, match=r"cannot be started.*; get it at x"):
        await run_plugin(
            Exec(api_version=V1, command="no-such-login", install_hint="get it at x"),
            ClusterConfig(server="https://api"),
        )
