"""Ticks after changes of files, as editors, mounts and tools make them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tripylon.files import watch as watching
from tripylon.files.watch import Pace, Targets, Tick, make_plan, watch

# No beat within a test: each tick comes from a notification.
PACE = Pace(beat=600, poll=600)
SOON = 60.0


class Ticks:
    """The ticks of one watch."""

    def __init__(self, ticks: AsyncIterator[Tick]) -> None:
        self.ticks = ticks

    async def next(self, seconds: float = SOON) -> Tick:
        async with asyncio.timeout(seconds):
            return await anext(self.ticks)

    async def until(self, fulfilled: Callable[[], bool]) -> None:
        """Take ticks until what is looked at after one fulfils the condition."""
        async with asyncio.timeout(SOON):
            while not fulfilled():
                await anext(self.ticks)


@asynccontextmanager
async def ticking(*roots: Path, files: frozenset[Path] = frozenset(), pace: Pace = PACE) -> AsyncIterator[Ticks]:
    ticks = watch(lambda: Targets(roots, files), pace)
    try:
        started = Ticks(ticks)
        assert await started.next() == Tick("start")
        yield started
    finally:
        await ticks.aclose()  # type: ignore[attr-defined]


async def quiet(ticks: Ticks) -> None:
    """No tick comes for a while."""
    with pytest.raises(TimeoutError):
        await ticks.next(0.3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "objects"
    made.mkdir()
    return made


async def test_new_changed_and_deleted_files(folder: Path) -> None:
    async with ticking(folder) as ticks:
        file = folder / "a.yaml"
        file.write_text("a: 1")
        assert await ticks.next() == Tick("change")
    async with ticking(folder) as ticks:
        file.write_text("a: 2")
        assert await ticks.next() == Tick("change")
    async with ticking(folder) as ticks:
        file.unlink()
        assert await ticks.next() == Tick("change")


async def test_an_atomic_rename(folder: Path) -> None:
    (folder / "a.yaml").write_text("a: 1")
    (folder.parent / "new").write_text("a: 2")
    async with ticking(folder) as ticks:
        (folder.parent / "new").replace(folder / "a.yaml")
        assert await ticks.next() == Tick("change")


async def test_a_single_file_that_is_replaced_twice(folder: Path) -> None:
    file = folder / "a.yaml"
    file.write_text("a: 1")
    async with ticking(file) as ticks:
        for _ in range(2):
            (folder / "a.new").write_text("a: 2")
            (folder / "a.new").replace(file)
            assert await ticks.next() == Tick("change")
        (folder / "other.yaml").write_text("b: 1")
        await quiet(ticks)


async def test_what_editors_leave_makes_no_tick(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / "log.txt").write_text("")
    async with ticking(folder) as ticks:
        for name in (".a.yaml.swp", "a.yaml~", "4913", "#a.yaml#", ".git/index.yaml"):
            (folder / name).write_text("x")
        (folder / "log.txt").write_text("more")
        await quiet(ticks)


async def test_many_changes_are_told_together(folder: Path) -> None:
    async with ticking(folder) as ticks:
        for number in range(300):
            (folder / f"{number}.yaml").write_text("x")
        await ticks.next()
        count = 1
        with pytest.raises(TimeoutError):
            while True:
                await ticks.next(0.5)
                count += 1
        assert count <= 30


async def test_new_folders_are_watched_too(folder: Path) -> None:
    async with ticking(folder) as ticks:
        (folder / "deep" / "er").mkdir(parents=True)
        await ticks.next()
        (folder / "deep" / "er" / "a.yaml").write_text("x")
        await ticks.next()
        shutil.copytree(folder / "deep", folder / "copy")
        await ticks.until((folder / "copy" / "er" / "a.yaml").exists)
        (folder / "copy").rename(folder / "renamed")
        await ticks.until((folder / "renamed").exists)
        (folder / "renamed" / "er" / "a.yaml").write_text("y")
        await ticks.next()


async def test_a_symlink_swap_as_in_a_configmap_mount(folder: Path) -> None:
    for version in ("..2026_01", "..2026_02"):
        (folder / version).mkdir()
        (folder / version / "a.yaml").write_text(version)
    (folder / "..data").symlink_to("..2026_01")
    (folder / "a.yaml").symlink_to("..data/a.yaml")
    async with ticking(folder) as ticks:
        (folder / "..tmp").symlink_to("..2026_02")
        (folder / "..tmp").replace(folder / "..data")
        await ticks.until(lambda: (folder / "a.yaml").read_text() == "..2026_02")
    async with ticking(folder / "a.yaml") as ticks:
        (folder / "..tmp").symlink_to("..2026_01")
        (folder / "..tmp").replace(folder / "..data")
        await ticks.until(lambda: (folder / "a.yaml").read_text() == "..2026_01")


async def test_a_folder_that_is_a_link_and_is_swapped(tmp_path: Path) -> None:
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
    current = tmp_path / "current"
    current.symlink_to("one")
    async with ticking(current) as ticks:
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(current)
        await ticks.next()
        (tmp_path / "two" / "a.yaml").write_text("x")
        await ticks.until((current / "a.yaml").exists)
        (tmp_path / "two" / "a.yaml").write_text("y")
        await ticks.next()


async def test_a_folder_that_vanishes_and_comes_back(folder: Path) -> None:
    (folder / "a.yaml").write_text("x")
    async with ticking(folder) as ticks:
        shutil.rmtree(folder)
        await ticks.until(lambda: not folder.exists())
        folder.mkdir()
        await ticks.until(folder.exists)
        (folder / "a.yaml").write_text("y")
        await ticks.next()


async def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    async with ticking(folder) as ticks:
        folder.mkdir(parents=True)
        await ticks.until(folder.exists)
        (folder / "a.yaml").write_text("y")
        await ticks.until((folder / "a.yaml").exists)


async def test_files_outside_and_the_targets_of_links(folder: Path) -> None:
    certificate = folder.parent / "certs" / "cert.pem"
    certificate.parent.mkdir()
    certificate.write_text("one")
    (folder / "link.yaml").symlink_to(certificate)
    async with ticking(folder, files=frozenset([certificate])) as ticks:
        certificate.write_text("two")
        assert await ticks.next() == Tick("change")
    async with ticking(folder, files=frozenset([folder / "link.yaml"])) as ticks:
        certificate.write_text("three")
        assert await ticks.next() == Tick("change")


async def test_targets_that_the_consumer_adds_are_watched_at_once(folder: Path) -> None:
    certificate = folder.parent / "cert.pem"
    files: set[Path] = set()
    ticks = Ticks(watch(lambda: Targets((folder,), frozenset(files)), PACE))
    assert await ticks.next() == Tick("start")
    files.add(certificate)
    assert await ticks.next() == Tick("change")
    certificate.write_text("new")
    assert await ticks.next() == Tick("change")
    await ticks.ticks.aclose()  # type: ignore[attr-defined]


async def test_a_beat_without_changes(folder: Path) -> None:
    async with ticking(folder, pace=Pace(beat=0.01)) as ticks:
        assert await ticks.next() == Tick("beat")
        assert await ticks.next() == Tick("beat")


async def test_without_notifications_there_is_a_steady_beat(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(paths: list[str], *, recursive: bool) -> watching.Watcher:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(watching, "_watcher", refuse)
    ticks = Ticks(watch(lambda: Targets((folder,)), Pace(beat=600, poll=0.01)))
    assert await ticks.next() == Tick(
        "start",
        "The system does not notify of changed files ([Errno 28] No space left on device); "
        "looking every 0.01 s instead",
    )
    assert [await ticks.next(), await ticks.next()] == [Tick("beat"), Tick("beat")]
    await ticks.ticks.aclose()  # type: ignore[attr-defined]


async def test_notifications_that_break_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def watch(self, debounce_ms: int, step_ms: int, timeout_ms: int, stop_event: object) -> object:
            raise RuntimeError("broken")

        def close(self) -> None:
            pass

    monkeypatch.setattr(watching, "_watcher", lambda paths, recursive: Broken())
    ticks = Ticks(watch(lambda: Targets((folder,)), Pace(beat=600, poll=0.01)))
    notes = [(await ticks.next()).note for _ in range(3)]
    assert "The system does not notify of changed files (broken); looking every 0.01 s instead" in notes
    assert (await ticks.next()).reason in ("change", "beat")
    await ticks.ticks.aclose()  # type: ignore[attr-defined]


def test_nothing_above_the_given_paths_is_watched_whole(folder: Path) -> None:
    (folder / "a.yaml").write_text("x")
    plan = make_plan(Targets((folder, folder / "a.yaml", folder.parent / "none" / "a.yaml")))
    assert {path for path, _, _ in plan.whole} == {str(folder)}
    assert {path for path, _, _ in plan.flat} == {str(folder.parent), str(folder)}
    assert plan.interesting == {str(folder), str(folder / "a.yaml"), str(folder.parent / "none")}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open descriptors cannot be counted here")
async def test_the_end_leaves_nothing_open(folder: Path) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    await asyncio.to_thread(int)
    before = opened()
    for _ in range(5):
        async with ticking(folder):
            pass
    async with asyncio.timeout(SOON):
        while opened() > before:
            await asyncio.sleep(0.02)


async def test_a_file_that_is_emptied_and_written_or_removed_and_made_anew_is_looked_at_once(folder: Path) -> None:
    file = folder / "a.yaml"
    for empty in (lambda: file.write_text(""), file.unlink):
        file.write_text("old")
        async with ticking(folder, pace=Pace(beat=600, poll=600, join=0.002, replace=2.0)) as ticks:
            empty()
            tick = asyncio.create_task(ticks.next())
            await asyncio.sleep(0.1)
            file.write_text("new")
            assert await tick == Tick("change")
            assert file.read_text() == "new"
