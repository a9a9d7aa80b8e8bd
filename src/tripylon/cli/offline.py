"""Files → graph without any proxy: what `check` and `envoy` judge and print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tripylon import app
from tripylon.admin.notices import Notice, notices
from tripylon.envoy import emit
from tripylon.envoy.refusals import REFUSALS
from tripylon.files.problems import Problem
from tripylon.files.source import FileSource
from tripylon.graph import Graph
from tripylon.loop import new_graph
from tripylon.model.options import Options
from tripylon.settings import Settings
from tripylon.world import world
from tripylon.xds.snapshot import BY_URL


class Offline:
    """The objects of some files and folders, and what a gateway would make of them."""

    def __init__(self, graph: Graph, source: FileSource, problems: tuple[Problem, ...], options: Options) -> None:
        self.graph = graph
        self.options = options
        self._source = source
        self._problems = problems

    def ask_envoy(self) -> None:
        """Let the real Envoy judge all resources; what it refuses becomes findings.

        StartError or EnvoyFailedError when it gives no verdict.
        """
        from tripylon.envoy.verify import verify_resources

        resources = (resource for each in emit.everything(self.graph).values() for resource in each.values())
        for refusal in verify_resources(resources):
            url = next(url for url in BY_URL if url.endswith(f"/{refusal.type}"))
            self.graph.put(REFUSALS, (url, refusal.name), refusal.message)
        self.graph.flush()

    def notices(self) -> tuple[Notice, ...]:
        """Everything that there is to tell, by file and line."""
        return notices(self.graph.all_findings(), self._problems, self._source.locate)


def load(paths: Sequence[Path]) -> Offline:
    """Read the files and build everything, as `run` would with its default settings."""
    settings = Settings(paths=tuple(paths))
    options = app.model_options(settings)
    graph = new_graph(options, app.emit_options(settings))
    source = FileSource(settings.paths)
    found = source.scan()
    for resource in found.put:
        world.put(graph, resource)
    graph.flush()
    return Offline(graph, source, found.problems, options)
