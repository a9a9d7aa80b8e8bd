"""The access log: one JSON object for each request, connection or session, to standard output or to a file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from google.protobuf.message import Message

from tripylon.pb import pack
from tripylon.pb.messages import AccessLog, FileAccessLog, StdoutAccessLog, SubstitutionFormatString

_FIELDS = {
    "time": "%START_TIME%",
    "method": "%REQUEST_HEADER(:METHOD)%",
    "authority": "%REQUEST_HEADER(:AUTHORITY)%",
    "path": "%REQUEST_HEADER(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "forwarded_for": "%REQUEST_HEADER(X-FORWARDED-FOR)%",
    "user_agent": "%REQUEST_HEADER(USER-AGENT)%",
    "request_id": "%REQUEST_HEADER(X-REQUEST-ID)%",
    "route": "%ROUTE_NAME%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream": "%UPSTREAM_HOST%",
}

_STREAM_FIELDS = {
    "time": "%START_TIME%",
    "server_name": "%REQUESTED_SERVER_NAME%",
    "flags": "%RESPONSE_FLAGS%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "route": "%FILTER_CHAIN_NAME%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream": "%UPSTREAM_HOST%",
}


def access_log(place: str) -> AccessLog:
    """The log of requests to `stdout`, or to a file by its path."""
    return _log(place, _FIELDS)


@lru_cache(maxsize=8)
def stream_log(place: str) -> AccessLog:
    """The same for connections and sessions into which nobody looks; one object for all, which must not be changed."""
    return _log(place, _STREAM_FIELDS)


def _log(place: str, fields: Mapping[str, str]) -> AccessLog:
    format_ = SubstitutionFormatString()
    format_.json_format.update(fields)
    sink: Message
    if place == "stdout":
        name, sink = "envoy.access_loggers.stdout", StdoutAccessLog(log_format=format_)
    else:
        name, sink = "envoy.access_loggers.file", FileAccessLog(path=place, log_format=format_)
    built = AccessLog(name=name)
    built.typed_config.CopyFrom(pack(sink))
    return built
