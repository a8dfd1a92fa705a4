"""Body: the body of an upload -> the bytes of an image, counted while they arrive."""

import asyncio

from starlette.requests import Request

from cxr_client.viewer.failures import Refusal, too_large

_LONGEST_UPLOAD_S = 120


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Return the body. It is refused as soon as it is, or says that it is, beyond the limit.

    Raises:
        Refusal: It is larger than `max_bytes`, or takes longer than two minutes.
        ClientDisconnect: The browser has left.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise too_large(max_bytes)
    chunks, size_bytes = [], 0
    try:
        async with asyncio.timeout(_LONGEST_UPLOAD_S):
            async for chunk in request.stream():
                chunks.append(chunk)
                size_bytes += len(chunk)
                if size_bytes > max_bytes:
                    raise too_large(max_bytes)
    except TimeoutError:
        raise Refusal(
            "UPLOAD_TIMEOUT", f"The upload has taken longer than {_LONGEST_UPLOAD_S} seconds."
        ) from None
    return b"".join(chunks)
