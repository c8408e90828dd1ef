"""A FastStream program as a client: python faststream_redis_client.py URL REQUEST…

REQUEST is the arguments of `broker.request` as JSON; `base64` stands for a message of bytes, `times` for as many at
once. Prints a line of JSON for each: the reply as FastStream shows it, or that there was none.
"""

import asyncio
import base64
import json
import sys
import time

from faststream.redis import RedisBroker


async def ask(broker, message=None, *, times=1, **how):
    if "base64" in how:
        message = base64.b64decode(how.pop("base64"))
    if times > 1:
        return await asyncio.gather(*[ask(broker, f"{message} {n}", **how) for n in range(times)])
    began = time.perf_counter()
    try:
        reply = await broker.request(message, **{"timeout": 3.0, **how})
    except TimeoutError:
        return {"silence": time.perf_counter() - began}
    decoded = await reply.decode()
    return {
        "body": base64.b64encode(reply.body).decode(),
        "decoded": base64.b64encode(decoded).decode() if isinstance(decoded, bytes) else decoded,
        "type": type(decoded).__name__,
        "headers": reply.headers,
        "correlation_id": reply.correlation_id,
        "content_type": reply.content_type,
        "seconds": time.perf_counter() - began,
    }


async def main(url, requests):
    async with RedisBroker(url, logger=None) as broker:
        for request in requests:
            print(json.dumps(await ask(broker, **json.loads(request))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
