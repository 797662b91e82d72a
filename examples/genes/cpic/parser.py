"""CPIC: one document for each gene, `_id` is its symbol, with all its gene-drug pairs."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RENAMED = {
    "CPICLevel": "level",
    "CPICLevelStatus": "level_status",
    "PharmGKBLevel": "pharmgkb_level",
    "FDALabel": "fda_label",
}
FILES = {"cpic_pairs.csv": "pypgx-0.27.0", "cpic_pairs_2023.csv": "pypgx-0.20.0"}  # the newest first
LISTS = {"ATC": ", ", "PMID": ";"}  # column: what stands between its values


def release(dumper: Any) -> str:
    """Return the version of the package that carries the table: the table itself has no version or date."""
    url = dumper.data_urls[0] if dumper is not None else "cpic_pairs.csv"
    return FILES[url.rpartition("/")[2]]


def load_data(data_folder: str) -> Iterator[dict[str, Any]]:
    """Yield the documents; empty cells are left out, columns that can hold several values are always lists."""
    pairs = defaultdict(list)
    paths = (Path(data_folder) / name for name in FILES)
    path = next(path for path in paths if path.is_file())
    # Columns have names: the earlier file has fewer of them, in other places.
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            pair: dict[str, Any] = {}
            for column, cell in row.items():
                if cell and column != "Gene":
                    pair[RENAMED.get(column, column.lower())] = cell.split(LISTS[column]) if column in LISTS else cell
            pairs[row["Gene"]].append(pair)
    for gene, its_pairs in pairs.items():
        yield {"_id": gene, "cpic": {"pairs": its_pairs}}
