"""Every named size builds, and has as many parameters as its papers' code, or as counted by hand."""

import jax

from configs.unet_sizes import PRESETS
from memjax.models.denoiser import denoiser
from memjax.trees import count


def parameters_of(channels, space, loss="l2", **model):
    made = denoiser((*space, channels), model=model, diffusion={"loss": loss})
    return count(jax.eval_shape(made.init, jax.random.key(0)))


# Of one channel.
COUNTS = {
    "1m": ((64, 64), 943_341),
    "4m": ((64, 64), 3_753_881),
    "16m": ((64, 64), 14_976_561),
    "64m": ((64, 64), 59_828_321),
    "250m": ((64, 64), 239_157_441),
    "ddpm": ((32, 32), 35_741_697),
    "improved": ((64, 64), 92_021_121),
    "improved-lsun256": ((256, 256), 113_668_609),
    "guided-256": ((256, 256), 552_797_953),
    "lucidrains": ((64, 64), 43_859_201),
    "monai": ((16, 16), 44_404_609),  # counted in MONAI 1.6.1: DiffusionModelUNet of these sizes
    "monai-3d": ((32, 32, 24), 2_970_593),
    "khader-16": ((16, 16, 16), 3_014_337),
    "khader-32": ((4, 32, 32), 9_970_305),
    "khader-64": ((8, 64, 64), 35_707_905),
}


def test_every_preset_builds_and_its_size_is_known():
    assert {name: parameters_of(1, COUNTS[name][0], **model) for name, model in PRESETS.items()} == {
        name: number for name, (_, number) in COUNTS.items()
    }


def test_sizes_that_others_count():
    # DDPM's network for CIFAR-10, and MONAI's DiffusionModelUNet of these sizes: both counted in MONAI 1.6.1.
    assert parameters_of(3, (32, 32), **PRESETS["ddpm"]) == 35_746_307
    assert parameters_of(3, (32, 32, 24), **PRESETS["monai-3d"]) == 2_974_051
    # That of Khader et al. on eight channels, as tests/test_slice_unet.py counts it.
    assert parameters_of(8, (4, 32, 32), **PRESETS["khader-32"]) == 9_981_512
    # By hand, for what MONAI has not: scale and shift, and resampling inside residual blocks.
    assert parameters_of(3, (256, 256), loss="hybrid", **PRESETS["guided-256"]) == by_hand(
        3, 6, 256, (1, 1, 2, 2, 4, 4), 2, attending=(3, 4, 5)
    )


def by_hand(channels, out, width, mults, blocks, attending):
    """Return the parameters of guided diffusion's network, term by term from the papers."""

    def conv(c, d, taps=9):
        return taps * c * d + d

    def block(c, d):
        return 2 * c + conv(c, d) + (4 * width + 1) * 2 * d + 2 * d + conv(d, d) + (conv(c, d, 1) if c != d else 0)

    def attention(c):
        return 2 * c + conv(c, 3 * c, 1) + conv(c, c, 1)

    total = (width + 1) * 4 * width + (4 * width + 1) * 4 * width + conv(channels, width)
    c, skips = width, [width]
    for level, mult in enumerate(mults):
        for _ in range(blocks):
            total += block(c, mult * width) + (attention(mult * width) if level in attending else 0)
            c = mult * width
            skips.append(c)
        if level < len(mults) - 1:
            total += block(c, c)
            skips.append(c)
    total += 2 * block(c, c) + attention(c)
    for level in range(len(mults) - 1, -1, -1):
        for _ in range(blocks + 1):
            total += block(c + skips.pop(), mults[level] * width)
            c = mults[level] * width
            total += attention(c) if level in attending else 0
        total += block(c, c) if level else 0
    return total + 2 * c + conv(c, out)
