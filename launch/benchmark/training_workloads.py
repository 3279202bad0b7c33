"""What the training benchmark works on: diffusion U-Nets by name, and what ours does, a step or drawing."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Workload:
    """A U-Net of MONAI's DiffusionModelUNet family, float32; `peers` are names of `training_peers`."""

    name: str
    space: tuple[int, ...]  # lengths of the images' axes, all the same
    batch: int
    width: int  # channels of the first level
    mults: tuple[int, ...]  # channels of each level, in widths
    attention: tuple[bool, ...]  # by level
    head_channels: int
    parameters: int  # ours and MONAI's
    channels: int = 1  # of the images
    lucidrains: int | None = None  # width at which denoising-diffusion-pytorch's network has about as many parameters
    blocks: int = 2  # at each level
    steps: int = 1  # of training, timed at once

    @property
    def peers(self) -> tuple[str, ...]:
        """Who does the same."""
        networks = ("monai",) if self.lucidrains is None else ("monai", "lucidrains")
        return tuple(f"{network}{layout}" for network in networks for layout in ("", " channels last"))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image, channels last."""
        return (*self.space, self.channels)

    @property
    def title(self) -> str:
        """What the table says."""
        size = "x".join(map(str, self.space)) + (f" of {self.channels} channels" if self.channels > 1 else "")
        return f"{size}, batch {self.batch}, {self.parameters / 1e6:.2f} M parameters"

    @property
    def model(self) -> dict[str, Any]:
        """Keyword arguments of `memjax.models.unet.UNet`."""
        sides = [max(self.space) >> level for level in range(len(self.mults))]
        return {
            "channels": self.channels,
            "width": self.width,
            "mults": self.mults,
            "blocks": self.blocks,
            "attention": tuple(side for side, is_attending in zip(sides, self.attention, strict=True) if is_attending),
            "head_channels": self.head_channels,
            "scale_shift": False,
        }


_LAST = (False, False, True)
WORKLOADS = (
    Workload("small28", (28, 28), 64, 32, (1, 2, 2), _LAST, 64, 1_623_169, lucidrains=34),
    Workload("unet28", (28, 28), 64, 64, (1, 2, 2), _LAST, 64, 6_469_889, lucidrains=72),
    Workload("unet64", (64, 64), 16, 64, (1, 2, 2), _LAST, 64, 6_469_889, lucidrains=72),
    Workload("latent8", (8, 8, 8), 8, 64, (1, 2, 2), _LAST, 64, 17_039_496, channels=8),
    Workload("latent16", (16, 16, 16), 4, 64, (1, 2, 2), _LAST, 64, 17_039_496, channels=8),
)


def ours(work: Workload) -> tuple[Callable[[], float], int]:
    """Return one training step of ours (forward, backward, Adam; donated), already compiled, and its parameters."""
    import jax
    import jax.numpy as jnp
    import optax

    from memjax.models.unet import UNet
    from memjax.nn.once import compiler_options
    from memjax.trees import count

    net, optimizer = UNet(**work.model), optax.adam(1e-4)
    xt, eps = jax.random.normal(jax.random.key(0), (2, work.batch, *work.shape))
    t = jax.random.randint(jax.random.key(1), (work.batch,), 0, 1000)

    def step(state: Any, xt: jax.Array, t: jax.Array, eps: jax.Array) -> Any:
        params, slots = state
        loss, gradient = jax.value_and_grad(lambda p: jnp.mean(jnp.square(net.apply(p, xt, t) - eps)))(params)
        updates, slots = optimizer.update(gradient, slots, params)
        return (optax.apply_updates(params, updates), slots), loss

    params = jax.jit(net.init)(jax.random.key(0), xt[:1], t[:1])
    states = [(params, optimizer.init(params))]
    options = compiler_options(jax.default_backend())
    compiled = jax.jit(step, donate_argnums=0, compiler_options=options).lower(states[0], xt, t, eps).compile()

    def run() -> float:
        state, loss = compiled(states.pop(), xt, t, eps)
        states.append(state)
        return float(loss)

    return run, count(params)


def ours_sampling(work: Workload, images: int, steps: int) -> tuple[Callable[[], float], int]:
    """Return drawing so many images at once with DDIM in so many steps, already compiled, and the parameters."""
    import jax
    import jax.numpy as jnp

    from memjax.models.denoiser import denoiser
    from memjax.nn.once import compiler_options
    from memjax.objectives.steppers import Sampler
    from memjax.trees import count

    settings = {name: value for name, value in work.model.items() if name != "channels"}
    model = denoiser(work.shape, model=settings, diffusion={})
    sampler = Sampler(method="ddim", steps=steps)
    params = jax.jit(model.init)(jax.random.key(0))
    ids = jnp.arange(images)
    options = compiler_options(jax.default_backend())
    drawn = jax.jit(lambda params, ids: model.draw(params, ids, sampler), compiler_options=options)
    compiled = drawn.lower(params, ids).compile()
    return lambda: float(jnp.mean(compiled(params, ids))), count(params)
