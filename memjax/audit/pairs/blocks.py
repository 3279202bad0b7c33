"""How the pairs are cut up, and blocks of images on their way from disk to the devices."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from memjax.audit.describe import Images
from memjax.audit.pairs.screen import PARTS, How, Raw
from memjax.errors import UserError
from memjax.mesh import QUERY

_QUERY_BYTES = 1 << 30  # described queries held at once, over all devices
_GALLERY_BYTES = 16 << 20  # one described gallery block: what stays in cache is read twice for the price of once
_GALLERY_ROWS = 128  # but at least so many images, or the product starves,
_GALLERY_MOST = 64 << 20  # as far as they are no larger than this
_SKETCHED_BYTES = 128 << 20  # of a block, as stored, that is only sketched: the larger, the better its floors
_SKETCHES_BYTES = 32 << 20  # and of its sketches
_COPIES = 4  # of a described gallery block, in all its stages
_SCORE_BYTES = 64 << 20  # one block of scores in all orientations on one device,
_BOUND_BYTES = 256 << 20  # or of bounds


class Blocks(NamedTuple):
    """Chunks of queries, and blocks of the gallery for each chunk: those from number `first` up to `last`."""

    queries: int
    gallery: int
    chunk: int
    width: int
    first: int
    last: int

    @property
    def per_chunk(self) -> int:
        """Gallery blocks for each chunk of queries."""
        return self.last - self.first

    @property
    def pairs(self) -> int:
        """All of them."""
        return self.queries * self._images(self.last)

    def share(self, index: int, count: int) -> "Blocks":
        """Return the part of one of several processes: in order, and the first process has a block if any has."""
        first, last = (-(-self.per_chunk * i // count) for i in (index, index + 1))
        return self._replace(first=self.first + first, last=self.first + last)

    def pairs_of(self, start: int, left: int) -> int:
        """Return how many pairs the block of the query `start` and the gallery image `left` holds."""
        return min(self.chunk, self.queries - start) * min(self.width, self.gallery - left)

    def pairs_before(self, done: int) -> int:
        """Return how many pairs the first `done` blocks hold."""
        chunks, blocks = divmod(done, self.per_chunk)
        whole = min(chunks * self.chunk, self.queries)
        rest = min(self.chunk, self.queries - whole)
        return whole * self._images(self.last) + rest * self._images(self.first + blocks)

    def _images(self, end: int) -> int:
        """Return how many gallery images lie in the blocks up to number `end`."""
        return min(end * self.width, self.gallery) - min(self.first * self.width, self.gallery)


def cut(how: How, n_queries: int, n_gallery: int, available: int | None) -> Blocks:
    """Size the blocks: what a device computes on stays in its cache or at least in its memory.

    Args:
      how: the plan.
      n_queries: number of queries.
      n_gallery: number of gallery images.
      available: bytes of memory; None: not known.

    Raises:
      UserError: there is not even memory for one query and one gallery image a device.
    """
    devices, size, itemsize = how.mesh.size, how.size, np.dtype(how.dtype).itemsize
    query_bytes = (
        size * {"product": 4 * len(how.group), "symmetric": 4, "sketched": itemsize * len(how.group)}[how.kind]
    )
    if available is None:
        available = 8 * _QUERY_BYTES
    least = devices * (query_bytes + _COPIES * 4 * size)
    if least > available:
        raise UserError(
            f"comparing images of {size} numbers takes at least {least / 2**30:.3g} GiB, {available / 2**30:.3g} GiB "
            "are free; free memory, use fewer --devices, or prepare the images with a smaller --size."
        )
    local = -(-_even(n_queries, min(_QUERY_BYTES, available // 4) // query_bytes) // devices)
    parts = max(1, PARTS * how.k)
    local = _in_parts(local, -(-parts // devices))
    most = min(_GALLERY_MOST, available // (2 * _COPIES))
    number = 2 if how.are_parts_bytes else 4  # products of bytes take larger blocks
    rows = max(min(_GALLERY_ROWS, most // (4 * size)), min(_GALLERY_BYTES, most) // (number * size))
    scores = _SCORE_BYTES
    if how.kind == "sketched":
        numbers = -(-size // how.block ** (len(how.shape) - 1))
        rows = max(rows, min(_SKETCHED_BYTES, available // (2 * _COPIES)) // (itemsize * size))
        rows = min(rows, max(_GALLERY_ROWS, _SKETCHES_BYTES // (4 * numbers)))
        scores = min(_BOUND_BYTES, available // (2 * _COPIES))
    width = _even(n_gallery, min(rows, scores // (4 * local * len(how.group))))
    width = -(-_in_parts(width, math.lcm(parts, devices)) // devices) * devices
    return Blocks(n_queries, n_gallery, local * devices, width, first=0, last=-(-n_gallery // width))


def _in_parts(n: int, parts: int) -> int:
    """Round n up to a multiple of `parts`, if it is large enough to be parted."""
    return n if n < 2 * parts else -(-n // parts) * parts


def _even(n: int, largest: int) -> int:
    """Return the size of equal blocks of at most `largest` (at least 1) that cover n with the least padding."""
    blocks = -(-n // max(1, largest))
    return -(-n // blocks)


def query_chunks(query: Images, blocks: Blocks, mesh: Mesh, done: int) -> Iterator[tuple[int, int, Raw]]:
    """Yield the chunks of queries with blocks left to do: number of the first block, first query, the images."""
    for chunk, start in enumerate(range(0, blocks.queries, blocks.chunk)):
        if done < (chunk + 1) * blocks.per_chunk:
            yield chunk * blocks.per_chunk, start, _place(_read(query, start, blocks.chunk), mesh)


def gallery_blocks(gallery: Images, blocks: Blocks, mesh: Mesh, skip: int) -> Iterator[tuple[int, Raw]]:
    """Yield blocks of the gallery but for the first `skip`; the next is read while the caller works on one."""
    starts = range((blocks.first + skip) * blocks.width, blocks.last * blocks.width, blocks.width)
    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(_read, gallery, start, blocks.width) for start in starts[:1]]
        for place, start in enumerate(starts):
            block = _place(ahead.pop().result(), mesh)
            ahead += [reader.submit(_read, gallery, after, blocks.width) for after in starts[place + 1 : place + 2]]
            yield start, block


def _read(images: Images, start: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read exactly `rows` images with ranges and ids; past the end they are padded, so that nothing compiles twice."""
    stop = min(start + rows, len(images))
    raw, ranges, ids = images.block(start, stop), images.ranges[start:stop], np.arange(start, stop, dtype=np.int32)
    missing = rows - len(raw)
    if missing:
        raw = np.concatenate([raw, np.zeros((missing, *raw.shape[1:]), raw.dtype)])
        ranges = np.concatenate([ranges, np.zeros((missing, 2), ranges.dtype)])
        ids = np.concatenate([ids, np.full(missing, -1, np.int32)])
    return raw, ranges, ids


def _place(block: tuple[np.ndarray, ...], mesh: Mesh) -> Raw:
    return Raw(*(jax.device_put(part, NamedSharding(mesh, P(QUERY))) for part in block))
