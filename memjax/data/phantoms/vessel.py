"""CT of a coronary artery around a plaque: a cube of 25.6 mm cut out of a contrast-enhanced heart.

Coordinates in mm from the plaque; values in Hounsfield units until the last step.
"""

import dataclasses

import numpy as np
from scipy import ndimage

from memjax.data.phantoms.anatomy import Anatomy, Size
from memjax.data.phantoms.geometry import Grid, dot, grid, paint, polyline, soft
from memjax.data.phantoms.noise import smooth_noise
from memjax.data.phantoms.scanner import eight_bits, reposition

_FIELD_MM = (25.6, 25.6, 25.6)
_WINDOW_HU = (-250.0, 950.0)  # shown as 0 and 255

_LUNG, _FAT, _PERICARDIUM, _MYOCARDIUM, _WALL = -850.0, -90.0, 15.0, 110.0, 60.0


@dataclasses.dataclass(frozen=True)
class _Person:
    """What a patient brings to every scan: lengths in mm, values in Hounsfield units."""

    frame: np.ndarray  # [3, 3]: rows are the vessel's direction and two across
    sway: np.ndarray  # [2, 3]: amplitude, wave number, phase of the centre line across its direction
    radius: float
    taper: float  # per mm
    wall: float
    stenosis: float  # share of the radius that the plaque takes
    remodelling: float  # how far the wall bulges outwards
    length: float  # of the plaque
    sector: float  # angle at which the plaque lies
    calcium: float  # 0 soft, 1 calcified
    soft_plaque: float
    calcification: float
    blood: float
    surface: float  # angle of the heart's surface about the vessel
    to_muscle: float
    to_lung: float
    to_chamber: float
    branch: np.ndarray  # where a side branch leaves and how it runs
    branch_radius: float


def scan(person_rng: np.random.Generator, visit_rng: np.random.Generator, size: Size) -> np.ndarray:
    """Draw one sub-volume: uint8 [R, A, S, 1]."""
    person = _person(person_rng)
    person = dataclasses.replace(person, blood=person.blood * visit_rng.uniform(0.9, 1.1))
    spacing = ANATOMY.spacing_mm(size)
    voxel = max(spacing)
    points = grid(size, _FIELD_MM)
    along, *across = (dot(points, row) for row in person.frame)
    image = np.zeros((1, *size), np.float32)
    _draw_heart(image, person, person_rng, along, across, voxel)
    _draw_artery(image, person, person_rng, points, along, across, voxel)
    density = reposition(image[0], spacing, visit_rng.normal(0, 3.0, 3), visit_rng.normal(0, 0.4, 3))
    return _tomography(density, visit_rng, spacing)[..., None]


def _person(rng: np.random.Generator) -> _Person:
    frame = np.linalg.qr(rng.standard_normal((3, 3)))[0].T
    to_muscle = rng.uniform(2.5, 7.0)
    return _Person(
        frame=frame,
        sway=np.stack([rng.uniform(0.8, 2.6, 2), rng.uniform(0.16, 0.34, 2), rng.uniform(0, 2 * np.pi, 2)], axis=1),
        radius=rng.uniform(1.2, 2.1),
        taper=rng.uniform(-0.02, 0.02),
        wall=rng.uniform(0.5, 0.8),
        stenosis=rng.uniform(0.2, 0.65),
        remodelling=rng.uniform(0.0, 0.9),
        length=rng.uniform(2.0, 5.5),
        sector=rng.uniform(-np.pi, np.pi),
        calcium=float(rng.choice([0.0, 0.5, 1.0], p=[0.25, 0.35, 0.4])),
        soft_plaque=rng.uniform(10, 70),
        calcification=rng.uniform(750, 1400),
        blood=rng.uniform(330, 480),
        surface=rng.uniform(-np.pi, np.pi),
        to_muscle=to_muscle,
        to_lung=rng.uniform(4.0, 14.0),
        to_chamber=to_muscle + rng.uniform(4.0, 14.0),
        branch=np.concatenate([rng.uniform(-7, 7, 1), rng.uniform(-1, 1, 3)]),
        branch_radius=rng.uniform(0.45, 0.75),
    )


def _draw_heart(
    image: np.ndarray,
    person: _Person,
    rng: np.random.Generator,
    along: np.ndarray,
    across: list[np.ndarray],
    voxel: float,
) -> None:
    """Paint what the artery lies in: fat on heart muscle, a chamber of blood below, pericardium and lung above."""
    size = along.shape
    depth = np.float32(np.cos(person.surface)) * across[0] + np.float32(np.sin(person.surface)) * across[1]
    depth = depth - along**2 * np.float32(0.012)  # the heart is round
    strands = smooth_noise(rng, size, 7)
    paint(image, np.ones_like(depth), [_FAT])
    image += 14 * strands
    outer = -depth - person.to_lung + 0.6 * smooth_noise(rng, size, 3)
    paint(image, soft(-outer - 0.5, voxel), [_PERICARDIUM])
    paint(image, soft(-outer, voxel), [_LUNG])
    lung_vessels = np.exp(-((smooth_noise(rng, size, 10) / 0.22) ** 2))
    paint(image, 0.35 * lung_vessels * soft(-outer, voxel), [_PERICARDIUM])
    muscle = person.to_muscle - depth + 0.8 * smooth_noise(rng, size, 3)
    paint(image, soft(muscle, 2 * voxel), [_MYOCARDIUM])
    chamber = person.to_chamber - depth + 1.2 * smooth_noise(rng, size, 4)
    paint(image, soft(chamber, 2 * voxel), [0.85 * person.blood])


def _draw_artery(
    image: np.ndarray,
    person: _Person,
    rng: np.random.Generator,
    points: Grid,
    along: np.ndarray,
    across: list[np.ndarray],
    voxel: float,
) -> None:
    """Paint wall, lumen, side branch and the plaque in the wall."""
    first, second, tilt = _from_centre_line(person, along, across)
    at_plaque = np.exp(-((along / np.float32(person.length)) ** 2))
    natural = person.radius * (1 + person.taper * along)
    outer = natural + person.wall + person.remodelling * at_plaque
    lumen = natural * (1 - person.stenosis * at_plaque)
    shift = (natural - lumen) * np.float32(0.7)  # the lumen gives way to the plaque
    towards = np.cos(person.sector), np.sin(person.sector)
    from_lumen = np.hypot(first + shift * np.float32(towards[0]), second + shift * np.float32(towards[1])) * tilt
    from_axis = np.hypot(first, second) * tilt
    branch = _branch(person, points)
    paint(image, soft(branch - person.wall, voxel), [_WALL])
    paint(image, soft(from_axis - outer, voxel), [_WALL])
    facing = (first * np.float32(towards[0]) + second * np.float32(towards[1])) / np.maximum(from_axis, 0.3)
    in_wall = soft(from_axis - outer, voxel) * (1 - soft(from_lumen - lumen, voxel))
    plaque = in_wall * at_plaque * soft(0.1 - facing, 0.5)
    paint(image, plaque, [person.soft_plaque])
    paint(image, soft(branch, voxel), [0.95 * person.blood])
    paint(image, soft(from_lumen - lumen, voxel), [person.blood])
    crumbs = soft(1.1 - 2.2 * person.calcium - smooth_noise(rng, along.shape, 14), 0.5)
    paint(image, np.clip(1.5 * plaque, 0, 1) * crumbs * min(1.0, 2 * person.calcium), [person.calcification])


def _from_centre_line(
    person: _Person, along: np.ndarray, across: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two offsets from the swaying centre line, and the cosine of its slope (which shortens distances)."""
    offsets, slope = [], np.zeros_like(along)
    for place, (amplitude, wave, phase) in zip(across, person.sway.astype(np.float32), strict=True):
        offsets.append(place - amplitude * (np.sin(wave * along + phase) - np.sin(phase)))
        slope += (amplitude * wave * np.cos(wave * along + phase)) ** 2
    return offsets[0], offsets[1], 1 / np.sqrt(1 + slope)


def _branch(person: _Person, points: Grid) -> np.ndarray:
    """Return the distance to a side branch that leaves the artery and runs out of the cube."""
    start, *direction = person.branch
    sway = person.sway
    across = sway[:, 0] * (np.sin(sway[:, 1] * start + sway[:, 2]) - np.sin(sway[:, 2]))
    root = person.frame.T @ np.array([start, *across])
    away = person.frame.T @ np.array([np.sign(start) * 0.8, *(np.asarray(direction[1:]) + 0.2)])
    away /= np.linalg.norm(away)
    bent = away + 0.5 * person.frame[0] * direction[0]
    return polyline(points, [root, root + 7 * away, root + 7 * away + 22 * bent], person.branch_radius * person.radius)


def _tomography(density: np.ndarray, rng: np.random.Generator, spacing: tuple[float, ...]) -> np.ndarray:
    """Blur and grain the density as a reconstruction does, and show it in the window."""
    image = ndimage.gaussian_filter(density, [0.4 / step for step in spacing])
    grain = ndimage.gaussian_filter(rng.standard_normal(density.shape, dtype=np.float32), 0.7)
    image += grain * np.float32(rng.uniform(20, 32) / grain.std())
    low, high = _WINDOW_HU
    return eight_bits((image - np.float32(low)) / np.float32(high - low))


ANATOMY = Anatomy(
    axes=("R", "A", "S"),
    channels=("ct",),
    size=(64, 64, 64),
    field_mm=_FIELD_MM,
    scan=scan,
)
