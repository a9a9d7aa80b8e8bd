"""The cache of descriptors: shared, checked, rebuilt, and never needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from tripylon.errors import StartError
from tripylon.pb import descriptors
from tripylon.pb.descriptors import binary_hash, cache_folder, envoy_binary, serialised_descriptors


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TRIPYLON_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    return write_binary(tmp_path / "envoy", "envoy/a.proto")


def write_binary(path: Path, *names: str) -> Path:
    files = (FileDescriptorProto(name=name, package="envoy.t", syntax="proto3") for name in names)
    path.write_bytes(b"\0".join(one.SerializeToString() for one in files) + b"\0")
    return path


def names(serialised: bytes) -> list[str]:
    return [one.name for one in FileDescriptorSet.FromString(serialised).file]


def refuse_to_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise AssertionError("scanned although it was cached")

    monkeypatch.setattr("tripylon.pb.descriptors._scan_and_cache", fail)
    monkeypatch.setattr("tripylon.pb.descriptors._hash_file", fail)


def test_the_second_time_neither_hashes_nor_scans(cache: Path, binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = serialised_descriptors(binary)
    refuse_to_scan(monkeypatch)
    assert serialised_descriptors(binary) == first
    assert sorted(path.name.split("-")[0] for path in cache.iterdir()) == ["descriptors", "hash"]


def test_another_binary_at_the_same_path_is_noticed(cache: Path, binary: Path) -> None:
    before = binary_hash(binary)
    assert names(serialised_descriptors(binary)) == ["envoy/a.proto"]
    write_binary(binary, "envoy/a.proto", "envoy/b.proto")
    assert names(serialised_descriptors(binary)) == ["envoy/a.proto", "envoy/b.proto"]
    assert binary_hash(binary) != before


def test_a_copy_of_the_binary_shares_the_descriptors(cache: Path, binary: Path, tmp_path: Path) -> None:
    serialised_descriptors(binary)
    serialised_descriptors(write_binary(tmp_path / "copy", "envoy/a.proto"))
    assert len(list(cache.glob("descriptors-*"))) == 1
    assert len(list(cache.glob("hash-*"))) == 2


@pytest.mark.parametrize("kind", ["descriptors", "hash"])
@pytest.mark.parametrize("damage", ["emptied", "cut", "flipped", "lengthened", "garbage"])
def test_a_damaged_file_is_rebuilt(cache: Path, binary: Path, kind: str, damage: str) -> None:
    first = serialised_descriptors(binary)
    (path,) = cache.glob(f"{kind}-*")
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "emptied": b"",
            "cut": whole[:middle],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "lengthened": whole + b"\0",
            "garbage": b"\xff" * len(whole),
        }[damage]
    )
    assert serialised_descriptors(binary) == first
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_made_is_done_without(
    tmp_path: Path, binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TRIPYLON_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert names(serialised_descriptors(binary)) == ["envoy/a.proto"]
    assert names(serialised_descriptors(binary)) == ["envoy/a.proto"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_done_without(cache: Path, binary: Path) -> None:
    cache.mkdir(mode=0o500)
    assert names(serialised_descriptors(binary)) == ["envoy/a.proto"]
    assert list(cache.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(cache: Path, binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert names(serialised_descriptors(binary)) == ["envoy/a.proto"]
    assert list(cache.iterdir()) == []


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/xdg")
    monkeypatch.setenv("TRIPYLON_CACHE_DIR", "/var/mine")
    assert cache_folder() == Path("/var/mine")
    monkeypatch.delenv("TRIPYLON_CACHE_DIR")
    assert cache_folder() == Path("/var/xdg/tripylon")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/home/someone/.cache/tripylon")


def test_a_user_without_a_home_has_no_cache(binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("TRIPYLON_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder() is None
    assert names(serialised_descriptors(binary)) == ["envoy/a.proto"]


def test_the_binary_can_be_chosen(binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPYLON_ENVOY_BINARY", str(binary))
    assert envoy_binary() == binary


def test_an_unusable_binary_is_named_with_the_remedy(cache: Path, tmp_path: Path) -> None:
    (empty := tmp_path / "empty").touch()
    (other := tmp_path / "other").write_bytes(b"\x7fELF something else")
    problems = {
        tmp_path / "gone": "No such file",
        tmp_path: "Is a directory",
        empty: "is empty",
        other: "no descriptors of Envoy's API",
    }
    for path, problem in problems.items():
        with pytest.raises(StartError, match=problem) as caught:
            serialised_descriptors(path)
        assert str(path) in str(caught.value)
        assert "TRIPYLON_ENVOY_BINARY" in str(caught.value)


def test_a_missing_envoy_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIPYLON_ENVOY_BINARY", raising=False)
    monkeypatch.setitem(sys.modules, "envoy", None)
    with pytest.raises(StartError, match="Envoy is not installed"):
        envoy_binary()


FIRST_USE = """
from concurrent.futures import ThreadPoolExecutor
from tripylon.pb import descriptors
with ThreadPoolExecutor(4) as threads:
    pools = set(threads.map(lambda _: descriptors.pool(), range(4)))
assert len(pools) == 1
from tripylon.pb.messages import RouteConfiguration
print(descriptors.binary_hash(descriptors.envoy_binary()), RouteConfiguration(name="shop").ByteSize())
"""


def test_several_processes_and_threads_at_once_on_an_empty_cache(cache: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", FIRST_USE], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(3)
    ]
    results = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(set(results)) == 1
    assert results[0].endswith(" 6\n")
    assert sorted(path.name.split("-")[0] for path in cache.iterdir()) == ["descriptors", "hash"]


def test_the_installed_envoy_is_whole() -> None:
    """Every root folder of the API is there, and the pool takes all files: no import is missing, none contradicts."""
    serialised = serialised_descriptors()
    roots = {name.split("/")[0] for name in names(serialised)}
    assert {"envoy", "xds", "udpa", "validate", "google"} <= roots
    assert len(names(serialised)) > 500
    assert descriptors.pool().FindFileByName("envoy/config/route/v3/route.proto").package == "envoy.config.route.v3"
