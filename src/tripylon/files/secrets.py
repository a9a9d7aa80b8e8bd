"""Secrets and ConfigMaps whose content lies in files beside the YAML, by annotation: no certificate need be pasted.

`gateway.tripylon.dev/from-file: tls.crt=cert.pem,tls.key=key.pem` names all keys in one annotation;
`gateway.tripylon.dev/from-file.tls.crt: cert.pem` names one. Paths are relative to the folder of the YAML file. What
`stringData` of a Secret or `data` of a ConfigMap says goes before what files say.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from tripylon.api.core import ConfigMap, Secret
from tripylon.files.listing import unreadable

ANNOTATION = "gateway.tripylon.dev/from-file"
"""Annotation of a Secret or ConfigMap, alone or followed by `.` and a key."""

Holder = Secret | ConfigMap
"""What may have its content in files."""

MAX_BYTES = 1 << 20
"""Size of one file at most, which is what Kubernetes lets a Secret or ConfigMap hold."""


class FileError(Exception):
    """A file that an annotation names cannot be used."""

    def __init__(self, annotation: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.annotation = annotation
        self.message = message
        self.hint = hint


class Contents:
    """The files read so far, each read again only when it changed."""

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[tuple[int, ...], bytes]] = {}
        self.used: set[Path] = set()

    def begin(self) -> None:
        """Forget what nobody has asked for since the last beginning."""
        self._kept = {path: kept for path, kept in self._kept.items() if path in self.used}
        self.used = set()

    def read(self, path: Path) -> bytes:
        """The file's bytes; OSError when it cannot be read, ValueError when it is none or too large."""
        self.used.add(path)
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise ValueError("is not a file")
        if state.st_size > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES} bytes")
        stamp = (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino)
        kept = self._kept.get(path)
        if kept is None or kept[0] != stamp:
            kept = (stamp, path.read_bytes())
            self._kept[path] = kept
        return kept[1]


def is_from_files(holder: Holder) -> bool:
    """Whether it takes something out of files."""
    return any(name == ANNOTATION or name.startswith(f"{ANNOTATION}.") for name in holder.metadata.annotations)


def with_files(holder: Holder, folder: Path, contents: Contents) -> Holder:
    """It with what its annotations name, relative to `folder`; FileError at the first that cannot be used."""
    data = dict(holder.data if isinstance(holder, Secret) else holder.binary_data)
    for annotation, key, name in _named(holder):
        path = folder / os.path.expanduser(name)  # noqa: PTH111 - a Path that begins with ~ would be joined first
        try:
            data[key] = contents.read(path)
        except FileNotFoundError as error:
            hint = "create it, or correct the path, which is relative to the folder of the YAML file"
            raise FileError(annotation, f"There is no file `{path}` for key `{key}`", hint) from error
        except OSError as error:
            _, message, hint = unreadable(error)
            raise FileError(annotation, f"File `{path}` for key `{key}`: {message}", hint) from error
        except ValueError as error:
            raise FileError(annotation, f"`{path}` for key `{key}` {error}", "name another file") from error
    if isinstance(holder, Secret):
        return msgspec.structs.replace(holder, data=data)
    return msgspec.structs.replace(holder, binary_data=data)


def _named(holder: Holder) -> list[tuple[str, str, str]]:
    """Annotation, key and path of each file."""
    found = []
    for annotation, value in holder.metadata.annotations.items():
        if annotation.startswith(f"{ANNOTATION}."):
            found.append((annotation, annotation.removeprefix(f"{ANNOTATION}."), value.strip()))
        elif annotation == ANNOTATION:
            for pair in filter(None, map(str.strip, value.split(","))):
                key, equals, name = pair.partition("=")
                if not equals or not key.strip() or not name.strip():
                    raise FileError(
                        annotation,
                        f"`{pair}` does not name a key and a file",
                        "write it like tls.crt=cert.pem,tls.key=key.pem",
                    )
                found.append((annotation, key.strip(), name.strip()))
    return found
