"""Listed pairs against float64, on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from memjax.audit.describe import facts
from memjax.audit.pairs.exact import score_pairs, turned_queries
from memjax.mesh import QUERY, audit_mesh
from memjax.orientation import orientations


@pytest.mark.parametrize(("score", "of_bytes"), [("correlation", False), ("correlation", True), ("msd", False)])
@pytest.mark.parametrize("devices", [1, 2, 4])
@pytest.mark.parametrize("n_pairs", [1, 7, 300])
def test_scores_of_any_list(n_pairs, devices, score, of_bytes):
    rng = np.random.default_rng(n_pairs)
    group, mesh = orientations((5, 5), "all"), audit_mesh(devices)
    x, y = (rng.integers(0, 256, (n, 5, 5, 2), dtype=np.uint8) for n in (12, 9))
    use = None if n_pairs == 7 else rng.integers(0, 2, (5, 5, 2)).astype(bool)
    if use is not None:
        use = np.any([g.apply(use) for g in group], axis=0)
        use = np.repeat(use.any(-1, keepdims=True), 2, axis=-1)
    ranges = jnp.tile(jnp.array([0.0, 255.0]), (12, 1))
    mask = None if use is None else jnp.asarray(use[..., 0])
    of_x, of_y = (facts(jnp.asarray(v), ranges[: len(v)], mask, score=score) for v in (x, y))
    sharded = NamedSharding(mesh, P(QUERY))
    of_x = jax.tree.map(lambda fact: jax.device_put(fact, sharded), of_x)
    table = turned_queries(mesh, group, jax.device_put(x, sharded), of_bytes)
    pairs = tuple(rng.integers(0, n, n_pairs) for n in (12, 9, 8))
    flat = None if use is None else jnp.asarray(use.ravel())
    found = score_pairs(mesh, score, table, of_x, jnp.asarray(y), of_y, flat, pairs, of_bytes)
    for value, i, j, g in zip(found, *pairs, strict=True):
        a, b = x[i].astype(float), group[g].apply(y[j]).astype(float)
        a, b = (v.ravel() if use is None else v[use] for v in (a, b))
        expected = np.corrcoef(a, b)[0, 1] if score == "correlation" else -np.mean((a / 127.5 - b / 127.5) ** 2)
        assert value == pytest.approx(expected, abs=2e-6)
