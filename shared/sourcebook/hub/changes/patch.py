"""What changed within a document: RFC 6902 operations from its old to its new canonical JSON, and the root keys that differ.

Values are compared as the bytes that they are, level by level, so only what differs is taken apart and nothing becomes an
object. Operations are add, remove and replace. `hub.changes.apply_change` applies them with a library; that one also makes
patches, but takes many times as long for it.
"""

from typing import Any, NamedTuple

import msgspec
import orjson

from sourcebook.hub.documents.record import Json

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_OBJECT, _LIST = b"{"[0], b"["[0]


class DocumentDifference(NamedTuple):
    """How two documents with one `_id` differ: operations (each as JSON), and the root keys that came, went or changed."""

    operations: list[bytes]
    added: list[str]
    removed: list[str]
    changed: list[str]

    @property
    def patch(self) -> bytes:
        """The operations as a JSON list."""
        return b"[" + b",".join(self.operations) + b"]"


def compare_documents(old: bytes, new: bytes, *, ignore_list_order: bool = False) -> DocumentDifference:
    """Return how the canonical JSON `new` differs from `old`.

    With `ignore_list_order`, root keys that differ only in the order of lists, at any level, are equal; a root key that differs
    by more than that is compared as it is.
    """
    before, after = _decode_object(old), _decode_object(new)
    operations: list[bytes] = []
    found = DocumentDifference(operations, [], [], [])
    get = before.get
    for key in [key for key, value in after.items() if get(key) != value]:
        value, known = after[key], get(key)
        if known is None:
            found.added.append(key)
            operations.append(_add(_join("", key), value))
        elif not (ignore_list_order and _sort_lists(known) == _sort_lists(value)):
            found.changed.append(key)
            _compare(_join("", key), known, value, operations)
    found.removed.extend(key for key in before if key not in after)
    operations += [_remove(_join("", key)) for key in found.removed]
    return found


def _compare(path: str, old: msgspec.Raw, new: msgspec.Raw, operations: list[bytes]) -> None:
    """Append what leads from one value to another, different one."""
    kind = memoryview(new)[0]
    if kind == _OBJECT and memoryview(old)[0] == _OBJECT:
        _compare_objects(path, _decode_object(old), _decode_object(new), operations)
    elif kind == _LIST and memoryview(old)[0] == _LIST:
        _compare_lists(path, _decode_list(old), _decode_list(new), operations)
    else:
        operations.append(b'{"op":"replace","path":%b,"value":%b}' % (orjson.dumps(path), new))


def _compare_objects(
    path: str, old: dict[str, msgspec.Raw], new: dict[str, msgspec.Raw], operations: list[bytes]
) -> None:
    for key, value in new.items():
        known = old.pop(key, None)
        if known is None:
            operations.append(_add(_join(path, key), value))
        elif known != value:
            _compare(_join(path, key), known, value, operations)
    operations += [_remove(_join(path, key)) for key in old]


def _compare_lists(path: str, old: list[msgspec.Raw], new: list[msgspec.Raw], operations: list[bytes]) -> None:
    """Leave out what is equal in front and at the end; compare the rest item by item, then add or remove what is left over."""
    start, shorter = 0, min(len(old), len(new))
    while start < shorter and old[start] == new[start]:
        start += 1
    end = 0
    while end < shorter - start and old[-1 - end] == new[-1 - end]:
        end += 1
    old_stop, new_stop = len(old) - end, len(new) - end
    common = min(old_stop, new_stop)
    for index in range(start, common):
        if old[index] != new[index]:
            _compare(f"{path}/{index}", old[index], new[index], operations)
    operations += [_add(f"{path}/{index}", new[index]) for index in range(common, new_stop)]
    operations += [_remove(f"{path}/{index}") for index in range(old_stop - 1, common - 1, -1)]


def _join(path: str, key: str) -> str:
    if "~" in key or "/" in key:
        key = key.replace("~", "~0").replace("/", "~1")
    return f"{path}/{key}"


def _add(path: str, value: msgspec.Raw) -> bytes:
    return b'{"op":"add","path":%b,"value":%b}' % (orjson.dumps(path), value)


def _remove(path: str) -> bytes:
    return b'{"op":"remove","path":%b}' % orjson.dumps(path)


def _sort_lists(value: msgspec.Raw) -> bytes:
    """Return the canonical JSON of a value whose lists are sorted at every level."""
    return _dump(_with_sorted_lists(orjson.loads(bytes(value))))


def _with_sorted_lists(value: Json) -> Any:
    if isinstance(value, dict):
        return {key: _with_sorted_lists(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((_with_sorted_lists(item) for item in value), key=_dump)
    return value


def _dump(value: Json) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
