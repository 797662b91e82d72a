"""Measures BioThings' own command line on a generated source: upload, and inspect with a mapping.

    python bench/peer.py --documents 200000 [--json out.json]

It installs `biothings[cli]` from PyPI into its own virtual environment below `.bench/peer` (kept for the next run),
writes the source below the same folder, serves the file on the loopback interface for `dump`, measures `upload` and
`inspect` from outside and removes the source. Both commands do in two passes what Sourcebook's upload does in one, so
the number to compare is the sum of the two. The plugin is the one that Sourcebook is measured with; documents are
stored in SQLite, BioThings' default.
"""

import argparse
import functools
import http.server
import json
import shutil
import subprocess
import threading
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import generate
from measure import CommandFailedError, Measurement, describe_machine, run_measured

PACKAGE = "biothings[cli]==1.2.2"
SOURCE = "alpha"
SCRATCH = Path(__file__).resolve().parent.parent / ".bench" / "peer"
ENVIRONMENT = {"TERM": "dumb", "NO_COLOR": "1"}


def install_peer(scratch: Path, package: str = PACKAGE) -> Path:
    """Make the virtual environment if it is not there; return its folder of commands."""
    folder = scratch / "venv"
    marker = folder / f"installed-{package}"
    if not marker.exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        # orjson is for the generated parser, which is the same on both sides.
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", package, "orjson"], check=True)
        marker.touch()
    return folder / "bin"


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """Serve a folder on the loopback interface; yield its address."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


def prepare_plugin(work: Path, documents: int) -> tuple[Path, Path]:
    """Write the generated plugin; return its folder and the folder to serve its data file from."""
    plugin = generate.write_plugin(work, SOURCE, documents)
    served = work / "served"
    served.mkdir()
    (plugin / f"{SOURCE}.ndjson").rename(served / f"{SOURCE}.ndjson")
    # BioThings asks the repository around the plugin for its remote; an empty one of its own answers "none" at once.
    subprocess.run(["git", "init", "--quiet", plugin], check=True)  # noqa: S607 - git is what cloned this project
    return plugin, served


def measure_peer(documents: int, scratch: Path = SCRATCH) -> dict[str, Any]:
    """Measure upload and inspect; return a JSON object with both, their sum and the version measured.

    Raises:
        CommandFailedError: a command of the peer failed, or did not see all documents.
    """
    tools = install_peer(scratch)
    work = scratch / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        return _measure_commands(tools / "biothings-cli", work, documents)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _measure_commands(tool: Path, work: Path, documents: int) -> dict[str, Any]:
    plugin, served = prepare_plugin(work, documents)
    run = functools.partial(run_measured, folder=plugin, environment=ENVIRONMENT)
    with serve_folder(served) as address:
        manifest = json.loads((plugin / "manifest.json").read_text())
        manifest["dumper"]["data_url"] = f"{address}/{SOURCE}.ndjson"
        (plugin / "manifest.json").write_text(json.dumps(manifest))
        run("dump", documents, [str(tool), "dataplugin", "dump"])
    upload, _ = run("upload", documents, [str(tool), "dataplugin", "upload"])
    command = [
        str(tool),
        "dataplugin",
        "inspect",
        "--mode",
        "mapping",
        "--sub-source-name",
        SOURCE,
        "--output",
        "mapping.json",
    ]
    inspect, _ = run("inspect", documents, command)
    check_mapping(plugin / "mapping.json")
    return {
        "package": PACKAGE,
        "upload": upload.as_json(),
        "inspect": inspect.as_json(),
        "both": add(upload, inspect).as_json(),
    }


def check_mapping(path: Path) -> None:
    """Make sure that what was measured did its work."""
    mapping = json.loads(path.read_text())["results"]["mapping"]
    expected = set(generate.make_alpha(0)) - {"_id"}
    if set(mapping) - {"_id"} != expected:
        raise CommandFailedError(f"The mapping has {sorted(mapping)}, not {sorted(expected)}.")


def add(first: Measurement, second: Measurement) -> Measurement:
    """Return the measurement of two commands, one after the other, on the same documents."""
    return Measurement(
        f"{first.name} + {second.name}",
        first.documents,
        first.seconds + second.seconds,
        first.cpu_seconds + second.cpu_seconds,
        max(first.peak_bytes, second.peak_bytes),
        max(first.peak_mapped_bytes, second.peak_mapped_bytes),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    arguments = parser.parse_args()
    result = {"machine": describe_machine(), **measure_peer(arguments.documents)}
    for name in ("upload", "inspect", "both"):
        row = result[name]
        print(
            f"{name:8} {row['documents']:>10,} documents {row['seconds']:8.1f} s"
            f" {row['documents_per_second']:>8,} per s {row['documents_per_cpu_second']:>8,} per CPU s"
            f" {row['peak_bytes'] / 1024 / 1024:6,.0f} MiB"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
