"""What a scanner adds to an anatomy: the position of the patient, coil shading, resolution, noise, eight bits."""

import numpy as np
from scipy import ndimage

from memjax.data.phantoms.geometry import Real, Vector
from memjax.data.phantoms.noise import smooth_noise


def rotation(degrees: Vector) -> np.ndarray:
    """Return the matrix [3, 3] of three turns, one about each axis, the first axis first."""
    matrix = np.eye(3)
    for angle, (first, second) in zip(np.deg2rad(degrees), ((1, 2), (0, 2), (0, 1)), strict=True):
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def reposition(image: np.ndarray, spacing_mm: Vector, degrees: Vector, shift_mm: Vector, order: int = 1) -> np.ndarray:
    """Turn one channel of a volume [*space] about the centre of the field, then shift it; its edges are repeated."""
    spacing = np.asarray(spacing_mm)
    matrix = np.diag(1 / spacing) @ rotation(degrees).T @ np.diag(spacing)
    centre = (np.asarray(image.shape) - 1) / 2
    offset = centre - matrix @ (centre + np.asarray(shift_mm) / spacing)
    # scipy's stub knows scalar offsets only
    return ndimage.affine_transform(image, matrix, offset, order=order, mode="nearest")  # type: ignore[arg-type]


def magnetic_resonance(
    signal: np.ndarray, body: np.ndarray, rng: np.random.Generator, *, shading: Real, noise: Real
) -> np.ndarray:
    """Turn signals [channels, *space] in [0, 1] into magnitude images: uint8, exactly 0 outside the body [*space].

    Coil shading is one smooth gain for all channels, of standard deviation `shading`; the noise is Rician, of standard
    deviation `noise` of the full range. Air is set to zero, as scanners and the public sets do.
    """
    gain = np.exp(np.float32(shading) * smooth_noise(rng, body.shape, 2))
    image = np.empty(signal.shape, np.uint8)
    for channel, out in zip(signal, image, strict=True):
        real = channel * gain + np.float32(noise) * rng.standard_normal(body.shape, dtype=np.float32)
        imaginary = np.float32(noise) * rng.standard_normal(body.shape, dtype=np.float32)
        out[...] = eight_bits(np.hypot(real, imaginary) * body)
    return image


def eight_bits(image: np.ndarray) -> np.ndarray:
    """Return values in [0, 1] as uint8 0 to 255, rounded and clipped."""
    return np.clip(np.rint(image * np.float32(255)), 0, 255).astype(np.uint8)
