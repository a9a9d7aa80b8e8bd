"""Writes what follows from the charts and from our kinds: `python tools/charts.py`; `--check` only says what differs.

`charts/tripylon-crds/templates` from the structs of our kinds, and `src/tripylon/kube/install.json`, the chart
`charts/tripylon` rendered with its default values, from which `tripylon gen install` works without Helm.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml
from helm_python import Chart

from tripylon.api.crd import crd, own_kinds
from tripylon.cli.output import yaml_text
from tripylon.kube.install import NAMESPACE, RELEASE

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "tripylon"
DEFINITIONS = ROOT / "charts" / "tripylon-crds" / "templates"
INSTALL = ROOT / "src" / "tripylon" / "kube" / "install.json"
_HEADER = "# Written by tools/charts.py from the structs in src/tripylon/api; do not edit.\n"
_KEEP = {"helm.sh/resource-policy": "keep"}
"""Objects of our kinds would go with their definition; so it stays when the chart is removed."""
_OF_HELM = (("app.kubernetes.io/managed-by", "Helm"),)
_CHART = "helm.sh/chart"


def main() -> int:
    """Write what differs, or, with `--check`, name it and fail."""
    wanted = all_files()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    stale += [path for path in DEFINITIONS.glob("*.yaml") if path not in wanted]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date; run `python tools/charts.py`")
        return 1 if stale else 0
    for path in stale:
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    print(f"charts: {len(wanted)} files, {len(stale)} of them written or removed")
    return 0


def all_files() -> dict[Path, str]:
    """Each file's text by its path."""
    made = {DEFINITIONS / f"{kind.plural}.yaml": definition_template(crd(kind)) for kind in own_kinds()}
    objects = msgspec.json.format(msgspec.json.encode([without_helm(obj) for obj in render()]), indent=1).decode()
    return made | {INSTALL: objects + "\n"}


def without_helm(value: Any) -> Any:
    """A copy without the labels that only a release of Helm may have."""
    if isinstance(value, dict):
        return {key: without_helm(each) for key, each in value.items() if (key, each) not in _OF_HELM and key != _CHART}
    return [without_helm(each) for each in value] if isinstance(value, list) else value


def definition_template(definition: dict[str, Any]) -> str:
    """A definition as a template of the chart: Go's braces are written as texts."""
    metadata = definition["metadata"] | {"annotations": _KEEP}
    text = yaml_text([definition | {"metadata": metadata}])
    return _HEADER + text.replace("{{", '{{ "{{" }}')


def render(
    values: Mapping[str, Any] | None = None, *, release: str = RELEASE, namespace: str = NAMESPACE, chart: Path = CHART
) -> list[dict[str, Any]]:
    """The objects of a chart, by file and then as they stand there; helm_python's errors for values that do not fit."""
    with Chart.load(chart) as loaded:
        texts = loaded.render(dict(values or {}), name=release, namespace=namespace)
    return [
        obj
        for path in sorted(texts)
        if path.endswith(".yaml")
        for obj in yaml.safe_load_all(texts[path])
        if obj is not None
    ]


if __name__ == "__main__":
    sys.exit(main())
