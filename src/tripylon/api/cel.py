"""CEL rules of CRDs, compiled to Python once and then evaluated in a microsecond or two.

`compile_rule` turns the tree of `cel_syntax.py` into the source of a lambda and evaluates that once. Only our own rules
come here, never a user's text. The types of values are the schema's business: a rule is meant to run on what the schema
has accepted (`True == 1` here, and whole numbers have no end). The functions are in `cel_functions.py`.

A rule has two forms. The fast one uses Python's `and`, `or`, `all` and `any`, which stop at the first error. CEL knows
more: `error || true` is true. So when the fast form raises, the exact form decides; where the fast one gives a value,
both give the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import assert_never

from tripylon.api import cel_functions as functions
from tripylon.api.cel_syntax import Call, CelError, Index, Items, Literal, Name, Node, Operation, Select, parse

__all__ = ["CelError", "Rule", "compile_rule"]

Rule = Callable[[object, object], bool]
"""Of the value (`self`) and the value before (`oldSelf`): whether the rule holds."""

_BINARY = {"==": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "+": "+", "-": "-", "*": "*", "in": "in"}
_MACROS = ("all", "exists", "exists_one", "filter", "map")
_ESCAPES = {"__underscores__": "__", "__dot__": ".", "__dash__": "-", "__slash__": "/"}
_RESERVED = re.compile(
    "true|false|null|in|as|break|const|continue|else|for|function|if|import|let|loop|package|namespace|return|var|void|while"
)

# Function -> numbers of arguments (the target of a method counts as one) and Python source with their places.
_GLOBALS: dict[str, tuple[tuple[int, ...], str]] = {
    "size": ((1,), "len({0})"),
    "duration": ((1,), "duration({0})"),
    "isIP": ((1,), "is_ip({0})"),
    "isCIDR": ((1,), "is_cidr({0})"),
}
_METHODS: dict[str, tuple[tuple[int, ...], str]] = {
    "size": ((1,), "len({0})"),
    "contains": ((2,), "({1} in {0})"),
    "startsWith": ((2,), "{0}.startswith({1})"),
    "endsWith": ((2,), "{0}.endswith({1})"),
    "split": ((2, 3), "split({all})"),
    "substring": ((2, 3), "substring({all})"),
    "lowerAscii": ((1,), "lower_ascii({0})"),
    "hasValue": ((1,), "({0} is not None)"),
}
_NAMESPACE: dict[str, object] = {
    "divide": functions.divide,
    "duration": functions.duration,
    "both": functions.both,
    "either": functions.either,
    "every": functions.every,
    "is_cidr": functions.is_cidr,
    "is_ip": functions.is_ip,
    "item": functions.item,
    "lower_ascii": functions.lower_ascii,
    "modulo": functions.modulo,
    "some": functions.some,
    "split": functions.split,
    "substring": functions.substring,
}


def compile_rule(expression: str) -> Rule:
    """The rule as a function of `self` and `oldSelf`; an error in evaluation, such as a missing key, means False.

    CelError, with the place, when the expression is outside of the subset described in `cel_syntax.py`.
    """
    tree = parse(expression)
    fast = _evaluated(_Emitter(expression, exact=False), tree)

    @cache
    def exact() -> Callable[[object, object], object]:
        return _evaluated(_Emitter(expression, exact=True), tree)

    def rule(value: object, old_value: object) -> bool:
        try:
            return fast(value, old_value) is True
        except functions.ERRORS:
            pass
        try:
            return exact()(value, old_value) is True
        except functions.ERRORS:
            return False

    return rule


def _evaluated(emitter: _Emitter, tree: Node) -> Callable[[object, object], object]:
    """The tree as a function. What is evaluated holds nothing but our own words, `v_` names and quoted literals."""
    source = emitter.source(tree, frozenset({"self", "oldSelf"}))
    made: Callable[[object, object], object] = eval(  # noqa: S307 - see above
        f"lambda v_self, v_oldSelf: {source}", {**_NAMESPACE, **emitter.constants}
    )
    return made


class _Emitter:
    """Python source for one tree, and the constants (patterns, formats) that it refers to."""

    def __init__(self, expression: str, *, exact: bool) -> None:
        self.expression = expression
        self.exact = exact
        self.constants: dict[str, object] = {}

    def source(self, node: Node, scope: frozenset[str]) -> str:
        """Source of `node`, where `scope` names the variables in sight."""
        match node:
            case Literal():
                return repr(node.value)
            case Name():
                if node.name not in scope:
                    raise self.error(f"Unknown variable {node.name!r}", node)
                return f"v_{node.name}"
            case Select():
                return f"{self.source(node.target, scope)}[{_field(node.field)}]"
            case Index():
                target, index = self.source(node.target, scope), self.source(node.index, scope)
                return f"{target}[{index}]" if _certain(node.index) else f"item({target}, {index})"
            case Items():
                return f"[{', '.join(self.source(item, scope) for item in node.items)}]"
            case Operation():
                return self.operation(node, scope)
            case Call():
                return self.call(node, scope)
            case _:  # pragma: no cover
                assert_never(node)

    def operation(self, node: Operation, scope: frozenset[str]) -> str:
        """Source of an operator and its operands, in brackets."""
        operands = [self.source(operand, scope) for operand in node.operands]
        match node.operator, operands:
            case "?", [condition, yes, no]:
                return f"({yes} if {condition} else {no})"
            case "!", [operand]:
                return f"(not {operand})"
            case "-", [operand]:
                return f"(-{operand})"
            case "&&", [left, right]:
                return f"both(lambda: {left}, lambda: {right})" if self.exact else f"({left} and {right})"
            case "||", [left, right]:
                return f"either(lambda: {left}, lambda: {right})" if self.exact else f"({left} or {right})"
            case "/", [left, right]:
                return f"divide({left}, {right})"
            case "%", [left, right]:
                return f"modulo({left}, {right})"
            case operator, [left, right] if operator in _BINARY:
                return f"({left} {_BINARY[operator]} {right})"
        raise self.error(f"Unknown operator {node.operator!r}", node)

    def call(self, node: Call, scope: frozenset[str]) -> str:
        """Source of a macro, a function or a method."""
        if node.target is None:
            if node.function == "has":
                return self.has(node, scope)
            known = _GLOBALS
        else:
            if node.function in _MACROS:
                return self.macro(node, node.target, scope)
            if node.function == "matches":
                return self.matches(node, node.target, scope)
            if node.function == "validate":
                return self.validate(node, node.target, scope)
            known = _METHODS
        if node.function not in known:
            raise self.error(f"Unknown function {node.function!r}", node)
        counts, template = known[node.function]
        arguments = node.args if node.target is None else (node.target, *node.args)
        if len(arguments) not in counts:
            raise self.error(f"Wrong number of arguments of {node.function!r}", node)
        sources = [self.source(argument, scope) for argument in arguments]
        return template.format(*sources, all=", ".join(sources))

    def has(self, node: Call, scope: frozenset[str]) -> str:
        """`has(a.b)`: whether the map `a` has the key `b`."""
        if len(node.args) != 1 or not isinstance(field := node.args[0], Select):
            raise self.error("has() takes a field, such as has(self.name),", node)
        return f"({_field(field.field)} in {self.source(field.target, scope)})"

    def macro(self, node: Call, target: Node, scope: frozenset[str]) -> str:
        """`target.all(variable, expression)` and its like; of a map, the variable goes through the keys."""
        if len(node.args) != 2 or not isinstance(variable := node.args[0], Name):
            raise self.error(f"{node.function}() takes a variable and an expression,", node)
        items, name = self.source(target, scope), f"v_{variable.name}"
        body = self.source(node.args[1], scope | {variable.name})
        match node.function:
            case "all":
                return f"every(lambda {name}: {body}, {items})" if self.exact else f"all({body} for {name} in {items})"
            case "exists":
                return f"some(lambda {name}: {body}, {items})" if self.exact else f"any({body} for {name} in {items})"
            case "exists_one":
                return f"(sum(1 for {name} in {items} if {body}) == 1)"
            case "filter":
                return f"[{name} for {name} in {items} if {body}]"
            case _:
                return f"[{body} for {name} in {items}]"

    def matches(self, node: Call, target: Node, scope: frozenset[str]) -> str:
        """`target.matches('pattern')`: whether the RE2 pattern, which must be written out, is found in the text."""
        if (
            len(node.args) != 1
            or not isinstance(literal := node.args[0], Literal)
            or not isinstance(literal.value, str)
        ):
            raise self.error("matches() takes a pattern that is written out,", node)
        try:
            search = functions.regex(literal.value).search
        except re.error as error:
            raise self.error(f"Pattern {literal.value!r}: {error.msg},", literal) from error
        return f"({self.constant(search)}({self.source(target, scope)}) is not None)"

    def validate(self, node: Call, target: Node, scope: frozenset[str]) -> str:
        """`format.<name>().validate(text)`, whose result is asked by `.hasValue()`."""
        match target, node.args:
            case Call(target=Name(name="format"), function=name, args=()), (text,) if name in functions.FORMATS:
                return f"{self.constant(functions.format_errors(name))}({self.source(text, scope)})"
        raise self.error("validate() belongs to a format, such as format.dns1123Label(),", node)

    def constant(self, value: object) -> str:
        """The name under which the source finds `value`."""
        name = f"c_{len(self.constants)}"
        self.constants[name] = value
        return name

    def error(self, message: str, node: Node) -> CelError:
        """An error at the node's text."""
        return CelError(message, self.expression, node.position)


def _certain(index: Node) -> bool:
    """Whether the index is written out and not negative, so that Python's own subscript means the same."""
    return isinstance(index, Literal) and type(index.value) in (str, int)


def _field(name: str) -> str:
    """The quoted key of a field, with Kubernetes' escapes undone (`__namespace__` is the key `namespace`)."""
    if name.startswith("__") and name.endswith("__") and _RESERVED.fullmatch(name[2:-2]):
        return json.dumps(name[2:-2])
    return json.dumps(re.sub("|".join(_ESCAPES), lambda match: _ESCAPES[match.group()], name))
