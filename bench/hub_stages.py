"""One stage of BioThings' own hub, run by its Python for `hub_peer.py` to measure; the working folder has its config.py.

python hub_stages.py register FOLDER | upload SOURCE | build
"""

import asyncio
import logging
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import biothings.hub  # noqa: F401 - reads config.py, before anything else of it can be imported
import orjson
from biothings import config
from biothings.hub.databuild.backend import SourceDocMongoBackend, TargetDocMongoBackend
from biothings.hub.databuild.builder import DataBuilder
from biothings.hub.dataload.uploader import BaseSourceUploader
from biothings.utils import hub_db, mongo
from biothings.utils.manager import JobManager

CONFIG = "things"


class NdjsonUploader(BaseSourceUploader):
    """What the plugin of a generated source says."""

    def load_data(self, data_path: str) -> Iterator[dict[str, Any]]:
        for path in Path(data_path).glob("*.ndjson"):
            with path.open("rb") as file:
                yield from map(orjson.loads, file)


class Alpha(NdjsonUploader):
    name = "alpha"


class Beta(NdjsonUploader):
    name = "beta"


UPLOADERS = {uploader.name: uploader for uploader in (Alpha, Beta)}


def register(folder: Path) -> None:
    """Write what the dumper and the user's configuration would have written."""
    for source in UPLOADERS:
        download = {"status": "success", "data_folder": str(folder / source), "release": "1"}
        hub_db.get_src_dump().insert_one({"_id": source, "download": download})
    build = {"_id": CONFIG, "name": CONFIG, "doc_type": "thing", "sources": list(UPLOADERS), "root": []}
    hub_db.get_src_build_config().insert_one(build)


async def upload(source: str) -> None:
    await UPLOADERS[source](None).load(job_manager=make_job_manager())


async def build() -> None:
    source = partial(
        SourceDocMongoBackend,
        build_config=partial(hub_db.get_src_build_config),
        build=partial(hub_db.get_src_build),
        master=partial(hub_db.get_src_master),
        dump=partial(hub_db.get_src_dump),
        sources=partial(mongo.get_src_db),
    )
    target = partial(TargetDocMongoBackend, target_db=partial(mongo.get_target_db))
    await DataBuilder(CONFIG, source, target, config.LOG_FOLDER).merge(job_manager=make_job_manager())


def make_job_manager() -> Any:
    return JobManager(asyncio.get_running_loop(), num_workers=os.cpu_count())


def main() -> None:
    logging.disable(logging.WARNING)  # it logs every request to the server otherwise
    stage, *arguments = sys.argv[1:]
    if stage == "register":
        register(Path(arguments[0]))
    else:
        asyncio.run(upload(arguments[0]) if stage == "upload" else build())


if __name__ == "__main__":
    main()
