"""Every feature that acts on a request, and what is found by whoever asks for it, whatever the hostname."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from tests.live import clients
from tests.live.every_host import Feature, Visitor, backend, deployment, header_at_pod
from tests.live.fleet import Manifest
from tests.live.test_external_auth import KNOWN, asking
from tests.live.test_retry_budget import ATTEMPTS

from tripylon.envoy import cors, external_auth, sessions
from tripylon.envoy.scopes import HEADER

OWN, FOREIGN = ("Origin", "https://a.example.com"), ("Origin", "https://b.example.org")
ASKED = ("Access-Control-Request-Method", "POST")
CORS: Manifest = {"type": "CORS", "cors": {"allowOrigins": ["https://a.example.com"], "allowMethods": ["POST"]}}
SETS: Manifest = {"set": [{"name": "X-Set", "value": "ours"}], "add": [{"name": "X-Add", "value": "b"}]}
REMOVES: Manifest = {**SETS, "remove": ["X-Remove"]}
SENT = (("X-Set", "theirs"), ("X-Add", "a"), ("X-Remove", "gone"))
ECHOED = ("X-Echo-Set-Header", "X-Set:theirs,X-Add:a,X-Remove:gone")
DELAY = "?delay=10s"
SHARED = 200
"""Requests of which a share is copied."""


def modifier(kind: str) -> Manifest:
    return {"type": f"{kind}HeaderModifier", f"{kind[0].lower()}{kind[1:]}HeaderModifier": REMOVES}


def redirect(**to: object) -> Manifest:
    return {"type": "RequestRedirect", "requestRedirect": to}


def rewrite(**to: object) -> Manifest:
    return {"type": "URLRewrite", "urlRewrite": to}


def mirror(**share: object) -> Manifest:
    return {"type": "RequestMirror", "requestMirror": {"backendRef": backend("echo-v2"), **share}}


TO_RETRY = rewrite(path={"type": "ReplacePrefixMatch", "replacePrefixMatch": "/retry/it"})

# --- What visitors must find ---


def a_pod(visitor: Visitor) -> None:
    answer = visitor.get("/x?y=z")
    assert (answer.status, deployment(answer)) == (200, "echo-v1")
    assert answer.seen["path"] == f"{visitor.base}/x?y=z"
    assert answer.seen["host"] == visitor.host
    assert header_at_pod(answer, HEADER) == []
    assert answer.header(HEADER) is None
    assert header_at_pod(answer, "X-Forwarded-Proto") == ["http"]
    assert len(header_at_pod(answer, "X-Request-Id")) == 1
    (client,) = header_at_pod(answer, "X-Forwarded-For")
    forwarded = header_at_pod(visitor.get("", ("X-Forwarded-For", "198.51.100.1")), "X-Forwarded-For")
    assert forwarded == [f"198.51.100.1,{client}"]


def nothing_elsewhere(visitor: Visitor) -> None:
    for path in (f"/{visitor.place.name}x", f"/{visitor.place.name}", "/", f"{visitor.base}x"):
        answer = visitor.ask(path)
        assert (answer.status, answer.pod) == (404, ""), path


def the_same_origin_rules(visitor: Visitor) -> None:
    own, foreign, none = visitor.get("", OWN), visitor.get("", FOREIGN), visitor.get()
    assert {deployment(each) for each in (own, foreign, none)} == {"echo-v1"}
    assert own.header("access-control-allow-origin") == OWN[1]
    assert foreign.header("access-control-allow-origin") is none.header("access-control-allow-origin") is None
    preflight = visitor.get("", OWN, ASKED, method="OPTIONS")
    assert (preflight.status, preflight.pod) == (200, "")
    assert preflight.header("access-control-allow-origin") == OWN[1]
    assert preflight.header("access-control-allow-methods") == "POST"
    assert visitor.get("", FOREIGN, ASKED, method="OPTIONS").status == 403
    assert deployment(visitor.get("", OWN, method="OPTIONS")) == "echo-v1"


def asked(by_http: int, by_grpc: int) -> Callable[[Visitor], None]:
    """Nobody comes in without the word; who has it is asked for it as often as is said."""

    def check(visitor: Visitor) -> None:
        for method in ("GET", "POST", "OPTIONS", "HEAD"):
            answer = visitor.get("", method=method)
            assert (answer.status in (401, 403, 501), answer.pod) == (True, ""), method
        path = visitor.unique()
        answer = visitor.get(path, KNOWN, (HEADER, "x"))
        assert (answer.status, deployment(answer)) == (200, "echo-v1")
        assert visitor.stage.asked(visitor.base + path) == (by_http, by_grpc)
        assert header_at_pod(answer, "X-User") == ["ali"]
        assert answer.seen["host"] == visitor.host
        assert header_at_pod(answer, HEADER) == []

    return check


def asked_after_preflights(visitor: Visitor) -> None:
    assert visitor.get("", OWN, ASKED, method="OPTIONS").status == 200
    assert visitor.get("", FOREIGN, ASKED, method="OPTIONS").status in (401, 403, 501)
    assert visitor.get("", OWN, method="OPTIONS").status in (401, 403, 501)
    assert visitor.get("", OWN).status == 401
    assert deployment(visitor.get("", OWN, KNOWN)) == "echo-v1"


def asked_before_a_redirect(visitor: Visitor) -> None:
    assert visitor.get().status == 401
    assert visitor.get("", KNOWN).status == 302


def answered(*statuses: int) -> Callable[[Visitor], None]:
    """Every request is answered like this and reaches no pod, whoever sends it."""

    def check(visitor: Visitor) -> None:
        for headers in ((), (KNOWN,), (OWN, ASKED)):
            answer = visitor.get("", *headers, method="OPTIONS" if ASKED in headers else "GET")
            assert answer.status in statuses, answer
            assert answer.pod == ""

    return check


def cookie_keeps_the_pod(visitor: Visitor) -> None:
    first = visitor.get()
    told = first.header("set-cookie") or ""
    assert told.startswith("r="), told
    cookie = ("Cookie", told.partition(";")[0].replace('"', ""))
    assert {visitor.get("", cookie).pod for _ in range(8)} == {first.pod}
    assert len({visitor.get().pod for _ in range(32)}) == 2


def header_keeps_the_pod(visitor: Visitor) -> None:
    first = visitor.get()
    token = first.header("x-session")
    assert token
    assert {visitor.get("", ("X-Session", token)).pod for _ in range(8)} == {first.pod}


def retried(visitor: Visitor) -> None:
    asked = f"?uuid={uuid.uuid4()}&succeedAfter=2&responseCode=503"
    assert visitor.get(asked).status == 200


def tried_once(visitor: Visitor) -> None:
    asked = f"?uuid={uuid.uuid4()}&succeedAfter=1&responseCode=503"
    assert visitor.get(asked).status == 503


def too_late(visitor: Visitor) -> None:
    assert visitor.get(DELAY).status == 504


def in_time(visitor: Visitor) -> None:
    assert deployment(visitor.get("?delay=400ms")) == "echo-v1"


def changed_for_the_pod(visitor: Visitor) -> None:
    answer = visitor.get("", *SENT)
    found = {name: ",".join(header_at_pod(answer, name)) for name in ("X-Set", "X-Add", "X-Remove")}
    assert found == {"X-Set": "ours", "X-Add": "a,b", "X-Remove": ""}


def changed_for_the_client(visitor: Visitor) -> None:
    answer = visitor.get("", ECHOED)
    found = {name: answer.header(name) for name in ("X-Set", "X-Add", "X-Remove")}
    assert found == {"X-Set": "ours", "X-Add": "a,b", "X-Remove": None}


def sent_to(location: str, status: int = 302) -> Callable[[Visitor], None]:
    """Redirected to a place; `{host}` is what the visitor asked for, without a port, `{base}` where the feature is.

    Case and the port that HTTPS implies matter not.
    """

    def check(visitor: Visitor) -> None:
        answer = visitor.get("/a?b=c")
        expected = location.format(host=visitor.host.partition(":")[0].lower(), base=visitor.base)
        assert (answer.status, (answer.header("location") or "").lower().replace(":443/", "/")) == (status, expected)

    return check


def seen_as(path: str, host: str = "") -> Callable[[Visitor], None]:
    """What the pod sees of the request for `/a?b=c` below the feature; `{base}` is where the feature is."""

    def check(visitor: Visitor) -> None:
        answer = visitor.get("/a?b=c")
        assert answer.seen["path"] == path.format(base=visitor.base)
        assert answer.seen["host"] == (host or visitor.host)

    return check


def copied(visitor: Visitor) -> None:
    mark = str(uuid.uuid4())
    assert deployment(visitor.get("", ("X-Mark", mark), (HEADER, "x"))) == "echo-v1"
    (copy,) = visitor.stage.copies(mark, 1)
    assert HEADER not in {name.lower() for name in copy.headers}
    assert copy.host == visitor.host


def shared(*names: str) -> Callable[[Visitor], None]:
    """Each of these gets some of the requests, and nobody else; a number is a status."""

    def check(visitor: Visitor) -> None:
        answers = [visitor.get() for _ in range(24)]
        assert {deployment(each) or str(each.status) for each in answers} == set(names)

    return check


def guarded_share(visitor: Visitor) -> None:
    answers = [visitor.get() for _ in range(24)]
    assert {deployment(each) or str(each.status) for each in answers} == {"echo-v1", "401"}
    known = [visitor.get("", KNOWN) for _ in range(24)]
    assert {deployment(each) for each in known} == {"echo-v1", "echo-v2"}


def matched(visitor: Visitor) -> None:
    assert visitor.get("", ("X-Wanted", "yes")).status == 200
    assert visitor.get("?q=yes", method="PUT").status == 200
    assert visitor.get("?q=yes").status == 404
    assert visitor.get("", ("X-Wanted", "no")).status == 404


def spoken_tls_to(visitor: Visitor) -> None:
    answer = visitor.get()
    assert deployment(answer) == "echo-v1"
    assert answer.seen["tls"]


def by_h2c(visitor: Visitor) -> None:
    assert visitor.get().seen["proto"] == "HTTP/2.0"


def upgraded(visitor: Visitor) -> None:
    if visitor.protocol == "http1":
        call = clients.Call(host=visitor.host, path=visitor.base)
        assert clients.websocket(visitor.target, call, ("hello",)) == ("hello",)


def refuses_upgrades(visitor: Visitor) -> None:
    if visitor.protocol == "http1":
        upgrade = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
        assert visitor.get("", *upgrade, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")).status == 401


def traced(visitor: Visitor) -> None:
    path = visitor.unique()
    answer = visitor.get(path)
    (span,) = visitor.stage.collector.wait_for(visitor.base + path)
    (parent,) = header_at_pod(answer, "Traceparent")
    assert parent.split("-")[1] == span.trace
    assert HEADER not in " ".join(span.attributes).lower()


# --- The features ---

SLOTS = external_auth.ROUTE_SLOTS
HTTP, GRPC = asking("HTTP", "http-auth"), asking("GRPC", "grpc-auth")
MORE_HTTP, MORE_GRPC = asking("HTTP", "http-auth-2"), asking("GRPC", "grpc-auth-2")
FEATURES = (
    Feature("plain", {}, a_pod),
    Feature("elsewhere", {}, nothing_elsewhere),
    Feature("cors", {"filters": [CORS]}, the_same_origin_rules, (cors.FILTER,)),
    Feature("cors-of-backend", {"backendRefs": [backend(filters=[CORS])]}, the_same_origin_rules, (cors.FILTER,)),
    Feature("auth-http", {"filters": [HTTP]}, asked(1, 0), SLOTS[:1]),
    Feature("auth-grpc", {"filters": [GRPC]}, asked(0, 1), SLOTS[:1]),
    Feature("auth-of-backend-http", {"backendRefs": [backend(filters=[HTTP])]}, asked(1, 0), SLOTS[:1]),
    Feature("auth-of-backend-grpc", {"backendRefs": [backend(filters=[GRPC])]}, asked(0, 1), SLOTS[:1]),
    Feature(
        "auth-of-all",
        {"filters": [HTTP, GRPC], "backendRefs": [backend(filters=[MORE_GRPC, MORE_HTTP])]},
        asked(2, 2),
        SLOTS,
    ),
    Feature(
        "auth-of-share",
        {"backendRefs": [backend(), backend("echo-v2", filters=[HTTP])]},
        guarded_share,
        SLOTS[:1],
    ),
    Feature("auth-and-cors", {"filters": [HTTP, CORS]}, asked_after_preflights, (*SLOTS[:1], cors.FILTER)),
    Feature("auth-and-redirect", {"filters": [HTTP, redirect(port=1)]}, asked_before_a_redirect, SLOTS[:1]),
    Feature("auth-and-upgrade", {"filters": [HTTP], "backendRefs": [backend(port=8082)]}, refuses_upgrades, SLOTS[:1]),
    Feature("auth-http-away", {"filters": [asking("HTTP", "away")]}, answered(403), SLOTS[:1]),
    Feature("auth-grpc-away", {"filters": [asking("GRPC", "away")]}, answered(403), SLOTS[:1]),
    Feature("auth-missing", {"filters": [asking("HTTP", "no-such-service")]}, answered(500)),
    Feature(
        "closed",
        {"filters": [{"type": "ExtensionRef", "extensionRef": {"group": "", "kind": "ConfigMap", "name": "x"}}]},
        answered(500),
    ),
    Feature("broken-backend", {"backendRefs": [backend("no-such-service")]}, answered(500)),
    Feature("half-broken", {"backendRefs": [backend("no-such-service"), backend()]}, shared("500", "echo-v1")),
    Feature(
        "session-cookie",
        {"sessionPersistence": {"cookie": {"name": "r"}}},
        cookie_keeps_the_pod,
        (sessions.FILTER,),
    ),
    Feature(
        "session-header",
        {"sessionPersistence": {"type": "Header", "header": {"name": "X-Session"}}},
        header_keeps_the_pod,
        (sessions.FILTER,),
    ),
    Feature("retry", {"filters": [TO_RETRY], "retry": {"codes": [503], "attempts": 3, "backoff": "10ms"}}, retried),
    Feature("no-retry", {"filters": [TO_RETRY]}, tried_once),
    Feature("timeout", {"timeouts": {"request": "300ms"}}, too_late),
    Feature("timeout-of-backend", {"timeouts": {"backendRequest": "300ms"}}, too_late),
    Feature("no-timeout", {}, in_time),
    Feature("request-headers", {"filters": [modifier("Request")]}, changed_for_the_pod),
    Feature(
        "request-headers-of-backend", {"backendRefs": [backend(filters=[modifier("Request")])]}, changed_for_the_pod
    ),
    Feature("response-headers", {"filters": [modifier("Response")]}, changed_for_the_client),
    Feature(
        "response-headers-of-backend",
        {"backendRefs": [backend(filters=[modifier("Response")])]},
        changed_for_the_client,
    ),
    Feature("redirect-scheme", {"filters": [redirect(scheme="https")]}, sent_to("https://{host}{base}/a?b=c")),
    Feature(
        "redirect-all",
        {
            "filters": [
                redirect(
                    scheme="https",
                    hostname="done.example.com",
                    port=8443,
                    statusCode=301,
                    path={"type": "ReplacePrefixMatch", "replacePrefixMatch": "/done"},
                )
            ]
        },
        sent_to("https://done.example.com:8443/done/a?b=c", 301),
    ),
    Feature("rewrite-host", {"filters": [rewrite(hostname="b.example.org")]}, seen_as("{base}/a?b=c", "b.example.org")),
    Feature(
        "rewrite-prefix",
        {"filters": [rewrite(path={"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"})]},
        seen_as("/new/a?b=c"),
    ),
    Feature(
        "rewrite-path",
        {"filters": [rewrite(path={"type": "ReplaceFullPath", "replaceFullPath": "/new"})]},
        seen_as("/new?b=c"),
    ),
    Feature("mirror", {"filters": [mirror()]}, copied),
    Feature(
        "matches",
        {},
        matched,
        matches=(
            {"headers": [{"name": "X-Wanted", "value": "yes"}]},
            {"method": "PUT", "queryParams": [{"name": "q", "value": "yes"}]},
        ),
    ),
    Feature(
        "weights",
        {"backendRefs": [backend(), backend("echo-v2"), backend("echo-v3", weight=0)]},
        shared("echo-v1", "echo-v2"),
    ),
    Feature("backend-tls", {"backendRefs": [backend("secured", port=443)]}, spoken_tls_to),
    Feature("h2c", {"backendRefs": [backend(port=8081)]}, by_h2c),
    Feature(
        "websocket",
        {
            "filters": [rewrite(path={"type": "ReplaceFullPath", "replaceFullPath": "/ws"})],
            "backendRefs": [backend(port=8082)],
        },
        upgraded,
    ),
    Feature("tracing", {}, traced),
)
BUDGETED = Feature(
    "budget",
    {
        "retry": {"codes": [503], "attempts": ATTEMPTS, "backoff": "400ms"},
        "filters": [rewrite(path={"type": "ReplaceFullPath", "replaceFullPath": "/status/503"})],
        "backendRefs": [backend("bounded")],
    },
    a_pod,
)
HALF = Feature("half", {"filters": [mirror(percent=50)]}, a_pod)
