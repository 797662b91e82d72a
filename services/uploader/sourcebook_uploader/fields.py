"""What is known of each path of a source's documents: the types that were seen there, and how often."""

import sys
from typing import Final

# What was seen at a path; several bits if several types were.
INTEGER: Final = 1
LONG: Final = 2
FLOAT: Final = 4
BOOLEAN: Final = 8
DATE: Final = 16
KEYWORD: Final = 32
TEXT: Final = 64
OBJECT: Final = 128
PHRASE: Final = 256
"""A text of a few words, of which the field has few different ones: it names a category."""
NUMBERS = INTEGER | LONG | FLOAT
WORDS = TEXT | PHRASE
STRINGS = DATE | KEYWORD | WORDS
SCALARS = STRINGS | NUMBERS | BOOLEAN
# What else was seen of a string, beside its type.
LONG_STRING: Final = 512
UNSEARCHABLE: Final = 1024
"""A string without spaces that is too long for one term of an index."""
TYPE_NAMES = {
    INTEGER: "an integer",
    LONG: "a long integer",
    FLOAT: "a float",
    BOOLEAN: "a boolean",
    DATE: "a date",
    KEYWORD: "a string",
    TEXT: "a text",
    PHRASE: "a text",
    OBJECT: "an object",
}
MIN_INTEGER, MAX_INTEGER = -(2**31), 2**31 - 1
MIN_LONG, MAX_LONG = -(2**63), 2**63 - 1

SHORT_CHARACTERS = 256
"""A longer string makes its field a long one."""
MAX_TERM_BYTES = 32_766
"""Of one term of an index, both of tantivy's and OpenSearch's."""
SURE_TERM_CHARACTERS = MAX_TERM_BYTES // 4
"""A string of no more characters is never longer than a term, whatever they are."""
MAX_PHRASE_CHARACTERS = 100
MAX_PHRASES = 1000
"""Of one field; more, and they name no categories."""


class Field:
    """What is known of one path."""

    __slots__ = (
        *("children", "count", "depth", "examples", "is_open", "key", "known_text", "known_word", "path", "phrases"),
        "seen",
    )

    def __init__(self, key: str, path: str, depth: int) -> None:
        self.key = key
        self.path = path
        self.depth = depth
        self.count = 0
        self.seen = 0
        self.examples: dict[int, str] = {}  # type -> id of the first document that has it
        self.children: dict[str, Field] = {}
        self.is_open = True  # False: too many different keys, no new ones are looked at
        self.phrases: set[str] = set()  # the different ones, as long as they are few
        # Strings of so many characters teach nothing new: any, and those without spaces.
        self.known_text = self.known_word = -1

    def see(self, seen: int) -> None:
        """Note what was seen, one bit or several."""
        self.seen |= seen
        is_long = self.seen & LONG_STRING
        if self.seen & TEXT:
            self.phrases.clear()
            self.known_text = sys.maxsize if is_long else SHORT_CHARACTERS
        elif self.seen & KEYWORD:
            self.known_word = SURE_TERM_CHARACTERS if is_long else SHORT_CHARACTERS
