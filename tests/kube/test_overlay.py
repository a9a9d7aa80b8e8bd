"""Strategic merge patches, by the rules that Kubernetes states."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tripylon.kube.overlay import patched

POD: dict[str, Any] = {
    "containers": [
        {
            "name": "envoy",
            "image": "a",
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "ports": [
                {"containerPort": 80, "protocol": "TCP", "name": "x"},
                {"containerPort": 80, "protocol": "UDP", "name": "y"},
            ],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "args": ["-c", "x"],
        }
    ],
    "volumes": [{"name": "v", "emptyDir": {}}],
    "nodeSelector": {"disk": "ssd", "zone": "a"},
    "tolerations": [{"key": "a"}],
}


@pytest.mark.parametrize(
    ("patch", "changes"),
    [
        ({"nodeSelector": {"zone": "b"}}, {"nodeSelector": {"disk": "ssd", "zone": "b"}}),
        ({"nodeSelector": {"zone": None}}, {"nodeSelector": {"disk": "ssd"}}),
        ({"nodeSelector": None}, {"nodeSelector": ...}),
        ({"nodeSelector": {"$patch": "delete"}}, {"nodeSelector": ...}),
        ({"nodeSelector": {"$patch": "replace", "a": "b"}}, {"nodeSelector": {"a": "b"}}),
        ({"tolerations": [{"key": "b"}]}, {"tolerations": [{"key": "b"}]}),
        (
            {"volumes": [{"name": "w", "configMap": {"name": "m"}}]},
            {"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "m"}}]},
        ),
        ({"volumes": [{"name": "v", "$patch": "delete"}]}, {"volumes": []}),
        ({"volumes": [{"$patch": "replace"}, {"name": "z"}]}, {"volumes": [{"name": "z"}]}),
        (
            {"volumes": [{"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}]},
            {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
        ),
        ({"$setElementOrder/volumes": [{"name": "v"}]}, {}),
        ({"absent": {"$patch": "delete"}}, {}),
        ({"made": {"a": {"b": None, "c": 1}}}, {"made": {"a": {"c": 1}}}),
    ],
)
def test_maps_and_lists(patch: dict[str, Any], changes: dict[str, Any]) -> None:
    before = copy.deepcopy(POD)
    wanted = {**POD, **changes}
    assert patched(POD, patch) == {key: value for key, value in wanted.items() if value is not ...}
    assert before == POD


@pytest.mark.parametrize(
    ("patch", "changes"),
    [
        ({"image": "b"}, {"image": "b"}),
        (
            {"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}]},
        ),
        ({"env": [{"name": "A", "$patch": "delete"}]}, {"env": [{"name": "B", "value": "2"}]}),
        (
            {"ports": [{"containerPort": 80, "protocol": "UDP", "name": "z"}]},
            {
                "ports": [
                    {"containerPort": 80, "protocol": "TCP", "name": "x"},
                    {"containerPort": 80, "protocol": "UDP", "name": "z"},
                ]
            },
        ),
        (
            {"volumeMounts": [{"mountPath": "/v", "name": "w"}, {"mountPath": "/w", "name": "v"}]},
            {"volumeMounts": [{"name": "w", "mountPath": "/v"}, {"mountPath": "/w", "name": "v"}]},
        ),
        ({"args": ["--version"]}, {"args": ["--version"]}),
        ({"$deleteFromPrimitiveList/args": ["-c"]}, {"args": ["x"]}),
    ],
)
def test_a_container(patch: dict[str, Any], changes: dict[str, Any]) -> None:
    [before] = POD["containers"]
    assert patched(POD, {"containers": [{"name": "envoy", **patch}]})["containers"] == [{**before, **changes}]


def test_another_container_comes_last() -> None:
    made = patched(POD, {"containers": [{"name": "log", "image": "l", "env": [{"name": "A", "value": None}]}]})
    assert [each["name"] for each in made["containers"]] == ["envoy", "log"]
    assert made["containers"][1]["env"] == [{"name": "A"}]


def test_ports_of_a_service_are_merged_by_port() -> None:
    service = {"ports": [{"port": 80, "targetPort": 80}, {"port": 443, "targetPort": 443}]}
    assert patched(service, {"ports": [{"port": 80, "nodePort": 30080}]}) == {
        "ports": [{"port": 80, "targetPort": 80, "nodePort": 30080}, {"port": 443, "targetPort": 443}]
    }


def test_a_directive_that_there_is_not() -> None:
    with pytest.raises(ValueError, match=r"`\$patch: remove` is no directive"):
        patched(POD, {"nodeSelector": {"$patch": "remove"}})


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: st.dictionaries(st.sampled_from(("a", "b", "env", "args")), inner, max_size=3),
    max_leaves=8,
)
MAPS = st.dictionaries(st.sampled_from(("a", "b", "env")), VALUES, max_size=3)


@given(original=MAPS, patch=MAPS)
@settings(max_examples=200, deadline=None)
def test_a_patch_twice_is_the_same_as_once(original: dict[str, Any], patch: dict[str, Any]) -> None:
    once = patched(original, patch)
    assert patched(once, patch) == once
    assert patched(original, {}) == original
    assert patched({}, patch) == patch
