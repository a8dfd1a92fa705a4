"""Wire format: image files in messages, without protobuf, which copies each several times.

https://protobuf.dev/programming-guides/encoding
"""

_LENGTH_DELIMITED = 2
_MAX_LENGTH_BYTES = 5  # of its varint; protobuf refuses longer ones


def field_head(number: int, size: int) -> bytes:
    """Return what stands before the `size` bytes of a length-delimited field."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(size)


def split_first(message: bytes, number: int) -> tuple[bytes | memoryview, bytes]:
    """Split a serialised message behind a length-delimited field of a number up to 15.

    Returns a view of the field's value, and the bytes behind it: b"" and the message if it does
    not begin with the whole field.
    """
    if message[:1] != _varint(number << 3 | _LENGTH_DELIMITED):
        return b"", message
    size = 0
    for start, byte in enumerate(message[1 : 1 + _MAX_LENGTH_BYTES], 2):
        size |= (byte & 0x7F) << 7 * (start - 2)
        if byte < 0x80:
            end = start + size
            if end <= len(message):
                return memoryview(message)[start:end], message[end:]
            break
    return b"", message


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
