"""How processors resample, alone or together with a convolution: by adding shifted copies.

A filter along one axis is a weighted sum of copies of x, each shifted by one more position. XLA for processors takes a
hundred times as long to convolve each channel alone. A convolution with a stride of two is four small ones, each of
every second row and column, which the filter before it (or after its transpose) reads and writes apart from the start.
Measured in BUILD_NOTES.

In `down`, `up` and `kernel_gradient` the filter `line` puts `before` zeros before x and one more position than x has
into its result.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from memjax.nn import conv

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def resample(
    x: Float[Array, "b h w c"], line: Sequence[float], up: int, down: int, padding: Sequence[tuple[int, int]]
) -> Float[Array, "b h2 w2 c"]:
    """Return x with zeros in between and around, filtered, and every down-th position of that."""
    rows = [lax.optimization_barrier(row) for row in _along(x, 1, line, up, down, padding[0])]
    y = _interleaved([_interleaved(_along(row, 2, line, up, down, padding[1]), 2) for row in rows], 1)
    if up > 1:
        ends = [n * up + sum(p) - len(line) + 1 for n, p in zip(x.shape[1:3], padding, strict=True)]
        y = y[:, : ends[0] : down, : ends[1] : down]
    return lax.optimization_barrier(y)


def down(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"], line: Sequence[float], before: int
) -> Float[Array, "b h2 w2 d"]:
    """Return x filtered, then convolved with a stride of two."""
    phases = _filtered_phases(x, line, before)
    return sum(
        (_valid(phases[i][j], kernel[i::2, j::2]) for i in range(2) for j in range(2)), start=jnp.zeros((), x.dtype)
    )


def up(
    y: Float[Array, "b h w d"], kernel: Float[Array, "3 3 c d"], line: Sequence[float], before: int
) -> Float[Array, "b h2 w2 c"]:
    """Return the transpose of `down` in x."""
    back = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    ends = (1, 1), (0, 0)  # of the two even taps, and of the odd one
    phases = [
        [
            lax.conv_general_dilated(y, back[i::2, j::2], (1, 1), [ends[i], ends[j]], dimension_numbers=_LAYOUT)
            for j in range(2)
        ]
        for i in range(2)
    ]
    rows = [lax.optimization_barrier(_joined(phases[0][j], phases[1][j], 1, line, before)) for j in range(2)]
    pieces = [_interleaved(_joined(rows[0][a], rows[1][a], 2, line, before), 2) for a in range(2)]
    return _interleaved(pieces, 1)


def kernel_gradient(
    x: Float[Array, "b h w c"], y: Float[Array, "b h2 w2 d"], line: Sequence[float], before: int
) -> Float[Array, "3 3 c d"]:
    """Return the transpose of `down` in the kernel."""
    phases = _filtered_phases(x, line, before)
    gradient = jnp.zeros((3, 3, x.shape[-1], y.shape[-1]), x.dtype)
    for i in range(2):
        for j in range(2):
            taps = conv.kernel_gradient(phases[i][j], y, pad=0)
            gradient += lax.pad(taps, jnp.zeros((), x.dtype), [(i, i, 1), (j, j, 1), (0, 0, 0), (0, 0, 0)])
    return gradient


def _valid(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=_LAYOUT)


def _filtered_phases(x: Array, line: Sequence[float], before: int) -> list[list[Array]]:
    """Return x filtered, in four: of even and odd rows, of even and odd columns."""
    x = _padded(_padded(x, 1, before, len(line) - before), 2, before, len(line) - before)

    def split(x: Array, axis: int) -> list[Array]:
        n = x.shape[axis] - len(line)  # of x before it was padded
        terms = [[(tap, x, phase + i) for i, tap in enumerate(line)] for phase in range(2)]
        return [lax.optimization_barrier(_sum(terms[p], axis, n + 1 - 2 * p, 2)) for p in range(2)]

    columns = [split(part, 1) for part in split(x, 2)]
    return [list(rows) for rows in zip(*columns, strict=True)]


def _along(x: Array, axis: int, line: Sequence[float], up: int, down: int, padding: tuple[int, int]) -> list[Array]:
    """Return every up-th position of x resampled along one axis: from the first, from the second, and so on.

    Each sees only every up-th tap. With `up` above one it is not yet gone down, and the last ones may be one too many.
    """
    (before, after), n = padding, x.shape[axis]
    count = -(-(n * up + before + after - len(line) + 1) // up)
    first, last = -(before // up), (up + len(line) - 2 - before) // up  # how far the copies are shifted
    x = _padded(x, axis, -first, count + last - n)
    phases = []
    for phase in range(up):
        shifts = [(tap, (phase + i - before) // up) for i, tap in enumerate(line) if (phase + i - before) % up == 0]
        phases.append(_sum([(tap, x, at - first) for tap, at in shifts], axis, count, down if up == 1 else 1))
    return phases


def _joined(even: Array, odd: Array, axis: int, line: Sequence[float], before: int) -> list[Array]:
    """Return the even and odd positions of the transposed filter's result, from those of what it filters."""
    n, before = odd.shape[axis], len(line) - 1 - before
    sources = [[divmod(phase + i - before, 2) for i in range(len(line))] for phase in range(2)]  # shift and phase
    wide, firsts = [], []
    for p, part in enumerate((even, odd)):
        used = [shift for shift, phase in sources[0] + sources[1] if phase == p]
        firsts.append(min(used))
        wide.append(_padded(part, axis, -min(used), max(used) + n - part.shape[axis]))
    terms = [[(tap, wide[p], at - firsts[p]) for tap, (at, p) in zip(line[::-1], of, strict=True)] for of in sources]
    return [_sum(of, axis, n, 1) for of in terms]


def _padded(x: Array, axis: int, before: int, after: int) -> Array:
    return lax.pad(x, jnp.zeros((), x.dtype), [(before, after, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)])


def _sum(terms: Sequence[tuple[float, Array, int]], axis: int, count: int, step: int) -> Array:
    """Return the sum of `count` positions, step by step, of each array from where its term says, times its weight."""
    first, *others = (tap * lax.slice_in_dim(x, at, at + count, step, axis) for tap, x, at in terms)
    return sum(others, start=first)


def _interleaved(phases: Sequence[Array], axis: int) -> Array:
    shape = list(phases[0].shape)
    shape[axis] *= len(phases)
    return jnp.stack(phases, axis + 1).reshape(shape)
