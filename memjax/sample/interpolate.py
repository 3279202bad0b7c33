"""A film of a StyleGAN: the images on a smooth closed path through the styles of a few seed ids."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.interpolate import CubicSpline

from memjax.artifacts.weights import into
from memjax.data.labels import labels_of
from memjax.errors import UserError
from memjax.keys import key_for
from memjax.nn.once import compiler_options
from memjax.sample.models import make_sampler, stylegan, stylegan_weights

_AT_ONCE = 16  # frames


def interpolate(
    config: Mapping[str, Any],
    leaves: Mapping[str, np.ndarray],
    *,
    shape: tuple[int, ...],
    label_share: Sequence[float],
    seed_ids: Sequence[int],
    frames: int,
    changes: Mapping[str, Any],
) -> Float[np.ndarray, "n h w c"]:
    """Return `frames` images for every seed id: a cubic spline in w from each to the next, and back to the first.

    The noise stays that of the first seed id, so that what moves is the style.

    Args:
      config: of the run, a StyleGAN's.
      leaves: its weights by name.
      shape: of the images, [h, w, channels].
      label_share: how often each class occurs; none: no labels.
      seed_ids: two or more; the first frame is the image of the first one.
      frames: from one seed id to the next.
      changes: settings of the sampler that differ from the run's.

    Raises:
      UserError: the run is of another model, or there is only one seed id.
    """
    if config["task"] != "stylegan2":
        raise UserError(
            f"the run is of task {config['task']}, which has no styles to pass through; a film wants a stylegan2 run."
        )
    if len(seed_ids) < 2:
        raise UserError("a film goes from image to image, and there is one seed id; give two or more.")
    truncation = make_sampler(config, changes)
    model = stylegan(config, shape, len(label_share) or None)
    template = jax.eval_shape(lambda key: stylegan_weights(model, key), key_for(0, "init"))
    weights = jax.tree.map(jnp.asarray, into(template, leaves))
    label = labels_of(seed_ids, label_share)
    z, noise_keys = model.latents(jnp.asarray(list(seed_ids), jnp.int32))
    w = np.asarray(model.map(weights["generator"], z, None if label is None else jnp.asarray(label)))
    closed = np.concatenate([w, w[:1]])
    path = CubicSpline(np.arange(len(closed)), closed, bc_type="periodic")
    along = path(np.arange(len(w) * frames) / frames).astype(np.float32)

    def drawn(w: Float[Array, "b w"]) -> Float[Array, "b height width c"]:
        ws = truncation.styles(w, weights["w_avg"], model.styles)
        noise = tuple(jnp.broadcast_to(one, (len(w), *one.shape[1:])) for one in model.noise_of(noise_keys[:1]))
        return jnp.clip(model.synthesize(weights["generator"], ws, noise if truncation.noise else None), -1, 1)

    compiled = jax.jit(drawn, compiler_options=compiler_options(jax.default_backend()))
    parts = [along[start : start + _AT_ONCE] for start in range(0, len(along), _AT_ONCE)]
    full = [np.resize(part, (_AT_ONCE, w.shape[1])) for part in parts]  # the last one filled up: one compilation
    return np.concatenate([np.asarray(compiled(part)) for part in full])[: len(along)]
