"""What every object has: metadata, conditions, and the small types that all kinds share.

Read `kinds.py` for the table of kinds and `markers.py` for the marks inside `Annotated`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from tripylon.api.markers import Items, Number, Part, Rule, Text
from tripylon.values import Name, Ref

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"

_HOST_WORDS = "a host name in lower case (letters, digits, '-' and '.')"
_SUBDOMAIN_WORDS = "lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"

GATEWAY_GROUP = "gateway.networking.k8s.io"
"""API group of the Gateway API's kinds."""

HOSTNAME_PATTERN = rf"^(\*\.)?{_SUBDOMAIN}$"

Hostname = Annotated[
    str, Text(min=1, max=253, pattern=HOSTNAME_PATTERN, words=f"{_HOST_WORDS}, perhaps with '*.' in front")
]
PreciseHostname = Annotated[str, Text(min=1, max=253, pattern=rf"^{_SUBDOMAIN}$", words=_HOST_WORDS)]
Group = Annotated[
    str, Text(max=253, pattern=rf"^$|^{_SUBDOMAIN}$", words="an API group such as 'apps.example.com', or empty")
]
KindName = Annotated[
    str,
    Text(
        min=1,
        max=63,
        pattern="^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$",
        words="a kind such as 'Service': letters, digits and '-'",
    ),
]
ObjectName = Annotated[str, Text(min=1, max=253)]
NamespaceName = Annotated[
    str, Text(min=1, max=63, pattern=rf"^{_LABEL}$", words="a namespace: lower-case letters, digits and '-'")
]
SectionName = Annotated[str, Text(min=1, max=253, pattern=rf"^{_SUBDOMAIN}$", words=_SUBDOMAIN_WORDS)]
ControllerName = Annotated[
    str,
    Text(
        min=1,
        max=253,
        pattern=rf"^{_SUBDOMAIN}\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$",
        words="a domain and a path, such as 'example.com/controller'",
    ),
]
Port = Annotated[int, Number(min=1, max=65535)]
Duration = Annotated[
    str,
    Text(
        pattern="^([0-9]{1,5}(h|m|s|ms)){1,4}$",
        words="a duration: one to four whole numbers with units h, m, s or ms, such as '1m30s' or '500ms'",
    ),
]
"""A span of time as the Gateway API writes it (GEP-2257); `values.parse_duration_ms` reads it."""

MetadataName = Annotated[str, Text(min=1, max=253, pattern=rf"^{_SUBDOMAIN}$", words=_SUBDOMAIN_WORDS)]

_QUALIFIED_KEY = rf"^({_SUBDOMAIN}/)?([A-Za-z0-9][-A-Za-z0-9_.]{{0,61}})?[A-Za-z0-9]$"
_KEYS_FIT = Rule(
    cel=f'self.all(key, key.matches(r"""{_QUALIFIED_KEY}"""))',
    message="must have keys of at most 63 letters, digits, '-', '_' and '.', perhaps behind a domain and '/'",
)
QUALIFIED_KEYS = (
    _KEYS_FIT,
    Rule(
        cel="self.all(key, size(key.split('/')[0]) < 253)",
        message="must have keys whose domain in front of '/' is shorter than 253 characters",
    ),
)
"""Rules of a map whose keys are label or annotation keys."""
QUALIFIED_NAMES = (
    _KEYS_FIT,
    Rule(
        cel="self.all(key, !key.contains('/') || size(key.split('/')[0]) <= 253)",
        message="must have keys whose domain in front of '/' has at most 253 characters",
    ),
)
"""The same with Kubernetes' own bounds."""


class ObjectMeta(Part, frozen=True, gc=False, kw_only=True):
    """Identity and bookkeeping of an object, as Kubernetes defines them."""

    UNREAD: ClassVar[tuple[str, ...]] = (
        "deletionGracePeriodSeconds",
        "finalizers",
        "generateName",
        "managedFields",
        "ownerReferences",
        "selfLink",
    )

    name: MetadataName = ""
    """Name of the object, unique among its kind in its namespace."""
    namespace: NamespaceName = ""
    """Namespace of the object; empty for cluster-scoped kinds. Files that leave it out mean `default`."""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    """Labels, by which selectors choose objects."""
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    """Notes for tools."""
    generation: Annotated[int, Number(format="int64")] = 0
    """Counts changes of `spec`; 0 when read from a file."""
    creation_timestamp: Annotated[str, Text(format="date-time")] = ""
    """When the object was made, in RFC 3339 with a `Z`, so that text order is time order; empty when unknown."""
    deletion_timestamp: Annotated[str, Text(format="date-time")] = ""
    """When deletion was asked for; empty: not being deleted."""
    uid: str = ""
    """Identity over time: another object of the same name has another one."""
    resource_version: str = ""
    """Version of the stored object, opaque."""


class Condition(Part, frozen=True, gc=False, kw_only=True):
    """One statement about an object's state."""

    type: Annotated[
        str,
        Text(
            max=316,
            pattern=rf"^({_SUBDOMAIN}/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
            words="a CamelCase word, perhaps with a domain and '/' in front",
        ),
    ]
    """What is stated, such as `Accepted`."""
    status: Annotated[str, Text(values=("True", "False", "Unknown"))]
    """Whether it holds: `True`, `False` or `Unknown`."""
    observed_generation: Annotated[int, Number(min=0, format="int64")] = 0
    """The generation of the object that was judged; 0: not told."""
    last_transition_time: Annotated[str, Text(format="date-time")]
    """When `status` last changed, in RFC 3339."""
    reason: Annotated[
        str, Text(min=1, max=1024, pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", words="a CamelCase word")
    ]
    """Why, as one CamelCase word for programs."""
    message: Annotated[str, Text(max=32768)]
    """Why, in a sentence for people."""


Conditions = Annotated[tuple[Condition, ...], Items(max=8, kind="map", keys=("type",))]


def pending(*types: str) -> tuple[Condition, ...]:
    """Conditions as an API server fills them into a new object that no controller has seen yet."""
    return tuple(
        Condition(
            type=each,
            status="Unknown",
            reason="Pending",
            message="Waiting for controller",
            last_transition_time="1970-01-01T00:00:00Z",
        )
        for each in types
    )


class LabelSelectorRequirement(Part, frozen=True, gc=False, kw_only=True):
    """One demand on one label."""

    key: str
    """The label's key."""
    operator: str
    """`In`, `NotIn`, `Exists` or `DoesNotExist`."""
    values: Annotated[tuple[str, ...], Items()] = ()
    """For `In` and `NotIn`: the values compared with; empty for the others."""


class LabelSelector(Part, frozen=True, gc=False, kw_only=True):
    """Chooses objects by their labels; all demands must hold, none at all chooses every object."""

    MAP_TYPE: ClassVar[str] = "atomic"

    match_labels: dict[str, str] = msgspec.field(default_factory=dict)
    """Labels that must be there with exactly these values."""
    match_expressions: Annotated[tuple[LabelSelectorRequirement, ...], Items()] = ()
    """Further demands."""


class Resource(Part, frozen=True, gc=False, kw_only=True):
    """Base of every API object. The class's name is its kind."""

    GROUP: ClassVar[str] = ""
    """API group, empty for the core group."""

    api_version: str = ""
    """Group and version as written, such as `gateway.networking.k8s.io/v1`; empty in some list answers."""
    kind: str = ""
    """Kind as written; empty in some list answers."""
    metadata: ObjectMeta = ObjectMeta()
    """Identity of the object."""

    @property
    def key(self) -> Name:
        """The object's key among its own kind."""
        return Name(self.metadata.namespace, self.metadata.name)

    @property
    def ref(self) -> Ref:
        """The object's key among all objects."""
        return Ref(self.GROUP, type(self).__name__, self.metadata.namespace, self.metadata.name)
