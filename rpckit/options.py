"""The options of a transport: what its section of the settings, and the query of its URL, may say."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["TransportOptions"]


class TransportOptions(BaseModel):
    """Options every transport has, as query parameters of its URL; a transport adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dialect: str = Field("native", description="the form in which requests are written")
    connect_timeout: float = Field(10.0, gt=0, description="seconds for one attempt to connect")

    @property
    def form(self) -> str:
        """Of the messages that are given to the transport: "native", or the dialect if it takes bodies as they are."""
        return self.dialect
