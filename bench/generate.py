"""Writes two plugins with generated data: the same documents for the same number, on every machine.

    python bench/generate.py FOLDER --documents 1000000 [--sorted]

`FOLDER/alpha` and `FOLDER/beta` each hold a manifest, a parser and an NDJSON file. A document has an `_id` and ten
fields in about 400 bytes: keyword, text, integer, float, boolean, date, list and object. Four of five documents of
`beta` have an `_id` that `alpha` has too; one root key (`updated`) is in both. The files are not sorted by `_id`
unless asked for.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

MASK = (1 << 64) - 1
VOCABULARY = """
receptor kinase binding domain protein factor subunit channel membrane transport signal complex ligase oxidase
synthase member family alpha beta gamma delta type like associated interacting containing regulatory activating
inhibitor growth nuclear ribosomal mitochondrial zinc finger ring coiled coil repeat heat shock solute carrier
olfactory cell adhesion molecule light heavy chain variant open reading frame long coding antisense intergenic host
small pseudogene cluster region locus
"""
WORDS = VOCABULARY.split()
CATEGORIES = ("coding", "noncoding", "pseudo", "regulatory", "unknown", "repeat", "viral", "other")
PARSER = '''"""Yields the documents of an NDJSON file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson


def load_data(data_folder: str) -> Iterator[dict[str, Any]]:
    """Yield one document for each line."""
    for path in Path(data_folder).glob("*.ndjson"):
        with path.open("rb") as file:
            yield from map(orjson.loads, file)
'''


def scramble(number: int) -> int:
    """Return 64 well mixed bits; different numbers give different bits (the finaliser of SplitMix64)."""
    mixed = (number * 0x9E3779B97F4A7C15 + 0x1234567) & MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
    return mixed ^ (mixed >> 31)


def words(bits: int, count: int) -> str:
    """Return `count` (up to ten) words chosen by six bits each."""
    return " ".join([WORDS[(bits >> (6 * position)) & 63] for position in range(count)])


def date(bits: int) -> str:
    """Return a day between 2000-01-01 and 2023-12-28."""
    return f"{2000 + bits % 24}-{1 + (bits >> 8) % 12:02d}-{1 + (bits >> 16) % 28:02d}"


def document_id(number: int) -> str:
    """Return the `_id` of a document; its order is not that of the numbers."""
    return f"{scramble(number):016x}"


def make_alpha(number: int) -> dict[str, Any]:
    """Return a document of the first source."""
    bits, more = scramble(number), scramble(number + (1 << 40))
    start = more % 240_000_000
    return {
        "_id": f"{bits:016x}",
        "symbol": f"GEN{number}",
        "title": words(more, 5),
        "summary": words(bits, 10) + " " + words(more >> 4, 5),
        "category": CATEGORIES[bits & 7],
        "count": bits % 100_000,
        "score": (more % 1_000_003) / 1000,
        "active": bool(bits & 1),
        "updated": date(more),
        "tags": [WORDS[bits & 63], WORDS[more & 63]],
        "location": {"chromosome": str(1 + bits % 22), "start": start, "end": start + 1 + bits % 90_000},
    }


def make_beta(number: int) -> dict[str, Any]:
    """Return a document of the second source."""
    bits, more = scramble(number), scramble(number + (1 << 41))
    return {
        "_id": f"{bits:016x}",
        "accession": f"ACC_{more % 10_000_000_000:010d}",
        "label": words(more, 6),
        "note": words(more >> 3, 10) + " " + words(bits, 4),
        "status": CATEGORIES[more & 7],
        "rank": more % 5_000_000,
        "weight": (bits % 999_983) / 10_000,
        "reviewed": bool(more & 2),
        "updated": date(bits),
        "synonyms": [f"SYN{more % 70_000}", f"ALT{bits % 70_000}"],
        "reference": {"database": CATEGORIES[bits & 7], "number": bits % 100_000_000},
    }


MAKERS: dict[str, Callable[[int], dict[str, Any]]] = {"alpha": make_alpha, "beta": make_beta}


def document_numbers(source: str, documents: int) -> range:
    """Return which documents a source has: `beta` begins a fifth later than `alpha`."""
    first = documents // 5 if source == "beta" else 0
    return range(first, first + documents)


def document_lines(source: str, documents: int, *, in_id_order: bool) -> Iterator[bytes]:
    """Yield the lines of a source's file."""
    numbers = document_numbers(source, documents)
    for number in sorted(numbers, key=document_id) if in_id_order else numbers:
        yield orjson.dumps(MAKERS[source](number), option=orjson.OPT_APPEND_NEWLINE)


def write_plugin(folder: Path, source: str, documents: int, *, in_id_order: bool = False, data_url: str = "") -> Path:
    """Write the plugin of one source and return its folder; `data_url` replaces the file's path in the manifest."""
    plugin = folder / source
    plugin.mkdir(parents=True, exist_ok=True)
    manifest = {
        "version": "0.1",
        "display_name": f"Generated source {source}",
        "biothing_type": "thing",
        "__metadata__": {"license": "CC0-1.0", "description": "Generated for measurements"},
        "dumper": {"data_url": data_url or f"{source}.ndjson"},
        "uploader": {"parser": "parser:load_data", "on_duplicates": "error"},
    }
    (plugin / "manifest.json").write_text(json.dumps(manifest, indent=4) + "\n")
    (plugin / "parser.py").write_text(PARSER)
    with (plugin / f"{source}.ndjson").open("wb") as file:
        file.writelines(document_lines(source, documents, in_id_order=in_id_order))
    return plugin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=1_000_000, help="documents of each source")
    parser.add_argument("--sorted", action="store_true", help="write the files in the order of `_id`")
    arguments = parser.parse_args()
    for source in MAKERS:
        plugin = write_plugin(arguments.folder, source, arguments.documents, in_id_order=arguments.sorted)
        size = (plugin / f"{source}.ndjson").stat().st_size
        print(f"{plugin}: {arguments.documents:,} documents, {size / arguments.documents:.0f} bytes each")


if __name__ == "__main__":
    main()
