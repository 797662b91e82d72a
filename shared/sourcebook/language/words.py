"""Text analysis in python: how text becomes the words that are indexed and looked up.

The engine gets words joined by spaces, so that indexing and searching share one function. `standard` follows the word rules of
Unicode (UAX 29) as OpenSearch's analyser of that name does: `don't`, `3.14` and `foo_bar` stay whole, `wi-fi` is two words, a
Chinese character is one. ASCII text takes a path by translation tables, which indexes four times faster.
"""

import re
import string
from collections.abc import Callable

Analyzer = Callable[[str], list[str]]

_JOINERS = b".:',;"
_WORD_BYTES = (string.ascii_letters + string.digits + "_").encode()
# Letters to lower case; what neither belongs to a word nor may join two parts of one becomes a space.
_TABLE = bytes(
    ord(chr(code).lower()) if code in _WORD_BYTES else code if code in _JOINERS else 32 for code in range(256)
)
_PLAIN = _WORD_BYTES + b" "
# Between texts that are cut into words together; no word has it.
_SEPARATOR = "\x1f"
_SEPARATED_TABLE = _TABLE[:0x1F] + _SEPARATOR.encode() + _TABLE[0x20:]
_SEPARATED_PLAIN = _PLAIN + _SEPARATOR.encode()
# A joiner stands inside a word only between two letters (. : ') or two digits (. , ; ').
_LOOSE_JOINER = re.compile(
    r"(?<![a-z0-9])[.:',;]|[.:',;](?![a-z0-9])|(?<=[a-z])[,;]|(?<=[0-9]):|(?<=[a-z])[.:'](?![a-z])|(?<=[0-9])[.,;'](?![0-9])"
)
_LETTER = r"[^\W\d_]"
_IDEOGRAPH = r"\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_PART = rf"(?:(?![{_IDEOGRAPH}])[\w\u0300-\u036f])+"
_UNICODE_WORD = re.compile(
    rf"[{_IDEOGRAPH}]|{_PART}(?:(?:(?<={_LETTER})[.:'\u2018\u2019\u00b7](?={_LETTER})|(?<=\d)[.,;'\u2018\u2019](?=\d)){_PART})*"
)


def standard_words(text: str) -> list[str]:
    """Return the lower-cased words of a text."""
    return standard_text(text).split()


def standard_text(text: str) -> str:
    """Return the lower-cased words of a text, joined by spaces."""
    if not text.isascii():
        return " ".join(_UNICODE_WORD.findall(text.lower()))
    plain = text.encode().translate(_TABLE)
    if plain.translate(None, _PLAIN):
        return _LOOSE_JOINER.sub(" ", plain.decode())
    return plain.decode()


def standard_texts(texts: list[str]) -> list[str]:
    """Return `standard_text` of each text, in one go where all are ASCII."""
    joined = _SEPARATOR.join(texts)
    if not joined.isascii():
        return [standard_text(text) for text in texts]
    plain = joined.encode().translate(_SEPARATED_TABLE)
    if plain.translate(None, _SEPARATED_PLAIN):
        return _LOOSE_JOINER.sub(" ", plain.decode()).split(_SEPARATOR)
    return plain.decode().split(_SEPARATOR)


def whitespace_words(text: str) -> list[str]:
    """Return what stands between white space, as it is."""
    return text.split()


def lower_whitespace_words(text: str) -> list[str]:
    """Return what stands between white space, lower-cased."""
    return text.lower().split()


def simple_words(text: str) -> list[str]:
    """Return the lower-cased runs of letters."""
    return re.findall(rf"{_LETTER}+", text.lower())


def whole_text(text: str) -> list[str]:
    """Return the text as one word."""
    return [text]


def whole_lower_text(text: str) -> list[str]:
    """Return the lower-cased text as one word."""
    return [text.lower()]


ANALYZERS: dict[str, Analyzer] = {
    "standard": standard_words,
    "default": standard_words,
    "simple": simple_words,
    "whitespace": whitespace_words,
    "whitespace_lowercase": lower_whitespace_words,
    "keyword": whole_text,
    "string_lowercase": whole_lower_text,
}
