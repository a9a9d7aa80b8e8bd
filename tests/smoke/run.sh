#!/usr/bin/env bash
# `make run` ends in a serving gateway and prints what to try; what it prints is tried here. Ctrl-C leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/../.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

setsid make run >"$log" 2>&1 &
group=$!
finish() { kill -INT -- "-$group" 2>/dev/null || true; }
trap 'finish; rm -f "$log"' EXIT

answer=""
for _ in $(seq 1 600); do
  try=$(grep -om1 'curl .*http://127\.0\.0\.1:[0-9]*/[^ ]*' "$log" || true)
  if [ -n "$try" ]; then
    answer=$(eval "$try --silent --output /dev/null --write-out '%{http_code}' --max-time 5" || true)
    [ "$answer" = 200 ] && break
  fi
  kill -0 "$group" 2>/dev/null || break
  sleep 0.2
done
cat "$log"
[ "$answer" = 200 ] || { echo "smoke: make run did not end in a gateway that answers 200 (last: ${answer:-nothing})"; exit 1; }
echo "smoke: $try -> $answer"

finish
for _ in $(seq 1 150); do
  pgrep -g "$group" >/dev/null || { echo "smoke: Ctrl-C ended it, nothing is left"; exit 0; }
  sleep 0.2
done
echo "smoke: processes are left after Ctrl-C:"; ps -o pid,args -g "$group"; exit 1
