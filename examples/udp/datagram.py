"""Both ends of a talk in datagrams: `python datagram.py answer PORT` and `python datagram.py send PORT TEXT`."""

from __future__ import annotations

import socket
import sys

HOST = "127.0.0.1"
TIMEOUT_S = 5


def answer(port: int) -> None:
    """Answers every datagram with what it was; the same port of TCP is open to show that it is up."""
    with socket.create_server((HOST, port)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talk:
        talk.bind((HOST, port))
        while True:
            text, peer = talk.recvfrom(65535)
            talk.sendto(f"The backend on port {port} got: {text.decode(errors='replace')}".encode(), peer)


def send(port: int, text: str) -> int:
    """Sends one datagram and prints what comes back; 1 when nothing does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talk:
        talk.settimeout(TIMEOUT_S)
        talk.sendto(text.encode(), (HOST, port))
        try:
            print(talk.recv(65535).decode())
        except OSError as error:
            print(f"no answer: {error}", file=sys.stderr)
            return 1
    return 0


def main() -> int:
    match sys.argv[1:]:
        case ["answer", port]:
            answer(int(port))
        case ["send", port, text]:
            return send(int(port), text)
    print("usage: python datagram.py answer PORT | send PORT TEXT", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
