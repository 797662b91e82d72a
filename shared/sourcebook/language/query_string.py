"""Lucene query strings: the text of `q` and `filter` becomes a small tree, the same one OpenSearch makes of it.

This is the grammar of Lucene's classic query parser, with the default operator AND. What follows from that:

- a whole word is one token: `g.123A>G`, `5'-UTR` and `2020-01-01` need no escape; `:`, `/`, `(` and their like do;
- AND and OR have no precedence. The clauses between two parentheses are one list; AND makes the clause before it required, OR
  makes it optional, and a clause after OR is optional. `a OR b AND c` is `a +b +c`;
- plain words in a row are one text: `cyclin kinase` looks for both words in one field, not each word in any field;
- `field:>=5` and its like are ranges, `field:*` asks whether the field is there.

All of it was compared with OpenSearch 2.19, query by query.

A parser from a general library was measured against it: that read `a OR b AND c`, `!x`, `'x`, `[* TO 10:30]` and `"a b"~1.5`
otherwise, and took half a second for 8000 words.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from sourcebook.errors import QuerySyntaxError

ID_FIELD = "_id"
IGNORED_FIELD = "_ignored"
"""Paths of the values that a document has and that could not be indexed."""
MAX_CHARACTERS = 64 * 1024
MAX_CLAUSES = 1024
MAX_DEPTH = 50
MAX_FUZZY_CHARACTERS = 250  # the automaton of a word takes 30 kB a character
MAX_AUTOMATA = 20
"""Regular expressions with `~` or `&`, which take time to prepare."""


class Occur(Enum):
    """How a clause takes part in a boolean query."""

    MUST = "+"
    SHOULD = ""
    MUST_NOT = "-"


@dataclass(frozen=True, slots=True)
class Everything:
    """`*` or `*:*`: every document."""


@dataclass(frozen=True, slots=True)
class Term:
    """A word, or a phrase when `is_phrase`; `field` is None for the default fields."""

    field: str | None
    text: str
    is_phrase: bool = False
    slop: int = 0


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A word with `*` or `?`. Escapes are still in the pattern, since an escaped asterisk is none."""

    field: str | None
    pattern: str


@dataclass(frozen=True, slots=True)
class Regex:
    """A regular expression that the whole term matches."""

    field: str | None
    pattern: str


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """A word and those that differ in at most `edits` characters; None: as the length of the word says."""

    field: str | None
    text: str
    edits: float | None


@dataclass(frozen=True, slots=True)
class Range:
    """Values from `low` to `high`; None is an open end."""

    field: str | None
    low: str | None
    high: str | None
    include_low: bool
    include_high: bool


@dataclass(frozen=True, slots=True)
class Exists:
    """Documents that have the field, or something inside the object."""

    field: str


@dataclass(frozen=True, slots=True)
class Boost:
    """The score of a node, multiplied."""

    node: "Node"
    factor: float


@dataclass(frozen=True, slots=True)
class Boolean:
    """Clauses with their occurrence; all optional: one must match."""

    clauses: tuple[tuple[Occur, "Node"], ...]


Node = Everything | Term | Wildcard | Regex | Fuzzy | Range | Exists | Boost | Boolean

_SPACE = r" \t\n\r\u3000"
_TERM_START = rf"""[^{_SPACE}+\-!():^\[\]"{{}}~*?\\/]|\\."""
_BOUND = r"""(?:"(?:[^"\\]|\\.)*"|[^ \]}]+)"""
_TOKEN = re.compile(
    rf"""[{_SPACE}]*(?:
    (?P<word>(?:{_TERM_START}|[*?])(?:{_TERM_START}|[*?+\-])*)
    |(?P<quoted>"(?:[^"\\]|\\.)*")
    |(?P<range>[\[{{][{_SPACE}]*(?P<low>{_BOUND})[{_SPACE}]+TO[{_SPACE}]+(?P<high>{_BOUND})[{_SPACE}]*[\]}}])
    |(?P<regex>/(?:[^/\\]|\\.)*/)
    |(?P<bare>[+\-!](?=[{_SPACE}]))
    |(?P<symbol>[+\-!():])
    |~(?P<fuzzy>[0-9]+(?:\.[0-9]+)?(?:{_TERM_START}|[+\-])*|(?:{_TERM_START}|[+\-])*)
    |\^(?P<boost>[0-9]+(?:\.[0-9]+)?)
    |(?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNESCAPED_WILDCARD = re.compile(r"(?:[^\\*?]|\\.)*[*?]", re.DOTALL)
_COMPARISON = re.compile(r"(>=|<=|>|<)(.+)", re.DOTALL)
_RESERVED = {"AND": "and", "&&": "and", "OR": "or", "||": "or", "NOT": "not"}
_MODIFIERS = {"+": Occur.MUST, "-": Occur.MUST_NOT, "!": Occur.MUST_NOT, "not": Occur.MUST_NOT}
_ENDS_TEXT = {":", "fuzzy", "boost", "and", "or"}
_TAKES_FUZZY = {"word", "regex", "bare", "quoted"}
_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)", re.ASCII)
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_MAX_SLOP = 10_000.0
_MAX_BOOST = 1e6


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    low: str = ""
    high: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether it is a word without a meaning of its own."""
        return self.kind == "word" and self.text[0] not in "<>" and not has_wildcard(self.text)


def unescape(text: str) -> str:
    """Return a word without its backslashes; an escaped `u` begins the four hexadecimal digits of a character.

    Raises:
        ValueError: it does not.
    """
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(_read_escape, text)
    if _SURROGATE.search(plain) is None:
        return plain
    # Two of them are one character; one alone is none.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _read_escape(match: "re.Match[str]") -> str:
    if match[1] is not None:
        return chr(int(match[1], 16))
    if match[2] == "u":
        raise ValueError("an escaped u needs four hexadecimal digits")
    return match[2]


def has_wildcard(text: str) -> bool:
    """Whether a word has a `*` or `?` that is not escaped."""
    return ("*" in text or "?" in text) and _UNESCAPED_WILDCARD.match(text) is not None


def finds_everything(node: Node) -> bool:
    """Whether a query finds every document: `*`, `*:*`, `_id:*`."""
    return isinstance(node, Everything) or node == Exists(ID_FIELD)


def uses_default_fields(node: Node | None) -> bool:
    """Whether a query has a word without a field name."""
    match node:
        case Boolean(clauses):
            return any(uses_default_fields(inner) for _, inner in clauses)
        case Boost(inner):
            return uses_default_fields(inner)
        case Term(field) | Wildcard(field) | Regex(field) | Fuzzy(field) | Range(field):
            return field is None
        case _:
            return False


def as_fraction(text: str) -> str | None:
    """Return how a whole number is written as a fraction, or None if the text is not a whole number.

    Where numbers stand among strings they are indexed as text, `2012.0` as it stands in the document: 2012 means it too.

    >>> as_fraction("2012")
    '2012.0'
    """
    return f"{text}.0" if _WHOLE_NUMBER.fullmatch(text) else None


def parse_query_string(query: str) -> Node | None:
    """Return the tree of a query string, or None for a blank one.

    Raises:
        QuerySyntaxError: it is not a query, or it has too many clauses, parentheses or characters.
    """
    if len(query) > MAX_CHARACTERS:
        raise QuerySyntaxError(f"Failed to parse query: it has {len(query)} characters; {MAX_CHARACTERS} are allowed.")
    if not query.strip():
        return None
    try:
        return _Parser(query).parse()
    except ValueError as error:
        raise QuerySyntaxError(f"Failed to parse query [{query}]: {error}", query=query) from error


def match_tokens(query: str) -> "Iterator[re.Match[str]]":
    """Yield the tokens; the last one is the end, unless something is not a token."""
    at = 0
    while (match := _TOKEN.match(query, at)) is not None:
        yield match
        if match.lastgroup == "end":
            return
        at = match.end()


class _Parser:
    """Recursive descent over the tokens of one query string."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._tokens = [_make_token(match) for match in match_tokens(query)]
        if self._tokens[-1:] == [] or self._tokens[-1].kind != "end":
            raise self._failure()
        self._at = 0
        self._clauses = 0
        self._depth = 0
        if (
            sum(token.kind == "regex" and not {"~", "&"}.isdisjoint(token.text) for token in self._tokens)
            > MAX_AUTOMATA
        ):
            raise QuerySyntaxError(
                f"Failed to parse query: it has more than {MAX_AUTOMATA} regular expressions with ~ or &."
            )

    def parse(self) -> Node:
        node = self._parse_list(None)
        if self._tokens[self._at].kind != "end":
            raise self._failure()
        return node

    def _failure(self) -> QuerySyntaxError:
        return QuerySyntaxError(f"Failed to parse query [{self._query}]", query=self._query)

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _accept(self, *kinds: str) -> _Token | None:
        token = self._tokens[self._at]
        if token.kind not in kinds:
            return None
        self._at += 1
        return token

    def _parse_list(self, field: str | None) -> Node:
        clauses: list[tuple[Occur, Node]] = []
        has_modifier = False
        while self._tokens[self._at].kind not in {"end", ")"}:
            conjunction = self._accept("and", "or") if clauses else None
            modifier = self._accept(*_MODIFIERS)
            has_modifier = has_modifier or modifier is not None
            text = self._take_plain_text() if conjunction is None and modifier is None else None
            node = self._parse_clause(field) if text is None else Term(field, text)
            _add_clause(clauses, conjunction, modifier, node)
            self._clauses += 1
            if self._clauses > MAX_CLAUSES:
                raise QuerySyntaxError(f"Failed to parse query: it has more than {MAX_CLAUSES} clauses.")
        if not clauses:
            raise self._failure()
        if len(clauses) == 1 and not has_modifier:
            return clauses[0][1]
        return Boolean(tuple(clauses))

    def _parse_clause(self, field: str | None) -> Node:
        token = self._take()
        if token.kind == "word" and self._tokens[self._at].kind == ":":
            self._at += 1
            return self._parse_field(token.text, self._take())
        return self._parse_operand(token, field)

    def _take_plain_text(self) -> str | None:
        """Take two or more plain words, without a last one that belongs to an operator or names a field."""
        end = self._at
        while self._tokens[end].is_plain and (end == self._at or self._tokens[end + 1].kind not in _ENDS_TEXT):
            end += 1
        if end - self._at <= 1 or self._tokens[self._at + 1].kind == ":":
            return None
        words = [token.text for token in self._tokens[self._at : end]]
        self._at = end
        return unescape(" ".join(words))

    def _parse_field(self, name: str, token: _Token) -> Node:
        if name == "*":
            field = "*"
        elif has_wildcard(name):
            raise self._failure()
        else:
            field = unescape(name)
        return self._parse_operand(token, field)

    def _parse_operand(self, token: _Token, field: str | None) -> Node:
        if token.kind == "(":
            node = self._parse_group(field)
        elif token.kind in {"word", "regex", "bare"}:
            node = self._parse_word(token, field)
        elif token.kind == "quoted":
            node = self._parse_phrase(token, field)
        else:
            node = self._parse_special(token, field)
        if token.kind not in _TAKES_FUZZY:
            return _make_boost(node, self._accept("boost"))
        return node

    def _take_suffixes(self) -> tuple[_Token | None, _Token | None]:
        """Take `~1` and `^2` in either order."""
        fuzzy, boost = self._accept("fuzzy"), self._accept("boost")
        return fuzzy or (self._accept("fuzzy") if boost else None), boost

    def _parse_group(self, field: str | None) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise QuerySyntaxError(f"Failed to parse query: parentheses are nested more than {MAX_DEPTH} deep.")
        node = self._parse_list(field)
        if self._accept(")") is None:
            raise self._failure()
        self._depth -= 1
        return node

    def _parse_word(self, token: _Token, field: str | None) -> Node:
        fuzzy, boost = self._take_suffixes()
        if fuzzy is not None and token.kind == "word" and not has_wildcard(token.text):
            word = unescape(token.text)
            if len(word) > MAX_FUZZY_CHARACTERS:
                raise QuerySyntaxError(
                    f"Failed to parse query: a word with ~ has {len(word)} characters; {MAX_FUZZY_CHARACTERS} are allowed."
                )
            return _make_boost(Fuzzy(field, word, self._read_edits(fuzzy)), boost)
        return _make_boost(_make_word(token, field), boost)

    def _parse_phrase(self, token: _Token, field: str | None) -> Node:
        content = unescape(token.text[1:-1])
        fuzzy, boost = self._take_suffixes()
        if field == "_exists_":
            return _make_boost(Exists(content), boost)
        slop = 0.0 if fuzzy is None else _read_number(fuzzy.text) or 0.0
        return _make_boost(Term(field, content, is_phrase=True, slop=int(min(slop, _MAX_SLOP))), boost)

    def _read_edits(self, fuzzy: _Token) -> float | None:
        if fuzzy.text.upper() in {"", "AUTO"}:
            return None
        edits = _read_number(fuzzy.text)
        if edits is None:
            raise self._failure()
        return edits

    def _parse_special(self, token: _Token, field: str | None) -> Node:
        if token.kind == "range":
            low, high = _read_bound(token.low), _read_bound(token.high)
            return Range(field, low, high, include_low=token.text[0] == "[", include_high=token.text[-1] == "]")
        raise self._failure()


def _make_token(match: "re.Match[str]") -> _Token:
    kind, text = match.lastgroup or "", match.group(match.lastgroup or 0)
    if kind == "high" or match.group("range") is not None:
        return _Token("range", match.group("range"), match.group("low"), match.group("high"))
    if kind == "symbol":
        return _Token(text, text)
    if kind == "word" and text in _RESERVED:
        return _Token(_RESERVED[text], text)
    return _Token(kind, text)


def _make_word(token: _Token, field: str | None) -> Node:
    text = token.text
    if token.kind == "regex":
        return Regex(field, text[1:-1].replace("\\/", "/"))
    if token.kind == "bare":
        return Term(field, text)
    if field == "_exists_":
        return Exists(unescape(text))
    if has_wildcard(text):
        return _make_wildcard(field, text)
    comparison = _COMPARISON.fullmatch(text) if text[0] in "<>" else None
    if comparison is not None:
        return _make_comparison(field, comparison.group(1), unescape(comparison.group(2)))
    return Term(field, unescape(text))


def _make_boost(node: Node, boost: _Token | None) -> Node:
    return node if boost is None else Boost(node, min(float(boost.text), _MAX_BOOST))


def _read_number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _add_clause(
    clauses: list[tuple[Occur, Node]], conjunction: _Token | None, modifier: _Token | None, node: Node
) -> None:
    if conjunction is not None and clauses[-1][0] is not Occur.MUST_NOT:
        clauses[-1] = (Occur.MUST if conjunction.kind == "and" else Occur.SHOULD, clauses[-1][1])
    is_after_or = conjunction is not None and conjunction.kind == "or"
    if modifier is not None and _MODIFIERS[modifier.kind] is Occur.MUST_NOT:
        clauses.append((Occur.MUST_NOT, node))
    else:
        clauses.append((Occur.SHOULD if is_after_or else Occur.MUST, node))


def _make_wildcard(field: str | None, text: str) -> Node:
    if text.strip("*"):
        return Wildcard(field, text)
    if field is None or field == "*":
        return Everything()
    return Range(field, None, None, include_low=True, include_high=True) if "*" in field else Exists(field)


def _make_comparison(field: str | None, operator: str, value: str) -> Range:
    has_equal = operator.endswith("=")
    if operator.startswith(">"):
        return Range(field, value, None, include_low=has_equal, include_high=True)
    return Range(field, None, value, include_low=True, include_high=has_equal)


def _read_bound(text: str) -> str | None:
    if text in {"*", '"*"'}:
        return None
    return unescape(text[1:-1]) if text.startswith('"') else unescape(text)
