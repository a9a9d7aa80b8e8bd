"""CEL text to a tree: the tokens and the grammar of the subset that Kubernetes' CRD rules use.

Macros (`all`, `has`, ...) are ordinary calls here; `cel.py` gives them their meaning. Every node keeps the 0-based
offset of its text, so that errors can point at it. Not read: bytes, unsigned numbers, message literals, optionals.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

MAX_DEPTH = 60
"""How deeply expressions may nest; far more than rules need, far less than Python's own parser bears."""


class CelError(ValueError):
    """The expression is no CEL of our subset; `position` is the 0-based offset in `expression` where it goes wrong."""

    def __init__(self, message: str, expression: str, position: int) -> None:
        self.expression = expression
        self.position = position
        super().__init__(f"{message} at offset {position} of {expression!r}")


class Literal(msgspec.Struct, frozen=True):
    """A string, number, `true`, `false` or `null`."""

    position: int
    value: str | int | float | bool | None


class Name(msgspec.Struct, frozen=True):
    """A variable."""

    position: int
    name: str


class Select(msgspec.Struct, frozen=True):
    """`target.field`."""

    position: int
    target: Node
    field: str


class Index(msgspec.Struct, frozen=True):
    """`target[index]`."""

    position: int
    target: Node
    index: Node


class Call(msgspec.Struct, frozen=True):
    """`function(args)`, or `target.function(args)`."""

    position: int
    target: Node | None
    function: str
    args: tuple[Node, ...]


class Operation(msgspec.Struct, frozen=True):
    """An operator with its one operand (`!`, `-`), two, or three (`?`)."""

    position: int
    operator: str
    operands: tuple[Node, ...]


class Items(msgspec.Struct, frozen=True):
    """A list literal."""

    position: int
    items: tuple[Node, ...]


Node = Literal | Name | Select | Index | Call | Operation | Items


class Token(NamedTuple):
    """A piece of the text; `kind` is a group of `_TOKEN`, or `end`."""

    kind: str
    text: str
    position: int


_TOKEN = re.compile(
    r"""
      (?P<space>   \s+ | //[^\n]* )
    | (?P<float>   [0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)? | [0-9]+[eE][+-]?[0-9]+ )
    | (?P<int>     0[xX][0-9a-fA-F]+ | [0-9]+ )
    | (?P<raw>     [rR] (?: \"\"\".*?\"\"\" | '{3}.*?'{3} | "[^"\n]*" | '[^'\n]*' ) )
    | (?P<string>  \"\"\"(?:\\.|[^\\])*?\"\"\" | '{3}(?:\\.|[^\\])*?'{3}
                 | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
    | (?P<name>    [A-Za-z_][A-Za-z0-9_]* )
    | (?P<symbol>  && | \|\| | [=!<>]= | [-+*/%!<>?:.,()\[\]] )
    """,
    re.VERBOSE | re.DOTALL,
)

_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.DOTALL)
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"} | {c: c for c in "\\?\"'`"}
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}

# From loosest to tightest; all of them group to the left.
_LEVELS: tuple[tuple[str, ...], ...] = (
    ("||",),
    ("&&",),
    ("==", "!=", "<", "<=", ">", ">=", "in"),
    ("+", "-"),
    ("*", "/", "%"),
)


def parse(expression: str) -> Node:
    """The tree of `expression`; CelError where it is none."""
    parser = _Parser(expression)
    node = parser.expression_node()
    parser.expect("end", "")
    return node


def tokens_of(expression: str) -> tuple[Token, ...]:
    """All tokens without white space and comments, and one of kind `end` at the end."""
    tokens: list[Token] = []
    position = 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None or match.lastgroup is None:
            raise CelError(f"Unexpected {expression[position]!r}", expression, position)
        if match.lastgroup != "space":
            tokens.append(Token(match.lastgroup, match.group(), position))
        position = match.end()
    return (*tokens, Token("end", "", position))


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens = tokens_of(expression)
        self.at = 0
        self.depth = 0

    def expression_node(self) -> Node:
        """`a ? b : c`, or anything tighter."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error("Nested too deeply")
        node = self.binary(0)
        question = self.tokens[self.at]
        if self.accept("symbol", "?"):
            yes = self.binary(0)
            self.expect("symbol", ":")
            node = Operation(question.position, "?", (node, yes, self.expression_node()))
        self.depth -= 1
        return node

    def binary(self, level: int) -> Node:
        """Operators of `level` and tighter."""
        if level == len(_LEVELS):
            return self.unary()
        node = self.binary(level + 1)
        while (token := self.tokens[self.at]).text in _LEVELS[level] and token.kind in ("symbol", "name"):
            self.at += 1
            node = Operation(token.position, token.text, (node, self.binary(level + 1)))
        return node

    def unary(self) -> Node:
        """`!a`, `-a`, or a member."""
        token = self.tokens[self.at]
        if token.kind == "symbol" and token.text in ("!", "-"):
            self.at += 1
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise self.error("Nested too deeply")
            node = Operation(token.position, token.text, (self.unary(),))
            self.depth -= 1
            return node
        return self.member()

    def member(self) -> Node:
        """A primary with its fields, indexes and method calls."""
        node = self.primary()
        while True:
            token = self.tokens[self.at]
            if self.accept("symbol", "."):
                name = self.expect("name", None)
                if self.accept("symbol", "("):
                    node = Call(name.position, node, name.text, self.list_until(")"))
                else:
                    node = Select(name.position, node, name.text)
            elif self.accept("symbol", "["):
                index = self.expression_node()
                self.expect("symbol", "]")
                node = Index(token.position, node, index)
            else:
                return node

    def primary(self) -> Node:
        """A literal, a name, a call, a list, or something in brackets."""
        token = self.tokens[self.at]
        self.at += 1
        match token.kind, token.text:
            case "symbol", "(":
                node = self.expression_node()
                self.expect("symbol", ")")
                return node
            case "symbol", "[":
                return Items(token.position, self.list_until("]"))
            case "int", text:
                return Literal(token.position, int(text, 16 if text[:2] in ("0x", "0X") else 10))
            case "float", text:
                return Literal(token.position, float(text))
            case "raw", text:
                return Literal(token.position, _unquoted(text[1:]))
            case "string", text:
                return Literal(token.position, self.unescaped(token))
            case "name", text if text in _CONSTANTS:
                return Literal(token.position, _CONSTANTS[text])
            case "name", text if text != "in":
                if self.accept("symbol", "("):
                    return Call(token.position, None, text, self.list_until(")"))
                return Name(token.position, text)
        self.at -= 1
        raise self.error(f"Expected a value, found {token.text!r}" if token.text else "Expected a value, found the end")

    def list_until(self, closing: str) -> tuple[Node, ...]:
        """Expressions between commas, up to and with the closing bracket."""
        if self.accept("symbol", closing):
            return ()
        items = [self.expression_node()]
        while self.accept("symbol", ","):
            items.append(self.expression_node())
        self.expect("symbol", closing)
        return tuple(items)

    def unescaped(self, token: Token) -> str:
        """What a string literal with escapes stands for."""

        def character(match: re.Match[str]) -> str:
            *codes, octal, single = match.groups()
            code = next((int(code, 16) for code in codes if code), int(octal, 8) if octal else None)
            if code is not None and code <= 0x10FFFF:
                return chr(code)
            if single in _ESCAPED:
                return _ESCAPED[single]
            raise CelError(f"Unknown escape {match.group()!r}", self.expression, token.position)

        return _ESCAPE.sub(character, _unquoted(token.text))

    def accept(self, kind: str, text: str) -> bool:
        """Step over the token if it is that one."""
        token = self.tokens[self.at]
        if token.kind != kind or token.text != text:
            return False
        self.at += 1
        return True

    def expect(self, kind: str, text: str | None) -> Token:
        """The token, which must be of that kind and, unless None, that text."""
        token = self.tokens[self.at]
        if token.kind != kind or (text is not None and token.text != text):
            wanted = text or ("a name" if kind == "name" else "the end")
            raise self.error(f"Expected {wanted}, found {token.text or 'the end'!r}")
        self.at += 1
        return token

    def error(self, message: str) -> CelError:
        """An error at the token that comes next."""
        return CelError(message, self.expression, self.tokens[self.at].position)


def _unquoted(text: str) -> str:
    """The text between the quotes, be it one on each side or three."""
    size = 3 if text[:3] in ('"""', "'''") and len(text) >= 6 else 1
    return text[size:-size]
