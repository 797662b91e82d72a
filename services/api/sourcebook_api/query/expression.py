"""The `jmespath` option: compiled, and evaluated within a budget. Pure.

An expression of some hundred characters may double its result again and again (`[@,@]|[@,@]|...`). What is shared inside such a
result takes no memory until it is written, so the size that it would have as JSON is worked out after each step.
"""

import math
from dataclasses import dataclass
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions, signature
from jmespath.visitor import Options as InterpreterOptions
from jmespath.visitor import TreeInterpreter

from sourcebook_api.query.budget import Budget
from sourcebook_api.query.errors import QueryError, invalid_jmespath

MAX_CHARACTERS = 10_000
# Bytes of JSON of any value on the way, and values made on the way. A document that is large itself may have some times as many.
_MAX_RESULT, _RESULT_TIMES = 4 * 1024 * 1024, 2
_MAX_VALUES, _VALUE_TIMES = 200_000, 4
_STEPS = 64  # between two looks at the clock


@dataclass(frozen=True, slots=True)
class Expression:
    """A jmespath option: the object that holds the field, the field (empty: the object itself), the compiled expression."""

    parent: tuple[str, ...]
    field: str
    compiled: Any


def parse_expression(text: str) -> Expression:
    """Take `field|expression` apart and compile it.

    Raises:
        QueryError: there is no `|`, or the expression is wrong or too long.
    """
    path, bar, source = text.partition("|")
    if not bar:
        raise invalid_jmespath("Write field|expression; an empty field stands for the whole document.")
    if len(source) > MAX_CHARACTERS:
        raise invalid_jmespath(f"The expression has more than {MAX_CHARACTERS} characters.")
    parts = tuple(part for part in path.split(".") if part)
    try:
        compiled = jmespath.compile(source)
    except (JMESPathError, RecursionError) as error:
        raise invalid_jmespath(str(error) or "The expression is nested too deeply.") from error
    return Expression(parts[:-1], parts[-1] if parts else "", compiled)


def evaluate(expression: Expression, value: Any, budget: Budget) -> Any:
    """Return what an expression makes of a value.

    Raises:
        QueryError: it cannot be applied to it, or takes more than the budget has.
    """
    try:
        return _Interpreter(budget, value).visit(expression.compiled.parsed, value)
    except (JMESPathError, RecursionError, ArithmeticError, ValueError, TypeError) as error:
        raise invalid_jmespath(str(error)) from error


class _Interpreter(TreeInterpreter):
    """Evaluates as its base does, and ends what grows too large or takes too long."""

    def __init__(self, budget: Budget, document: Any) -> None:
        self._budget = budget
        self._sizes = _Sizes()
        self._max_bytes = max(_MAX_RESULT, _RESULT_TIMES * self._sizes.measure(document))
        self._sizes.max_values = max(_MAX_VALUES, _VALUE_TIMES * self._sizes.seen)
        self._steps = 0
        super().__init__(InterpreterOptions(custom_functions=_Functions(self._max_bytes)))

    def visit(self, node: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self._steps += 1
        if self._steps % _STEPS == 0:
            self._budget.check_time()
        value = super().visit(node, *args, **kwargs)
        if isinstance(value, list | dict | str) and self._sizes.measure(value) > self._max_bytes:
            raise _too_large(f"{self._max_bytes} bytes")
        return value


class _Sizes:
    """How large values would be as JSON. Containers are remembered: each is looked at once, however often it is shared."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, Any]] = {}  # with the value, whose id must not be used again
        self.seen = 0
        self.max_values: float = math.inf

    def measure(self, value: Any) -> int:
        """Return about the bytes of the JSON of a value."""
        if isinstance(value, str):
            return len(value) + 2
        if not isinstance(value, list | dict):
            return 8
        known = self._known.get(id(value))
        if known is not None:
            return known[0]
        self.seen += len(value) + 1
        if self.seen > self.max_values:
            raise _too_large(f"{self.max_values:.0f} values")
        size = 2 + len(value) + sum(map(self.measure, value.values() if isinstance(value, dict) else value))
        if isinstance(value, dict):
            size += sum(len(key) + 3 for key in value)
        self._known[id(value)] = size, value
        return size


class _Functions(Functions):
    """The functions of jmespath; what multiplies texts is looked at before it is done."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    @signature({"types": ["string"]}, {"types": ["array-string"]})
    def _func_join(self, glue: str, texts: list[str]) -> str:
        if len(glue) * len(texts) + sum(map(len, texts)) > self._max_bytes:
            raise _too_large(f"{self._max_bytes} bytes")
        return glue.join(texts)


def _too_large(what: str) -> QueryError:
    return QueryError(413, keyword="jmespath", details=f"The expression makes more than {what} of one document.")
