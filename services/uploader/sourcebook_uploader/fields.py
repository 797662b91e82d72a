"""What is known of each path of a source's documents: the types that were seen there, and how often."""

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
NUMBERS = INTEGER | LONG | FLOAT
STRINGS = DATE | KEYWORD | TEXT
TYPE_NAMES = {
    INTEGER: "an integer",
    LONG: "a long integer",
    FLOAT: "a float",
    BOOLEAN: "a boolean",
    DATE: "a date",
    KEYWORD: "a string",
    TEXT: "a text",
    OBJECT: "an object",
}
MIN_INTEGER, MAX_INTEGER = -(2**31), 2**31 - 1
MIN_LONG, MAX_LONG = -(2**63), 2**63 - 1


class Field:
    """What is known of one path."""

    __slots__ = ("children", "count", "depth", "examples", "is_open", "key", "path", "seen")

    def __init__(self, key: str, path: str, depth: int) -> None:
        self.key = key
        self.path = path
        self.depth = depth
        self.count = 0
        self.seen = 0
        self.examples: dict[int, str] = {}  # type -> id of the first document that has it
        self.children: dict[str, Field] = {}
        self.is_open = True  # False: too many different keys, no new ones are looked at
