"""The forms for processors of convolutions that change resolution are the plain ones, and so are their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit

from memjax.nn import fir


def normal(seed, *shape):
    return jnp.float32(np.random.default_rng(seed).normal(size=shape))


# The last with more taps than the image has positions.
@pytest.mark.parametrize(("n_taps", "before"), [(2, 1), (3, 1), (3, 2), (4, 2), (5, 3), (6, 2), (12, 6)])
def test_every_form_and_its_gradients_are_the_plain_ones(n_taps, before):
    line = tuple(np.random.default_rng(n_taps).uniform(-1, 1, n_taps))
    x, y, kernel = normal(0, 2, 6, 8, 3), normal(1, 2, 3, 4, 5), normal(2, 3, 3, 3, 5)

    @jit
    def both():
        pairs = (fir._down, fir._plain_down, x, kernel), (fir._up, fir._plain_up, y, kernel)
        results = []
        for fn, plain, a, b in (*pairs, (fir._kernel_gradient, fir._plain_kernel_gradient, x, y)):
            for form in (fn, plain):
                result, back = jax.vjp(lambda a, b, form=form: form(a, b, line, before), a, b)
                results.append((result, *back(jnp.cos(result))))
        return results

    results = both()
    for ours, expected in zip(results[::2], results[1::2], strict=True):
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())
