"""The audit's share of a plan: a block of the search through all pairs, lowered for devices that need not be there."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from launch.planning.programs import Program, held_bytes, hosts
from memjax.audit.describe import Descriptor
from memjax.audit.pairs import symmetry as symmetries
from memjax.audit.pairs.blocks import cut
from memjax.audit.pairs.machine import quick_products
from memjax.audit.pairs.screen import How, Raw, describe_gallery, describe_queries, screen
from memjax.mesh import QUERY, placed, replicated
from memjax.orientation import Symmetry, orientations

_NEIGHBOURS, _BINS = 10, 400  # an image, and of the histogram: those of `memjax.audit.audit`


def audit_program(
    shape: tuple[int, ...],
    devices: Sequence[Any],
    *,
    memory_bytes: int,
    queries: int,
    gallery: int,
    dtype: str,
    symmetry: Symmetry,
) -> Program:
    """Return the block of the all-pairs search: gallery images described, scored against a chunk of queries, screened.

    By the plan `product`, which is the dearest, so that the audit takes at most this.

    Args:
      shape: of an image.
      devices: of one process.
      memory_bytes: that they have, all together.
      queries: how many images are asked about.
      gallery: how many are searched.
      dtype: of images as they are stored.
      symmetry: which orientations are tried.
    """
    mesh = Mesh(np.array(devices), (QUERY,), axis_types=(AxisType.Auto,))
    quick = quick_products(mesh)
    about = Descriptor()
    how = How(
        kind="product",
        block=0,
        score=about.score,
        group=orientations(shape[:-1], symmetry),
        channels=about.channels,
        k=_NEIGHBOURS,
        bins=_BINS,
        limits=about.limits,
        quick=quick,
        dtype=dtype,
        shape=shape,
        leave_out="nothing",
        mesh=mesh,
    )
    blocks = cut(how, queries, gallery, memory_bytes)
    transform = symmetries.Symmetry.of(how.group[:1], shape)
    split = NamedSharding(mesh, PartitionSpec(QUERY))

    def raw(rows: int) -> Raw:
        def of(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(shape, dtype, sharding=split)

        return Raw(of((rows, *shape), np.dtype(dtype)), of((rows, 2), np.float32), of((rows,), np.int32))  # type: ignore[arg-type]

    described = jax.eval_shape(lambda block: describe_queries(how, transform, block, None), raw(blocks.chunk))
    turned = NamedSharding(mesh, PartitionSpec(None, QUERY))  # parts have an axis of orientations before
    chunk = placed(described, jax.tree.map(lambda _: split, described)._replace(parts=(turned,) * len(described.parts)))
    floors = jax.ShapeDtypeStruct((blocks.chunk,), np.float32, sharding=split)
    of_gallery = jax.ShapeDtypeStruct((blocks.width,), np.float32, sharding=replicated(mesh))

    def block(queries: Any, images: Raw, query_floor: Any, gallery_floor: Any) -> Any:
        return screen(how, queries, describe_gallery(how, transform, images, None), query_floor, gallery_floor)

    images = raw(blocks.width)
    return Program(
        name="audit",
        lowered=jax.jit(block).lower(chunk, images, floors, of_gallery),
        held={"queries": held_bytes((chunk, floors)), "gallery block": held_bytes((images, of_gallery))},
        images=blocks.chunk * blocks.width,
        unit="pairs",
        hosts=hosts(mesh),
    )
