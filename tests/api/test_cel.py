"""Our CEL against Google's, on written and on generated rules and values; and the errors of what is no CEL."""

from __future__ import annotations

import ipaddress
from functools import cache

import pytest
from cel_expr_python import cel  # type: ignore[import-untyped]
from cel_expr_python.ext import ext_strings  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from tripylon.api.cel import CelError, compile_rule
from tripylon.api.cel_functions import regex


@cache
def oracle_environment() -> cel.Env:
    return cel.NewEnv(variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN}, extensions=[ext_strings.ExtStrings()])


@cache
def oracle_expression(rule: str) -> cel.Expression:
    return oracle_environment().compile(rule)


def oracle(rule: str, value: object, old: object = None) -> bool:
    """Google's verdict; an error counts as false, as in an API server."""
    result = oracle_expression(rule).eval(data={"self": value, "oldSelf": old})
    return result.type() == cel.Type.BOOL and result.plain_value() is True


PEOPLE = [{"name": "ann", "port": 80}, {"name": "bob", "port": 81, "tags": ["x", "y"]}]

TRUE = [
    ("self == 1", 1),
    ("self != 'a'", "b"),
    ("self == oldSelf || true", 1),
    ("has(self.a)", {"a": 1}),
    ("has(self.a.b) && !has(self.a.c)", {"a": {"b": 0}}),
    ("self.all(p, p.port >= 80)", PEOPLE),
    ("self.all(p, false)", []),
    ("self.exists(p, p.name == 'bob')", PEOPLE),
    ("self.exists_one(p, p.port > 80)", PEOPLE),
    ("self.filter(p, has(p.tags)).size() == 1", PEOPLE),
    ("self.map(p, p.port) == [80, 81]", PEOPLE),
    ("self.filter(p, p.port > 80).map(p, p.name)[0] == 'bob'", PEOPLE),
    ("self.all(a, self.exists_one(b, a.name == b.name))", PEOPLE),
    ("self.all(a, self.filter(a, a.port == 80).size() == 1)", PEOPLE),
    ("self.all(key, key.startsWith('a'))", {"a1": 1, "a2": 2}),
    ("'a1' in self && self['a1'] == 1", {"a1": 1}),
    ("size(self) == 3 && self.size() == 3", "añb"),
    ("self in ['HTTP', \"HTTPS\"]", "HTTPS"),
    ("self.contains('b') && self.startsWith('a') && self.endsWith('c')", "abc"),
    ("self.split('/')[1] == 'b'", "a/b/c"),
    ("self.split('/', 2)[1] == 'b/c'", "a/b/c"),
    ("self.split('').size() == 5", "a/b/c"),
    ("self.split('', 2) == ['a', '/b/c']", "a/b/c"),
    ("self.split('/', 0).size() == 0", "a/b/c"),
    ("self.split('/', 1) == ['a/b/c']", "a/b/c"),
    ("self.substring(2) == 'c' && self.substring(1, 2) == 'b'", "abc"),
    ("self.lowerAscii() == 'abcÀ'", "AbCÀ"),
    ("self ? false : true", False),
    ("true ? false || true : false ? false : true", 0),
    ("1 + 2 * 3 - 4 / 2 == 5", 0),
    ("7 % 3 == 1 && -7 % 3 == -1 && -7 / 2 == -3 && 7 / -2 == -3", 0),
    ("-(1 + 1) == -2 && !!true", 0),
    ("8 - 4 - 2 == 2 && 8 / 4 / 2 == 1", 0),
    ("0x1F == 31 && 1.5 + 1.5 == 3.0 && 1e2 == 100.0", 0),
    ("3.0 / 2.0 == 1.5", 0),
    ("'a' + 'b' == self && [1] + [2] == [1, 2]", "ab"),
    ("'a' < 'b' && 'B' < 'a' && 'z' < 'é'", 0),
    ("true || false && false", 0),
    ("(true || false) && true", 0),
    ("1 < 2 == true", 0),
    ("duration(self) > duration('1m') && duration('90s') == duration('1m30s')", "1h"),
    ("duration('1.5s') == duration('1500ms') && duration('-1s') < duration('0s')", 0),
    ("duration('1us') > duration('1ns') && duration('0') == duration('0s')", 0),
    (r"""self.matches(r'''^a\.b$''') && self.matches(r"a\.")""", "a.b"),
    ("self.matches('^a\\\\.b$')", "a.b"),
    ('self == """two\nlines"""', "two\nlines"),
    ("self == 'tab\\tquote\\'\\x41\\u00e9\\101\\U0001F600'", "tab\tquote'A\u00e9A\U0001f600"),
    ("self == r'\\n'", "\\n"),
    ("self.matches('^(?i)ABC[d-f]$')", "abcE"),
    ("self.a == null", {"a": None}),
    ("true // a comment", 0),
    # An error that && and || take in.
    ("self.missing == 1 || true", {}),
    ("true || self.missing == 1", {}),
    ("!(self.missing == 1 && false)", {}),
    ("self.exists(p, p.tags.size() == 2)", PEOPLE),
    ("!self.all(p, p.tags.size() == 3)", PEOPLE),
    ("has(self.a.b) || size(self) == 0", {}),
]

FALSE = [
    ("self.missing == 1", {}),
    ("self.missing != 1", {}),
    ("!has(self.a.b)", {}),
    ("self.missing == 1 || false", {}),
    ("self.missing == 1 && true", {}),
    ("self.all(p, p.tags.size() == 2)", PEOPLE),
    ("self.exists(p, p.tags.size() == 3)", PEOPLE),
    ("self.exists_one(p, p.tags.size() == 2)", PEOPLE),
    ("self[0] == 1", []),
    ("self[-1] == 1", [1]),
    ("self.substring(4) == ''", "abc"),
    ("self.substring(2, 1) == ''", "abc"),
    ("self.substring(-1) == 'c'", "abc"),
    ("1 / 0 == 1 || 1 % 0 == 1", 0),
    ("duration(self) > duration('0s')", "1 hour"),
    ("duration(self) > duration('0s')", "99999999h"),
    ("self.matches('^a$')", "a\n"),
    ("self.matches('^[[:alpha:]]?$') && false", "a"),
    ("self.size() == 1", 1),
    ("self.startsWith('a')", 1),
    ("'yes'", 1),
]


@pytest.mark.parametrize(("rule", "value"), TRUE, ids=[rule for rule, _ in TRUE])
def test_rules_that_hold(rule: str, value: object) -> None:
    assert oracle(rule, value)
    assert compile_rule(rule)(value, None)


@pytest.mark.parametrize(("rule", "value"), FALSE, ids=[rule for rule, _ in FALSE])
def test_rules_that_do_not_hold(rule: str, value: object) -> None:
    assert not oracle(rule, value)
    if "[:alpha:]" in rule:
        with pytest.raises(CelError):
            compile_rule(rule)
    else:
        assert not compile_rule(rule)(value, None)


def test_kubernetes_escapes_of_field_names() -> None:
    rule = compile_rule("has(self.__namespace__) && self.__namespace__ == self.a__dot__b__slash__c__dash__d")
    assert rule({"namespace": "x", "a.b/c-d": "x"}, None)
    assert not rule({"__namespace__": "x"}, None)


def test_old_value() -> None:
    rule = compile_rule("self == oldSelf")
    assert rule("a", "a")
    assert not rule("a", "b")


@pytest.mark.parametrize(
    ("rule", "position", "message"),
    [
        ("self == ", 8, "Expected a value, found the end"),
        ("self.", 5, "Expected a name, found 'the end'"),
        ("self ==== 1", 7, "Expected a value, found '=='"),
        ("self.all(v, v == 1", 18, "Expected ), found 'the end'"),
        ("self $ 1", 5, "Unexpected '$'"),
        ("1 self", 2, "Expected the end, found 'self'"),
        ("self == other", 8, "Unknown variable 'other'"),
        ("self.all(v, true) && v", 21, "Unknown variable 'v'"),
        ("self.frobnicate()", 5, "Unknown function 'frobnicate'"),
        ("eval(self)", 0, "Unknown function 'eval'"),
        ("size()", 0, "Wrong number of arguments of 'size'"),
        ("has(self)", 0, "has() takes a field, such as has(self.name),"),
        ("self.all(v.w, true)", 5, "all() takes a variable and an expression,"),
        ("self.matches(self)", 5, "matches() takes a pattern that is written out,"),
        ("self.matches('(')", 13, "Pattern '(': missing ), unterminated subpattern,"),
        ("self.matches('a++')", 13, "Pattern 'a++': repetition of a repetition,"),
        ("self.matches('(?=a)')", 13, "Pattern '(?=a)': it uses something of RE2 that is not translated,"),
        ("self == 'a\\qb'", 8, "Unknown escape '\\\\q'"),
        ("format.colour().validate(self).hasValue()", 16, "validate() belongs to a format, such as"),
        ("(" * 100 + "1" + ")" * 100, 60, "Nested too deeply"),
        ("!" * 100 + "true", 60, "Nested too deeply"),
    ],
)
def test_what_is_no_rule_is_told_with_its_place(rule: str, position: int, message: str) -> None:
    with pytest.raises(CelError) as caught:
        compile_rule(rule)
    assert str(caught.value).startswith(message)
    assert caught.value.position == position
    assert caught.value.expression == rule


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", True),
        ("::1", True),
        ("2001:db8::ff", True),
        ("010.0.0.1", False),
        ("10.0.0", False),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.1", False),
        ("", False),
    ],
)
def test_is_ip(text: str, expected: bool) -> None:
    assert compile_rule("isIP(self)")(text, None) is expected


@given(st.ip_addresses(), st.integers(0, 140))
def test_is_cidr(address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int) -> None:
    rule = compile_rule("isCIDR(self)")
    assert rule(f"{address}/{length}", None) is (
        length <= address.max_prefixlen and getattr(address, "ipv4_mapped", None) is None
    )
    assert not rule(str(address), None)
    assert not rule(f"{address}/0{length}", None)
    assert not rule(f"{address}/255.255.255.0", None)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("dns1123Label", ["a", "0", "a-b", "a" * 63], ["", "-a", "a-", "A", "a.b", "a" * 64, "a\n"]),
        ("dns1123Subdomain", ["a", "a.b-c.d", "a" * 253], ["", ".a", "a.", "a..b", "a_b", "a" * 254]),
        ("dns1035Label", ["a", "a-0"], ["0a", "a-"]),
        ("dns1123LabelPrefix", ["a-", "a"], ["-a", "a--b-" * 20]),
        ("dns1123SubdomainPrefix", ["a.b-", "a"], ["a.-"]),
        ("dns1035LabelPrefix", ["a-"], ["0-"]),
        ("labelValue", ["", "a", "A_b.c-d", "a" * 63], ["-a", "a-", "a" * 64, "a/b"]),
        ("qualifiedName", ["a", "A_b", "x.y/A-b"], ["", "/a", "x/", "X/a", "x/y/z", "x/" + "a" * 64, "a" * 64]),
        ("uuid", ["01234567-89ab-cdef-0123-456789ABCDEF"], ["01234567-89ab-cdef-0123", "x" * 36]),
    ],
)
def test_formats(name: str, good: list[str], bad: list[str]) -> None:
    rule = compile_rule(f"!format.{name}().validate(self).hasValue()")
    assert [text for text in good if not rule(text, None)] == []
    assert [text for text in bad if rule(text, None)] == []


PATTERNS = [
    "^a$",
    "a",
    "^(?i)a[b-d]*$",
    "(a(?i)b|c)d",
    "a|(?i)b|c",
    r"^\w+\s\d*$",
    r"[\s\d]-[^ab]$",
    "[]a]b",
    "[^]a]b",
    "[a[b]c",
    r"^\S+$",
    "a+?b",
    "a{2,3}",
    r"\.$|^$",
    r"^(?:[-a-z*+/$]|[%][0-9a-f]{2})+$",
    r"\bab\b",
    "(?s)a.b",
    "a.b",
    r"a\z",
    "$",
]


@given(st.sampled_from(PATTERNS), st.text(alphabet="aAbBcCdD019 ]+[-%./é\n\t", max_size=8))
@settings(max_examples=2000, deadline=None)
def test_patterns_mean_what_re2_means(pattern: str, text: str) -> None:
    assert (regex(pattern).search(text) is not None) is oracle(f"self.matches(r'''{pattern}''')", text)


# Values as a schema would have accepted them (right types, keys may be missing), and rules about them.
ITEM = st.fixed_dictionaries({}, optional={"name": st.sampled_from(["a", "b", ""]), "port": st.integers(-2, 3)})
VALUE = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(alphabet="ab/é", max_size=4),
        "number": st.integers(-9, 9),
        "items": st.lists(ITEM, max_size=3),
        "words": st.lists(st.sampled_from(["a", "b", "a/b"]), max_size=3),
        "flag": st.booleans(),
        "inner": ITEM,
    },
)


def strings(variable: str | None) -> st.SearchStrategy[str]:
    """Expressions that give strings."""
    base = st.sampled_from(
        ["self.text", "self.inner.name", "'a'", "'b'", "''", 'r"a/b"', *([f"{variable}.name"] if variable else [])]
    )
    return (
        base | st.builds("({} + {})".format, base, base) | st.builds("{}.substring({})".format, base, st.integers(0, 2))
    )


def numbers(variable: str | None) -> st.SearchStrategy[str]:
    """Expressions that give whole numbers."""
    base = st.sampled_from(
        ["self.number", "self.inner.port", "size(self.text)", "self.items.size()", "self.items[0].port"]
        + ([f"{variable}.port"] if variable else [])
    ) | st.integers(-5, 5).map(lambda number: f"({number})")
    return base | st.builds("({} {} {})".format, base, st.sampled_from(["+", "-", "*", "/", "%"]), base)


def facts(variable: str | None) -> st.SearchStrategy[str]:
    """Expressions that give true or false, without others inside."""
    fields = ["self.text", "self.items", "self.inner", "self.inner.name"]
    return st.one_of(
        st.sampled_from(fields + ([f"{variable}.name", f"{variable}.port"] if variable else [])).map("has({})".format),
        st.sampled_from(["self.flag", "true", "false"]),
        st.builds("{} {} {}".format, strings(variable), st.sampled_from(["==", "!=", "<", ">="]), strings(variable)),
        st.builds("{} {} {}".format, numbers(variable), st.sampled_from(["==", "<", "<="]), numbers(variable)),
        st.builds("{} in self.words".format, strings(variable)),
        st.builds(
            "{}.{}({})".format,
            strings(variable),
            st.sampled_from(["startsWith", "endsWith", "contains"]),
            strings(variable),
        ),
        st.builds("{}.split('/')[0] == {}".format, strings(variable), strings(variable)),
        st.builds("self.items.filter(f, f.port == {}).size() == {}".format, numbers(variable), numbers(variable)),
        st.just("self.items.map(m, m.name) == self.words.map(w, w)"),
    )


def rules(variable: str | None = None, depth: int = 2) -> st.SearchStrategy[str]:
    """Whole rules; `variable` is one of `self.items`."""
    if depth == 0:
        return facts(variable).map("({})".format)
    inner = rules(variable, depth - 1)
    return st.one_of(
        inner,
        st.builds("({} {} {})".format, inner, st.sampled_from(["&&", "||", "==", "!="]), inner),
        inner.map("!({})".format),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds(
            "self.items.{}(v{}, {})".format,
            st.sampled_from(["all", "exists", "exists_one"]),
            st.just(depth),
            rules(f"v{depth}", depth - 1),
        ),
    )


@given(rules(), st.lists(VALUE, min_size=4, max_size=4))
@settings(max_examples=1000, deadline=None)
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_verdicts_are_googles(rule: str, values: list[dict[str, object]]) -> None:
    compiled = compile_rule(rule)
    for value in values:
        assert compiled(value, None) is oracle(rule, value), (rule, value)


@given(st.text(alphabet="self.ahas()[]'\"\\ri1 0x&|=!<>?:+-*/%,_n\n", max_size=30) | st.text(max_size=20))
@settings(max_examples=1000, deadline=None)
def test_any_text_is_a_rule_or_a_cel_error(text: str) -> None:
    try:
        rule = compile_rule(text)
    except CelError as error:
        assert 0 <= error.position <= len(text)
    else:
        assert rule({}, None) in (True, False)
