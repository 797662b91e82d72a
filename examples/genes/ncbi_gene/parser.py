"""NCBI Gene: one document for each record, `_id` is its symbol; `ncbi_gene` is a list because symbols repeat."""

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def release(dumper: Any) -> str:
    """Return the day of the Entrez Gene data in the file."""
    return "2022-09-12"


def load_data(data_folder: str) -> Iterator[dict[str, Any]]:
    """Yield the documents; empty cells are left out, columns that can hold several values are always lists."""
    with gzip.open(Path(data_folder) / "ncbi_gene_2022-09.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            record: dict[str, Any] = {"gene_id": row["gene_id"], "type_of_gene": row["type_of_gene"]}
            record |= {name: row[name].split("|") for name in ("chromosome", "map_location", "omim") if row[name]}
            record["pubmed_count"] = int(row["pubmed_count"])
            yield {"_id": row["symbol"], "ncbi_gene": [record]}
