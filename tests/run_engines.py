"""`make test-engines`: starts the real engines that this machine can have, and runs the contracts on them.

An engine whose URL is in the environment is used as it is. One whose programs (Maven and a JDK, redis-server) are not on this
machine is named, and the rest still runs. One that has them and does not come up fails the run, which would be green without it.
"""

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from support.maven import ServerMissing

from sourcebook.references import load_reference

SERVERS = {
    "OpenSearch": ("SOURCEBOOK_TEST_OPENSEARCH_URL", "support.servers_opensearch:start"),
    "MongoDB": ("SOURCEBOOK_TEST_MONGODB_URL", "support.servers_mongo:start"),
    "Redis": ("SOURCEBOOK_TEST_REDIS_URL", "support.servers_redis:start"),
}
TESTS = (
    *("contract", "flow/test_genes_engines.py"),
    *(f"api/{name}.py" for name in ("test_query_answers", "test_query_routes", "test_query_walks", "test_clients")),
)
ON_REAL_ENGINES = "opensearch or mongodb or redis or test_genes_engines"
NOTHING_SELECTED = 5


def start_servers(stack: ExitStack, folder: Path) -> dict[str, str]:
    """Start what is not given; return the URLs by the names of their variables.

    Raises:
        RuntimeError: a server does not start although all that it needs is here.
    """
    urls = {}
    for name, (variable, starter) in SERVERS.items():
        url = os.environ.get(variable)
        if url:
            urls[variable] = url
            print(f"{name}: the one that {variable} names", flush=True)
            continue
        own = folder / name.lower()
        own.mkdir()
        try:
            url, process = load_reference(starter)(own)
        except ServerMissing as error:
            print(f"{name}: not tested: {error}", flush=True)
            continue
        stack.callback(end, process)
        urls[variable] = url
        print(f"{name}: {url}", flush=True)
    return urls


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a server that this program started."""
    process.kill()
    process.wait(30)


def main(arguments: list[str]) -> int:
    """Run the tests; return pytest's exit code."""
    home = Path(__file__).parent
    with tempfile.TemporaryDirectory(prefix="sourcebook-engines-") as folder, ExitStack() as stack:
        urls = start_servers(stack, Path(folder))
        if not urls:
            print("No engine can be had on this machine; nothing is tested.")
            return 0
        command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "-k", ON_REAL_ENGINES, *arguments]
        tests = [str(home / path) for path in TESTS if (home / path).exists()]
        code = subprocess.run([*command, *tests], env={**os.environ, **urls}, cwd=home.parent, check=False).returncode
        return 0 if code == NOTHING_SELECTED else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
