"""Prints one hash over the resources of many worlds, for comparing processes: `python -m tests.laws.digest`.

The worlds are the same in every process, so that only what depends on the process, such as the order of sets, differs.
"""

from __future__ import annotations

from hashlib import blake2b

from hypothesis import HealthCheck, given, seed, settings
from tests.laws import worlds

from tripylon.envoy import emit


def main() -> None:
    """Builds the worlds and prints the hash."""
    whole = blake2b()

    # Certificates are made anew in each process, so what holds them is told by its name alone.
    @given(worlds.worlds())
    @seed(7)
    @settings(max_examples=80, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def add(world: worlds.World) -> None:
        for url, named in emit.everything(worlds.settled(world.values())).items():
            for name, resource in named.items():
                whole.update(f"{url} {name}".encode())
                if b"CERTIFICATE" not in resource.body:
                    whole.update(resource.body)

    add()
    print(whole.hexdigest())


if __name__ == "__main__":
    main()
