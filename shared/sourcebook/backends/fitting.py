"""Which values of a document fit into a field of a mapping: the rules by which an index takes or ignores them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sourcebook.backends.tantivy.fields import FieldTable, Kind, Leaf
from sourcebook.backends.tantivy.values import ENCODERS, read_number
from sourcebook.hub.documents.record import Record, read_document
from sourcebook.hub.mappings.model import Properties
from sourcebook.ports.search import MAX_EXAMPLES, FieldTrial


def try_fields(properties: Properties, paths: Sequence[str], records: Sequence[Record]) -> list[FieldTrial]:
    """Implements `SearchEngine.try_fields`, for every engine."""
    table = FieldTable(properties)
    leaves = {leaf.path: leaf for leaf in table.leaves}
    trials = [FieldTrial(field=path) for path in paths]
    tests = [_choose_test(leaves.get(path), bool(table.under(path))) for path in paths]
    for record in records:
        document = read_document(record)
        for trial, fits in zip(trials, tests, strict=True):
            values = [value for value in _find_values(document, trial.field.split(".")) if value != {}]
            if not values:
                continue
            trial.documents += 1
            misfit = next(((value,) for value in values if not fits(value)), None)
            if misfit is not None:
                trial.misfits += 1
                if len(trial.examples) < MAX_EXAMPLES:
                    trial.examples.append((document["_id"], misfit[0]))
    return trials


def _choose_test(leaf: Leaf | None, has_leaves: bool) -> Callable[[Any], bool]:
    if leaf is not None:
        return lambda value: _fits(leaf, value)
    # An object that is searched takes objects only; what is not indexed takes everything.
    return (lambda value: isinstance(value, dict)) if has_leaves else lambda _value: True


def _fits(leaf: Leaf, value: Any) -> bool:
    if isinstance(value, dict):
        return False
    if leaf.kind is Kind.TEXT:
        return True
    if ENCODERS[leaf.kind](leaf, value) is None:
        return False
    if leaf.kind is not Kind.INTEGER:
        return True
    # A fraction would be cut off.
    number = read_number(value) if isinstance(value, str) else value
    return number is not None and number == int(number)


def _find_values(value: Any, keys: Sequence[str]) -> Iterator[Any]:
    """Yield the single values and objects at a path; keys with dots are read as objects."""
    if isinstance(value, list):
        for item in value:
            yield from _find_values(item, keys)
    elif not keys:
        if value is not None:
            yield value
    elif isinstance(value, dict):
        for count in range(1, len(keys) + 1):
            key = ".".join(keys[:count])
            if key in value:
                yield from _find_values(value[key], keys[count:])
