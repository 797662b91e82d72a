"""The bus on Celery with Redis or Valkey: one queue a service."""

import asyncio
import logging

from celery import Celery
from kombu.exceptions import OperationalError

from sourcebook.errors import EngineUnavailable
from sourcebook.flow.stages import STAGES
from sourcebook.logging import hide_secrets
from sourcebook.settings import Settings

# Kombu looks for messages of dead workers only every 10 s x 10 by default. The timeout exceeds the longest job; a worker
# that died earlier is noticed through its lock (hub/jobs.py), not through the broker.
TRANSPORT_OPTIONS = {
    "visibility_timeout": 2 * 24 * 3600,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_keepalive": True,
    "socket_connect_timeout": 3,
}


class CeleryBus:
    """The bus port on Celery."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._app = Celery("sourcebook", broker=url, set_as_current=False)
        self._app.conf.update(
            broker_transport_options=TRANSPORT_OPTIONS,
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

    async def ping(self) -> None:
        await asyncio.to_thread(self._ping)

    def _ping(self) -> None:
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0.2, timeout=3)
                connection.default_channel.client.ping()
        except (OperationalError, OSError, *self._app.connection().connection_errors) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> EngineUnavailable:
        url = hide_secrets(self._url)
        return EngineUnavailable(
            f"The broker at {url} does not answer ({error}). Start it with `sourcebook up`, or set SOURCEBOOK_BROKER_URL.",
            url=url,
        )

    async def close(self) -> None:
        await asyncio.to_thread(self._app.close)


async def open_celery_bus(settings: Settings) -> CeleryBus:
    """Make a bus to the broker of `SOURCEBOOK_BROKER_URL`; it connects when it first sends."""
    logging.getLogger("kombu").setLevel(logging.WARNING)
    return CeleryBus(settings.celery_broker_url)
