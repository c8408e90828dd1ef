"""Redis as a transport of rpckit: streams, lists and Pub/Sub. Found through entry points such as `redis+stream`."""

from rpckit import Response as RedisResponse  # the name it has in FastStream; `maxlen` is what Redis adds

from ._transport import RedisTransport

__all__ = ["RedisResponse", "RedisTransport"]
