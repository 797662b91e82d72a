"""An S3 stand-in in this process: moto's server in a thread."""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from moto.server import ThreadedMotoServer


@contextmanager
def running_s3() -> Iterator[str]:
    """Yield the address of a server that forgets everything when it ends."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def new_bucket(endpoint: str) -> str:
    """Make a bucket; return the URL of a prefix in it."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    httpx.put(f"{endpoint}/{name}", trust_env=False).raise_for_status()
    return f"s3://key:hunter2@{name}/some/prefix?endpoint_url={endpoint}"
