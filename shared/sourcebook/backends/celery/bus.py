"""The bus on Celery with Redis or Valkey: one queue a service."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from sourcebook.errors import EngineUnavailable
from sourcebook.flow.stages import QUEUES, STAGES
from sourcebook.logging import hide_secrets
from sourcebook.settings import Settings

# Kombu looks for messages of dead workers only every 10 s x 10 by default. The timeout exceeds the longest job; a worker
# that died earlier is noticed through its lock (hub/jobs/recovery.py), not through the broker.
TRANSPORT_OPTIONS = {
    "visibility_timeout": 2 * 24 * 3600,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_keepalive": True,
    "socket_connect_timeout": 3,
    "socket_timeout": 10,
}
_SECONDS = 3.0  # for an answer, or for a connection


class CeleryBus:
    """The bus port on Celery."""

    def __init__(self, url: str, patience: timedelta) -> None:
        self._url = url
        self._seconds = min(patience.total_seconds(), _SECONDS)
        limits = {"socket_timeout": self._seconds, "socket_connect_timeout": self._seconds}
        self._app = Celery("sourcebook", broker=url, set_as_current=False)
        self._app.conf.update(
            broker_transport_options=TRANSPORT_OPTIONS | limits,
            broker_connection_retry=False,
            task_ignore_result=True,
            broker_pool_limit=2,
        )

    async def send(self, stage: str, job_id: str) -> None:
        await asyncio.to_thread(self._send, stage, job_id)

    def _send(self, stage: str, job_id: str) -> None:
        try:
            self._app.send_task(
                f"sourcebook.{stage}",
                args=[job_id],
                queue=STAGES[stage].queue,
                retry=True,
                retry_policy={"max_retries": 3},
            )
        except OperationalError as error:
            raise self._unavailable(error) from error

    async def lengths(self) -> dict[str, int]:
        found = await asyncio.to_thread(self._ask, lambda client: [client.llen(queue) for queue in QUEUES])
        return dict(zip(QUEUES, found, strict=True))

    async def ping(self) -> None:
        await asyncio.to_thread(self._ask, lambda client: client.ping())

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        """Return the answer of the broker to `question(its Redis client)`."""
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0.2, timeout=self._seconds)
                return question(connection.default_channel.client)
        except (OperationalError, OSError, *self._app.connection().connection_errors) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> EngineUnavailable:
        url = hide_secrets(self._url)
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return EngineUnavailable(
                f"The certificate of the broker at {url} is not trusted: add ssl_ca_certs=/path/of/the/authority.pem to "
                "SOURCEBOOK_BROKER_URL, or name the host as the certificate does.",
                url=url,
            )
        return EngineUnavailable(
            f"The broker at {url} does not answer ({error}). Start it with `sourcebook up`, or set SOURCEBOOK_BROKER_URL.",
            url=url,
            engine="Redis",
        )

    async def close(self) -> None:
        await asyncio.to_thread(self._app.close)


async def open_celery_bus(settings: Settings) -> CeleryBus:
    """Make a bus to the broker of `SOURCEBOOK_BROKER_URL`; it connects when it first sends."""
    logging.getLogger("kombu").setLevel(logging.WARNING)
    return CeleryBus(settings.celery_broker_url, settings.engine_patience)
