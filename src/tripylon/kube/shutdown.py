"""How a proxy's pod ends without losing a request.

Kubernetes takes a pod that ends out of its Services while it runs the preStop hook; load balancers notice by the
readiness that fails. So the hook fails it, lets Envoy ask its clients to go (`Connection: close`, GOAWAY), takes new
connections until everybody has noticed, then closes the listeners and waits for the last connections. Only then is
Envoy told to end. The script is for bash, which the stock image has. It asks on one connection from the beginning to
the end, as the listener of the administration closes with the others; a key opens it (`bootstrap_kubernetes.py`).
"""

from __future__ import annotations

from typing import NamedTuple

from tripylon.envoy.bootstrap_kubernetes import KEY_HEADER

ADMIN_PORT = 19000
READINESS_PORT = 8082
METRICS_PORT = 9091

DEFAULT_SLEEP_S = 10
DEFAULT_GRACE_S = 60
_LAST_SECONDS = 5
"""Left of the grace period for Envoy's own end."""

SCRIPT_FILE = "prestop.sh"
KEY_FILE = "admin.key"
"""Beside the script: the key to Envoy's administration."""

SCRIPT = rf"""#!/usr/bin/env bash
# Takes this proxy out of service: prestop.sh SECONDS_UNTIL_LISTENERS_CLOSE SECONDS_IN_ALL
before=$1 limit=$2
trap '' PIPE
IFS= read -r key <"${{BASH_SOURCE%/*}}/{KEY_FILE}"
exec 3<>"/dev/tcp/127.0.0.1/{ADMIN_PORT}" || exit 0 # Envoy has ended.

ask() {{ # prints the answer's body; fails unless it is a whole one of code 200
  local line ok='' length=0 chunked=''
  printf '%s %s HTTP/1.1\r\nHost: localhost\r\n{KEY_HEADER}: %s\r\nContent-Length: 0\r\n\r\n' "$1" "$2" "$key" >&3
  while IFS= read -r -t 5 line <&3; do
    line=${{line%$'\r'}}
    case ${{line,,}} in
      'http/1.1 200 '*) ok=yes ;;
      'content-length: '*) length=${{line#*: }} ;;
      'transfer-encoding: chunked') chunked=yes ;;
      '') break ;;
    esac
  done
  if [[ $chunked ]]; then
    while IFS= read -r -t 5 line <&3; do
      line=${{line%$'\r'}}
      [[ $line == 0 ]] && IFS= read -r -t 5 line <&3 && break
      printf '%s\n' "$line"
    done
  elif ((length)); then
    IFS= read -r -t 5 -N "$length" line <&3
    printf '%s\n' "$line"
  fi
  [[ $ok ]]
}}

busy() {{ # also when nobody can tell
  local body line
  body=$(ask GET '/stats?filter=%5Elistener%5C..*downstream_cx_active') || return 0
  while IFS= read -r line; do
    [[ $line =~ ^listener\..*_({READINESS_PORT}|{METRICS_PORT}|{ADMIN_PORT})\. ]] && continue
    [[ $line =~ ^listener\..*\.downstream_cx_active:\ [1-9] && ! $line =~ ^listener\.admin\. ]] && return 0
  done <<<"$body"
  return 1
}}

ask POST /healthcheck/fail >/dev/null
sleep "$before"
ask POST /drain_listeners >/dev/null
while ((SECONDS < limit)) && busy; do sleep 0.5; done
exit 0
"""


class Shutdown(NamedTuple):
    """Times of one pod's end, in seconds."""

    sleep_s: int
    """From failing readiness to closing the listeners."""
    grace_s: int
    """Until Kubernetes ends the pod by force."""

    @property
    def limit_s(self) -> int:
        """How long the hook may take in all."""
        return max(self.sleep_s, self.grace_s - _LAST_SECONDS)

    def command(self, folder: str) -> list[str]:
        """The hook, its script being in a folder of the container."""
        return ["bash", f"{folder}/{SCRIPT_FILE}", str(self.sleep_s), str(self.limit_s)]
