"""The message bus: carries job ids to the queue of the service that runs them."""

from typing import Protocol


class Bus(Protocol):
    """Sends job ids; a message may arrive twice or be lost with the broker, jobs are claimed and re-sent accordingly."""

    async def send(self, stage: str, job_id: str) -> None:
        """Put a job on the queue of its stage.

        Raises:
            EngineUnavailable: the broker does not answer.
        """
        ...

    async def lengths(self) -> dict[str, int]:
        """Return how many messages wait on each queue; those that workers hold are not among them.

        Raises:
            EngineUnavailable: the broker does not answer.
        """
        ...

    async def ping(self) -> None:
        """Check that messages can be sent.

        Raises:
            EngineUnavailable: the broker does not answer.
        """
        ...

    async def close(self) -> None:
        """Give back what is open."""
        ...
