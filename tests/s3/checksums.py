"""The checksums of S3, in base64, implemented from their definitions without any client library.

Slow, a few megabytes per second: for small contents only. CRC32 is zlib's.
"""

import base64
import hashlib
import zlib


def _table(polynomial):
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
        table.append(value)
    return table


_CRC32C = _table(0x82F63B78)
_CRC64NVME = _table(0x9A6C9329AC4BC9B5)


def _crc(table, bits, data):
    mask = (1 << bits) - 1
    state = mask
    for byte in data:
        state = table[(state ^ byte) & 0xFF] ^ state >> 8
    return (state ^ mask).to_bytes(bits // 8, "big")


RAW = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "CRC32C": lambda data: _crc(_CRC32C, 32, data),
    "CRC64NVME": lambda data: _crc(_CRC64NVME, 64, data),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}
ALGORITHMS = list(RAW)

# The check values of the CRC catalogue.
assert _crc(_CRC32C, 32, b"123456789").hex() == "e3069283"
assert _crc(_CRC64NVME, 64, b"123456789").hex() == "ae8b14860a799888"


def checksum(algorithm, data):
    """Returns the checksum of bytes, as in headers."""
    return base64.b64encode(RAW[algorithm](data)).decode()


def composite(algorithm, contents):
    """Returns the checksum of the parts' checksums, with the number of parts."""
    return checksum(algorithm, b"".join(RAW[algorithm](c) for c in contents)) + f"-{len(contents)}"


def header(algorithm):
    """Returns the header of an algorithm."""
    return f"x-amz-checksum-{algorithm.lower()}"


def field(algorithm):
    """Returns boto3's field name for it."""
    return f"Checksum{algorithm}"


def all_in(answer):
    """Returns the checksums of an answer, by field."""
    names = [field(a) for a in ALGORITHMS]
    return {name: answer[name] for name in names if name in answer}
