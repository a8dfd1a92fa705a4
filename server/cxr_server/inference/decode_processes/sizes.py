"""Sizes: what decode processes take beside the images, for the budget and for their limits."""

FORK_SERVER_BYTES = 24 * 2**20
WORKER_BYTES = 32 * 2**20
"""What a worker may take beside the image: its own changes of memory that it shares with the fork
server, its half of the arena, what its allocator keeps, and what no header states."""

SMALL_BYTES = 8 * 2**20
"""What the server holds for the pixels of an image whose header was not read yet. A grey PNG of
1024 x 1024 px takes 7 MiB, and so no round trip to ask for them."""


def process_bytes(max_request_bytes: int) -> int:
    """Return what a worker takes beside the pixels, with the image file in its arena."""
    return WORKER_BYTES + max_request_bytes
