"""The bytes of a file as they arrive, unpacked in small pieces."""

import zlib
from collections.abc import Iterable, Iterator
from typing import IO

from healthcare.imports.file_refused import FileRefused

CHUNK_BYTES = 64 * 1024
# Small, because zlib copies what remains of its input at the end of each member and of each piece of output.
PACKED_CHUNK_BYTES = 4 * 1024
GZIP = zlib.MAX_WBITS + 16
NOT_GZIP = "The file is not valid gzip; pack it again, or leave out `Content-Encoding: gzip`."


def chunks_of(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def limited(chunks: Iterable[bytes], maximum: int | None, detail: str) -> Iterator[bytes]:
    """The chunks. Raises FileRefused (413) once they have more than `maximum` bytes."""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if maximum is not None and total > maximum:
            raise FileRefused(413, "too_large", detail)
        yield chunk


def gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in chunks of at least CHUNK_BYTES, but for the last: splitting into lines copies each chunk."""
    parts = bytearray()
    for chunk in chunks:
        parts += chunk
        if len(parts) >= CHUNK_BYTES:
            yield bytes(parts)
            parts.clear()
    if parts:
        yield bytes(parts)


def unpacked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a gzip file (RFC 1952), which may have several members. Raises FileRefused (400) if it is broken.

    Each chunk has at most 64 KiB, however well it was packed.
    """
    member = zlib.decompressobj(GZIP)
    started = False  # whether the member has begun; a file may end between members, not within one
    for piece in pieces(chunks):
        rest = piece
        while rest:
            if member.eof:
                member = zlib.decompressobj(GZIP)
            started = True
            try:
                content = member.decompress(rest, CHUNK_BYTES)
                while content:
                    yield content
                    if member.eof:
                        break  # what follows is in `unused_data`, and in `unconsumed_tail` as well
                    rest = member.unconsumed_tail
                    content = member.decompress(rest, CHUNK_BYTES)
            except zlib.error as error:
                raise FileRefused(400, "gzip", NOT_GZIP) from error
            rest = member.unused_data if member.eof else member.unconsumed_tail
    if not (started and member.eof):
        raise FileRefused(400, "gzip", "The gzip file ends too early; send all of it.")


def pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), PACKED_CHUNK_BYTES):
            yield chunk[start : start + PACKED_CHUNK_BYTES]
