"""Define what a client is told when its request is not answered: a status, a sentence, and when to come back."""

from dataclasses import dataclass


@dataclass(eq=False)
class Refusal(Exception):
    """A request that is not answered. `status` is HTTP's; `retry_after` in whole seconds, where another try may help."""

    status: int
    message: str
    retry_after: int | None = None
    close: bool = False
    """Whether the connection ends with the answer, since part of the request was not read."""

    def __str__(self) -> str:
        return self.message

    @property
    def kind(self) -> str:
        """Return the name of its class: what is wrong with the request, or with the server's state."""
        return KINDS.get(self.status, "Backend")


KINDS = {
    400: "Validation",
    401: "Unauthorized",
    404: "NotFound",
    405: "Validation",
    408: "Timeout",
    413: "Validation",
    415: "Validation",
    422: "Validation",
    429: "Overloaded",
    503: "Unhealthy",
    504: "Timeout",
}


def invalid(message: str, status: int = 400) -> Refusal:
    """Return the refusal of a request that is wrong by itself."""
    return Refusal(status, message)


def overloaded(wait: float) -> Refusal:
    """Return the refusal of a request that would have to wait `wait` seconds."""
    seconds = max(1, round(wait + 0.499))
    return Refusal(429, f"too many requests wait: this one would take {wait:.2f} s; send it again later", seconds)
