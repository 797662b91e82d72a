"""BioThings' own diff on pairs of documents; runs in the peer's virtual environment: `python peer_diff.py PAIRS`.

Its hub reads both versions of a document from its store and calls this function for those that are not equal. Reading is
left out here.
"""

import json
import sys
import time
from pathlib import Path

import orjson
from biothings.utils import jsondiff


def main() -> None:
    pairs = [orjson.loads(line) for line in Path(sys.argv[1]).read_bytes().splitlines()]
    started, cpu_started = time.perf_counter(), time.process_time()
    operations = sum(len(jsondiff.make(old, new)) for old, new in pairs)
    print(
        json.dumps(
            {
                "pairs": len(pairs),
                "operations": operations,
                "seconds": time.perf_counter() - started,
                "cpu_seconds": time.process_time() - cpu_started,
            }
        )
    )


if __name__ == "__main__":
    main()
