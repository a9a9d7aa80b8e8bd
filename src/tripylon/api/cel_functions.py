"""What CEL's functions do, on plain Python values; the names are CEL's, turned to snake case.

A wrong argument raises one of `ERRORS`, as CEL's functions end in an error value. Sources: the CEL language definition,
and Kubernetes' own libraries (IP addresses, formats).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable

ERRORS = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What evaluating a rule may raise on a value that does not fit it."""

_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
_NANOSECONDS["h"] = 3600 * 10**9
_DURATION_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"([-+]?)(0|(?:{_DURATION_PART.pattern})+)")


def duration(text: str) -> int:
    """Nanoseconds of `1h30m`, `1.5s`, `-2ms`, as Go writes durations."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no duration")
    total = 0
    for number, unit in _DURATION_PART.findall(match.group(2)):
        whole, _, fraction = number.partition(".")
        scale = _NANOSECONDS[unit]
        total += int(whole or "0") * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)
    if total >= 2**63:
        raise OverflowError(f"{text!r} is too long a duration")
    return -total if match.group(1) == "-" else total


def is_ip(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address, with neither a zone nor an IPv4 address mapped into IPv6."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text and not (address.version == 6 and address.ipv4_mapped is not None)


def is_cidr(text: str) -> bool:
    """Whether it is an address, a slash and a prefix length without leading zeros; host bits may be set."""
    address, slash, length = text.partition("/")
    if not slash or not is_ip(address) or not re.fullmatch(r"0|[1-9][0-9]{0,2}", length, re.ASCII):
        return False
    return int(length) <= (128 if ":" in address else 32)


def split(text: str, separator: str, limit: int = -1) -> list[str]:
    """The parts between separators, at most `limit` of them unless negative; an empty separator splits characters."""
    if limit == 0:
        return []
    if separator:
        return text.split(separator, limit - 1 if limit > 0 else -1)
    if limit < 0 or limit >= len(text):
        return list(text)
    return [*text[: limit - 1], text[limit - 1 :]]


def substring(text: str, start: int, end: int | None = None) -> str:
    """Characters from `start` up to, not with, `end`; IndexError outside the text."""
    stop = len(text) if end is None else end
    if not 0 <= start <= stop <= len(text):
        raise IndexError(f"{start}:{stop} is outside of {text!r}")
    return text[start:stop]


_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def lower_ascii(text: str) -> str:
    """The text with A to Z in lower case, other letters untouched."""
    return text.translate(_LOWER)


def item(container: list[object] | dict[object, object], index: int | str) -> object:
    """`container[index]`, which must be there; a negative index is an error."""
    if isinstance(container, dict):
        return container[index]
    if not isinstance(index, int) or index < 0:
        raise IndexError(index)
    return container[index]


def divide(dividend: float, divisor: float) -> float:
    """Division; of whole numbers: rounded towards zero."""
    if isinstance(dividend, int) and isinstance(divisor, int):
        quotient = abs(dividend) // abs(divisor)
        return quotient if (dividend < 0) == (divisor < 0) else -quotient
    return dividend / divisor


def modulo(dividend: int, divisor: int) -> int:
    """The rest of the division, with the sign of the dividend."""
    rest = abs(dividend) % abs(divisor)
    return -rest if dividend < 0 else rest


def both(left: Callable[[], object], right: Callable[[], object]) -> bool:
    """`left && right`: false when either is, even if the other one is an error."""
    return not either(lambda: not left(), lambda: not right())


def either(left: Callable[[], object], right: Callable[[], object]) -> bool:
    """`left || right`: true when either is, even if the other one is an error."""
    try:
        if left():
            return True
    except ERRORS:
        if right():
            return True
        raise
    return bool(right())


def every(predicate: Callable[[object], object], items: Iterable[object]) -> bool:
    """`items.all(...)`: false when one item fails, even if others are errors."""
    return not some(lambda value: not predicate(value), items)


def some(predicate: Callable[[object], object], items: Iterable[object]) -> bool:
    """`items.exists(...)`: true when one item passes, even if others are errors."""
    failure: Exception | None = None
    for value in items:
        try:
            if predicate(value):
                return True
        except ERRORS as error:
            failure = error
    if failure is not None:
        raise failure
    return False


_LABEL_1123 = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_LABEL_1035 = r"[a-z](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL_1123}(?:\.{_LABEL_1123})*"
_PART = r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"

# Kubernetes' named formats: the longest text, and the pattern of the whole text.
FORMATS: dict[str, tuple[int, re.Pattern[str]]] = {
    "dns1123Label": (63, re.compile(_LABEL_1123)),
    "dns1123Subdomain": (253, re.compile(_SUBDOMAIN)),
    "dns1035Label": (63, re.compile(_LABEL_1035)),
    "dns1123LabelPrefix": (63, re.compile(rf"{_LABEL_1123}-?")),
    "dns1123SubdomainPrefix": (253, re.compile(rf"{_SUBDOMAIN}-?")),
    "dns1035LabelPrefix": (63, re.compile(rf"{_LABEL_1035}-?")),
    "labelValue": (63, re.compile(rf"(?:{_PART})?")),
    "qualifiedName": (253 + 1 + 63, re.compile(rf"(?:(?=[^/]{{1,253}}/){_SUBDOMAIN}/)?(?=.{{1,63}}\Z){_PART}")),
    "uuid": (36, re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")),
}


def format_errors(name: str) -> Callable[[str], list[str] | None]:
    """`format.<name>().validate`: a function that gives None for a valid text, else what is wrong with it."""
    longest, pattern = FORMATS[name]

    def validate(text: str) -> list[str] | None:
        if len(text) <= longest and pattern.fullmatch(text):
            return None
        return [f"{text!r} is not a valid {name} of at most {longest} characters"]

    return validate


_PIECE = re.compile(r"\\.|\(\?[a-zA-Z-]+\)|\(|\)|\[\^?\]?|\]|\||\$|.", re.DOTALL)
_OUTSIDE = {"$": r"\Z", r"\z": r"\Z", r"\s": r"[\t\n\f\r ]", r"\S": r"[^\t\n\f\r ]"}
_INSIDE = {r"\s": r"\t\n\f\r "}
_NOT_SHARED = re.compile(r"\\[pPCQEA1-9]|\(\?[=!<#]|\(\?[a-zA-Z-]*[UmxauL]|\[:|\[[^\]]*\\S")
_REPETITIONS = ("*", "+", "?", "}")


def regex(pattern: str) -> re.Pattern[str]:
    r"""An RE2 pattern as Python's, to be used with `search`; re.error when it is none that we can translate.

    RE2's `$` is the end of the text alone, its classes are those of ASCII, and a flag such as `(?i)` may stand anywhere
    and holds until its group ends. (Not followed: under `(?i)` RE2 takes the Kelvin sign for a k, the long s for an s.)
    """
    if _NOT_SHARED.search(pattern):
        raise re.error("it uses something of RE2 that is not translated", pattern, 0)
    out: list[str] = []
    flags: list[list[str]] = [[]]
    in_class, previous = False, ""
    for piece in _PIECE.findall(pattern):
        if in_class:
            in_class = piece != "]"
            out.append(r"\[" if piece == "[" else _INSIDE.get(piece, piece))
        elif piece.startswith("(?") and piece.endswith(")"):
            flags[-1].append(f"{piece[:-1]}:")
            out.append(flags[-1][-1])
        elif piece == "(":
            flags.append([])
            out.append(piece)
        elif piece == ")" and len(flags) > 1:
            out.append(")" * (len(flags.pop()) + 1))
        elif piece == "|":
            out.append(")" * len(flags[-1]) + "|" + "".join(flags[-1]))
        elif piece == "+" and previous in _REPETITIONS:
            raise re.error("repetition of a repetition", pattern, 0)
        else:
            in_class = piece.startswith("[")
            out.append(_OUTSIDE.get(piece, piece))
        previous = piece
    out.append(")" * len(flags[0]))
    return re.compile("".join(out), re.ASCII)
