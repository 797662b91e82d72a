"""HGNC: one document for each approved human gene, `_id` is its symbol."""

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RENAMED = {
    "ensembl_gene_id": "ensembl",
    "entrez_id": "entrezgene",
    "uniprot_ids": "uniprot",
    "refseq_accession": "refseq",
}
LISTS = {"alias_symbol", "prev_symbol", "uniprot_ids", "refseq_accession"}


def release(dumper: Any) -> str:
    """Return the day on which HGNC published the file."""
    return "2026-06-20"


def load_data(data_folder: str) -> Iterator[dict[str, Any]]:
    """Yield the documents; empty cells are left out, columns that can hold several values are always lists."""
    with gzip.open(Path(data_folder) / "hgnc_complete_set.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            document: dict[str, Any] = {"_id": row["symbol"]}
            for column, cell in row.items():
                if cell and column != "status":  # the file has approved genes only
                    document[RENAMED.get(column, column)] = cell.split("|") if column in LISTS else cell.strip()
            yield document
