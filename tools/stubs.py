"""Writes the types of Envoy's messages for the type checker: `python tools/stubs.py`, nothing to do when up to date.

Input: the table of names (`tripylon.pb.table`) and the installed Envoy binary. Output, neither of them committed:
`.stubs/envoy_pb/…` (one stub for each protobuf file that the table reaches, made by mypy-protobuf) and
`src/tripylon/pb/messages.pyi` (the exported names). The files stand under a top-level name of their own, which exists
for the type checker only, because the package `envoy` belongs to the distribution that brings the binary.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from tripylon.pb.descriptors import binary_hash, envoy_binary, pool
from tripylon.pb.table import MESSAGES

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "envoy_pb"
HEADER = "# Written by tools/stubs.py from the installed Envoy and tripylon.pb.table; do not edit.\n"


def main() -> int:
    key = stub_key()
    with one_at_a_time(ROOT):
        if is_current(ROOT, key):
            print(f"stubs: up to date ({len(MESSAGES)} names)")
            return 0
        files = write_stubs(ROOT, MESSAGES, pool(), key)
    print(f"stubs: {len(MESSAGES)} names, {files} files in .stubs/{PACKAGE}")
    return 0


def stub_key() -> str:
    """Changes with everything that the stubs depend on: names, binary, generator, this file."""
    parts = (
        repr(sorted(MESSAGES.items())),
        binary_hash(envoy_binary()),
        importlib.metadata.version("mypy-protobuf"),
        Path(__file__).read_text(),
    )
    return blake2b("\0".join(parts).encode(), digest_size=20).hexdigest()


@contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Keep a second run waiting (an editor's and a test's, say) until this one has written."""
    folder = root / ".stubs"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_current(root: Path, key: str) -> bool:
    recorded = key_path(root)
    return exports_path(root).is_file() and recorded.is_file() and recorded.read_text() == key


def key_path(root: Path) -> Path:
    return root / ".stubs" / PACKAGE / "key"


def exports_path(root: Path) -> Path:
    return root / "src" / "tripylon" / "pb" / "messages.pyi"


def write_stubs(root: Path, names: Mapping[str, str], types: DescriptorPool, key: str) -> int:
    """Write both outputs below `root` and count the files; the key comes last, so an interrupted run is done again."""
    found = {exported: find_type(types, full_name) for exported, full_name in names.items()}
    files = import_closure(kind.file for kind in found.values())
    stubs = root / ".stubs"
    stubs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="new-", dir=stubs) as folder:
        run_generator(files, Path(folder))
        shutil.rmtree(stubs / PACKAGE, ignore_errors=True)
        (Path(folder) / PACKAGE).rename(stubs / PACKAGE)
    exports_path(root).parent.mkdir(parents=True, exist_ok=True)
    exports_path(root).write_text(exports(found))
    key_path(root).write_text(key)
    return len(files)


def find_type(types: DescriptorPool, full_name: str) -> Descriptor | EnumDescriptor:
    try:
        return types.FindMessageTypeByName(full_name)
    except KeyError:
        return types.FindEnumTypeByName(full_name)


def import_closure(starts: Iterable[FileDescriptor]) -> list[FileDescriptorProto]:
    """The files and all that they import, under `PACKAGE`, imports first."""
    ordered: dict[str, FileDescriptorProto] = {}

    def visit(file: FileDescriptor) -> None:
        if file.name in ordered:
            return
        for imported in file.dependencies:
            visit(imported)
        proto = FileDescriptorProto.FromString(file.serialized_pb)
        proto.name = f"{PACKAGE}/{proto.name}"
        proto.dependency[:] = [f"{PACKAGE}/{name}" for name in proto.dependency]
        ordered[file.name] = proto

    for start in starts:
        visit(start)
    return list(ordered.values())


def run_generator(files: list[FileDescriptorProto], folder: Path) -> None:
    """Let protoc and its plugin of mypy-protobuf write the stubs of `files` into `folder`."""
    plugin = shutil.which("protoc-gen-mypy", path=str(Path(sys.executable).parent)) or shutil.which("protoc-gen-mypy")
    if plugin is None:
        raise SystemExit("stubs: protoc-gen-mypy is missing; install the development dependencies")
    descriptors = folder / "descriptors"
    descriptors.write_bytes(FileDescriptorSet(file=files).SerializeToString())
    options = (f"--descriptor_set_in={descriptors}", f"--plugin=protoc-gen-mypy={plugin}", f"--mypy_out=quiet:{folder}")
    command = (sys.executable, "-m", "grpc_tools.protoc", *options, *(file.name for file in files))
    subprocess.run(command, check=True, timeout=300)


def exports(found: Mapping[str, Descriptor | EnumDescriptor]) -> str:
    """The text of messages.pyi: every exported name bound to its class in the stubs."""
    imports, aliases = set(), []
    for exported, kind in sorted(found.items()):
        module = f"{PACKAGE}.{kind.file.name.removesuffix('.proto').replace('/', '.').replace('-', '_')}_pb2"
        path = kind.full_name.removeprefix(f"{kind.file.package}.")
        if path == exported:
            imports.add(f"from {module} import {path} as {exported}\n")
        else:
            imports.add(f"import {module}\n")
            aliases.append(f"{exported} = {module}.{path}\n")
    return HEADER + "".join(sorted(imports)) + "\n" + "".join(aliases)


if __name__ == "__main__":
    sys.exit(main())
