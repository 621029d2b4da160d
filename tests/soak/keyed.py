"""Pseudo-random streams, one for each key: a byte that is lost, repeated, changed or another stream's is noticed."""

import functools
import hashlib

BLOCK = 4096
NAMING_LENGTH = 12
"""So many bytes name the stream that they are from."""


@functools.lru_cache(maxsize=64)
def _block(key, number):
    return hashlib.shake_128(b"%d/%d" % (key, number)).digest(BLOCK)


def stream(key, start, count):
    """The bytes of a stream from a position on."""
    first, last = start // BLOCK, (start + count - 1) // BLOCK
    blocks = b"".join([_block(key, number) for number in range(first, last + 1)])
    return blocks[start - first * BLOCK :][:count]


class Mismatch(Exception):
    """What arrived is not what was sent; the message says where it goes wrong, and whose bytes these are."""


def check(key, position, data, suspects=()):
    """Raise Mismatch unless data is the stream's from the position on. Suspects are the (key, length) of others."""
    data = bytes(data)
    expected = stream(key, position, len(data))
    if data == expected:
        return
    wrong = next(index for index, pair in enumerate(zip(data, expected, strict=True)) if pair[0] != pair[1])
    sample = data[wrong : wrong + NAMING_LENGTH]
    raise Mismatch(f"stream {key}: wrong from byte {position + wrong} on: {_origin(sample, key, suspects)}")


def _origin(sample, key, suspects):
    if len(sample) < NAMING_LENGTH:
        return f"{sample!r}"
    for other, length in suspects:
        found = stream(other, 0, length).find(sample) if length else -1
        if found >= 0:
            whose = "its own" if other == key else f"stream {other}'s"
            return f"these are {whose} from byte {found} on"
    return "bytes of unknown origin"
