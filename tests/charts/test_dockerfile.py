"""The image is not built here, so its file is read: what it runs as, what it installs, and that it fits the chart."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tripylon.kube.install import rendered
from tripylon.pb.descriptors import CACHE_VARIABLE

ROOT = Path(__file__).resolve().parents[2]


class Step(NamedTuple):
    """One instruction, its continued lines joined."""

    name: str
    words: str


@cache
def stages() -> list[list[Step]]:
    """The steps of each stage; the first list is what stands before all stages."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text()).replace("\\\n", " ")
    made: list[list[Step]] = [[]]
    for line in filter(None, map(str.strip, text.splitlines())):
        name, words = line.split(maxsplit=1)
        if name == "FROM":
            made.append([])
        made[-1].append(Step(name, " ".join(words.split())))
    return made


def words_of(stage: int, name: str) -> list[str]:
    return [step.words for step in stages()[stage] if step.name == name]


def variables() -> dict[str, str]:
    return dict(word.split("=", 1) for words in words_of(-1, "ENV") for word in shlex.split(words))


def test_stages_share_one_image_that_can_be_chosen() -> None:
    assert [words_of(each, "FROM") for each in (1, 2)] == [["${PYTHON} AS build"], ["${PYTHON}"]]
    [(name, _, image)] = [words.partition("=") for words in words_of(0, "ARG")]
    assert name == "PYTHON"
    assert re.fullmatch(r"docker\.io/library/python:3\.1\d-slim-[a-z]+", image)
    assert len(stages()) == 3


def test_nothing_is_bound_to_a_platform() -> None:
    assert not re.search(r"amd64|arm64|x86_64|aarch64|TARGETARCH", "".join(map(str, stages())))


def test_it_runs_as_the_user_of_the_chart_and_without_root() -> None:
    [user] = words_of(-1, "USER")
    [deployment] = [each for each in rendered() if each["kind"] == "Deployment"]
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}" == "65532:65532"


def test_the_shipped_stage_only_copies() -> None:
    assert not words_of(-1, "RUN")
    assert words_of(-1, "COPY") == ["--from=build /opt/tripylon /opt/tripylon"]


def test_everything_installed_is_pinned_or_our_own() -> None:
    commands = [part.strip() for words in words_of(1, "RUN") for part in words.split("&&")]
    installs = [each for each in commands if re.search(r"\bpip\b.* (install|wheel) ", each)]
    assert len(installs) == 4
    for each in installs:
        assert "--require-hashes --only-binary :all: -r requirements/run.txt" in each or "--no-deps" in each
    assert not re.search(r"apt-get|curl|wget|\bADD\b", "".join(map(str, stages())))


def test_what_only_builds_need_is_taken_out() -> None:
    pins = (ROOT / "requirements" / "run.txt").read_text()
    [command] = re.findall(r"uninstall --yes ([a-z -]+)", "\n".join(words_of(1, "RUN")))
    removed = command.split()
    assert "hatchling" in removed
    for name in removed:
        reasons = re.search(rf"(?m)^{name}==.*(?:\n    --hash.*)+((?:\n    #.*)+)", pins)
        assert reasons is not None, name
        assert set(re.findall(r"#\s+(?:via )?([a-z][a-z-]*)", reasons[1])) - {"via"} <= {"hatchling", "tripylon"}, name


def test_what_is_derived_from_envoy_is_made_where_the_controller_looks() -> None:
    [step] = [words for words in words_of(1, "RUN") if "serialised_descriptors()" in words]
    assert f"{CACHE_VARIABLE}={variables()[CACHE_VARIABLE]} " in step
    assert variables()[CACHE_VARIABLE].startswith("/opt/tripylon/")
    assert step.endswith(f"&& chmod -R a+rX {variables()[CACHE_VARIABLE]}")  # cached files are their maker's alone


def test_the_chart_finds_command_and_ports() -> None:
    [deployment] = [each for each in rendered() if each["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert words_of(-1, "ENTRYPOINT") == ['["tripylon"]']
    assert "command" not in container
    assert container["args"] == ["controller"]
    assert words_of(-1, "CMD") == ['["controller"]']
    assert {int(word) for word in words_of(-1, "EXPOSE")[0].split()} == {
        port["containerPort"] for port in container["ports"]
    }
    assert variables()["PATH"].split(":")[0] == "/opt/tripylon/bin"


@pytest.mark.parametrize("stage", [1, 2])
def test_only_what_is_copied_is_sent_to_the_builder(stage: int) -> None:
    lines = [each for each in (ROOT / ".dockerignore").read_text().splitlines() if not each.startswith("#")]
    assert lines[0] == "*"
    sent = {each[1:] for each in lines if each.startswith("!")}
    for words in words_of(stage, "COPY"):
        if not words.startswith("--from="):
            *sources, _ = words.split()
            assert set(sources) <= sent
            assert all((ROOT / each).exists() for each in sources)
