"""Heads with a brain tumour, as four MR contrasts and the tumour's annotation (the papers' five channels).

Coordinates in mm, about the middle of the brain: R towards the patient's right, A forwards, S upwards.
"""

import dataclasses

import numpy as np

from memjax.data.phantoms.anatomy import Anatomy, Size
from memjax.data.phantoms.geometry import Grid, ellipsoid, grid, norm, offsets, paint, polyline, soft, tube, union
from memjax.data.phantoms.noise import smooth_noise, smooth_noise_at
from memjax.data.phantoms.scanner import magnetic_resonance, reposition

NECROSIS, OEDEMA, ENHANCING = 51, 102, 204  # BraTS labels 1, 2, 4, times 255 / 5

_FIELD_MM = (240.0, 240.0, 160.0)
_CENTRE_MM = (0.0, 0.0, 8.0)
_SIDES = (-1, 1)
_T1 = 1  # channel
_BRIGHT, _ENOUGH = 50, 0.15  # the papers keep a slice if more than 15 % of it exceeds 50 on T1

# Signal of each tissue in t1ce, t1, flair, t2, as shares of the full range.
_SIGNAL = {
    "fat": (0.62, 0.66, 0.46, 0.44),
    "muscle": (0.20, 0.17, 0.20, 0.14),
    "bone": (0.05, 0.05, 0.04, 0.04),
    "marrow": (0.30, 0.30, 0.20, 0.18),
    "csf": (0.10, 0.10, 0.06, 0.86),
    "grey": (0.38, 0.38, 0.44, 0.46),
    "white": (0.56, 0.58, 0.34, 0.30),
    "nuclei": (0.45, 0.45, 0.40, 0.38),
    "sinus": (0.88, 0.18, 0.10, 0.08),
    "oedema": (0.34, 0.35, 0.82, 0.72),
    "necrosis": (0.17, 0.18, 0.34, 0.80),
    "enhancing": (0.94, 0.36, 0.64, 0.56),
}
_CEREBRUM = (0, -2, 10)  # centre
_CEREBELLUM = (0, -50, -39), (47, 31, 25)  # centre, radii
_AIR = (0.0, 0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class _Person:
    """What a patient brings to every scan; lengths in mm."""

    cerebrum: tuple[float, float, float]  # radii
    ventricles: float  # width, 1 = usual
    sulcus: float  # half the width of a sulcus at the surface
    sulcus_depth: float
    cortex: float
    skull: float
    scalp: float
    signal: dict[str, np.ndarray]  # as `_SIGNAL`


@dataclasses.dataclass(frozen=True)
class _Tumour:
    """The tumour; lengths in mm."""

    place: tuple[float, float, float]
    core: float
    rim: float  # 0: a low-grade tumour, which does not enhance
    oedema: float
    push: float  # how far it displaces the tissue around it


def scan(person_rng: np.random.Generator, visit_rng: np.random.Generator, size: Size) -> np.ndarray:
    """Draw one head: uint8 [R, A, S, 5], the channels of `ANATOMY`."""
    person, tumour = _person(person_rng), _tumour(person_rng)
    tumour = dataclasses.replace(tumour, core=tumour.core * visit_rng.uniform(0.95, 1.08))
    spacing = ANATOMY.spacing_mm(size)
    voxel = max(spacing)
    points = grid(size, _FIELD_MM, _CENTRE_MM)
    points = [p + 2.0 * smooth_noise(person_rng, size, 4) for p in points]
    signal = np.zeros((4, *size), np.float32)
    cerebrum = _cerebrum(person, points)
    head = _draw_head(signal, person, points, cerebrum, voxel)
    brain, white = _draw_brain(signal, person, person_rng, _pushed(points, tumour), cerebrum, voxel)
    label = _draw_tumour(signal, person, tumour, person_rng, points, brain, white, voxel)
    signal *= 1 + 0.04 * smooth_noise(person_rng, size, 28)
    degrees, shift = visit_rng.normal(0, 1.5, 3), visit_rng.normal(0, 1.0, 3)
    signal = np.stack([reposition(channel, spacing, degrees, shift) for channel in signal])
    body = reposition(soft(head, voxel), spacing, degrees, shift) > 0.5
    image = magnetic_resonance(signal, body, visit_rng, shading=0.05, noise=visit_rng.uniform(0.008, 0.018))
    return np.stack([*image, reposition(label, spacing, degrees, shift, order=0)], axis=-1)


def slices_with_brain(volume: np.ndarray) -> np.ndarray:
    """Return the heights (indices along S) of the slices that the papers' rule keeps."""
    return np.flatnonzero((volume[..., _T1] > _BRIGHT).mean((0, 1)) > _ENOUGH)


def _person(rng: np.random.Generator) -> _Person:
    size = rng.normal(1.0, 0.035)
    return _Person(
        cerebrum=(rng.normal(65, 2.0) * size, rng.normal(83, 2.5) * size, rng.normal(57, 1.5) * size),
        ventricles=float(np.exp(rng.normal(0.05, 0.28))),
        sulcus=rng.uniform(0.7, 1.9),
        sulcus_depth=rng.uniform(14, 20),
        cortex=rng.normal(2.9, 0.2),
        skull=rng.uniform(5, 8),
        scalp=rng.uniform(4, 8),
        signal={name: np.multiply(values, rng.normal(1, 0.04, 4)) for name, values in _SIGNAL.items()},
    )


def _tumour(rng: np.random.Generator) -> _Tumour:
    side = rng.choice(_SIDES)
    core = rng.uniform(8, 19)
    return _Tumour(
        place=(side * rng.uniform(22, 40), rng.uniform(-42, 42), rng.uniform(2, 34)),
        core=core,
        rim=rng.uniform(2.5, 6.0) if rng.random() < 0.75 else 0.0,
        oedema=rng.uniform(4, 15),
        push=rng.uniform(0.2, 0.5) * core,
    )


def _pushed(points: Grid, tumour: _Tumour) -> list[np.ndarray]:
    """Return where the tissue at each point was before the tumour grew."""
    apart = offsets(points, tumour.place)
    distance = norm(apart)
    pull = np.float32(tumour.push) * np.exp(-((distance / 32) ** 2)) / (distance + 8)
    return [p - pull * q for p, q in zip(points, apart, strict=True)]


def _draw_head(signal: np.ndarray, person: _Person, points: Grid, cerebrum: np.ndarray, voxel: float) -> np.ndarray:
    """Paint all but the brain: scalp, face, eyes, air, skull and the water inside. Returns the head's distance."""
    tissue = person.signal
    hindbrain = union(ellipsoid(points, *_CEREBELLUM), tube(points, (0, -25, -20), (0, -40, -100), 13), 10)
    cavity = union(cerebrum, hindbrain, 16) - 2.5
    cranium = cavity - person.skull
    face = union(ellipsoid(points, (0, 42, -52), (58, 54, 52)), tube(points, (0, -30, -60), (0, -40, -140), 54), 30)
    head = union(cranium - person.scalp, face, 20)
    paint(signal, soft(head, voxel), tissue["fat"])
    paint(signal, soft(head + person.scalp, voxel) * soft(points[2] + 18, 12), tissue["muscle"])
    for side in _SIDES:
        paint(signal, soft(ellipsoid(points, (side * 31, 74, -26), (19, 18, 17)), voxel), tissue["fat"])
        paint(signal, soft(ellipsoid(points, (side * 31, 78, -26), (12, 12, 12)), voxel), tissue["csf"])
        paint(signal, soft(tube(points, (side * 29, 66, -26), (side * 14, 38, -24), 2.2), voxel), tissue["white"])
        paint(signal, soft(ellipsoid(points, (side * 26, 66, -58), (13, 16, 15)), voxel), _AIR)
    paint(signal, soft(ellipsoid(points, (0, 62, -48), (11, 30, 22)), voxel), _AIR)
    paint(signal, soft(cranium, voxel), tissue["bone"])
    diploe = np.abs(cavity - 0.5 * person.skull) - 0.2 * person.skull
    paint(signal, soft(diploe, voxel) * soft(-points[2] - 10, 10), tissue["marrow"])
    paint(signal, soft(cavity, voxel), tissue["csf"])
    sinus = np.hypot(points[0], np.minimum(cavity + 2, 0)) - 4
    paint(signal, soft(sinus, voxel) * soft(cavity, voxel) * soft(2 - points[2], 6), tissue["sinus"])
    return head


def _draw_brain(
    signal: np.ndarray,
    person: _Person,
    rng: np.random.Generator,
    points: Grid,
    cerebrum: np.ndarray,
    voxel: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Paint cerebrum, cerebellum and brainstem. Returns the shares of brain and of white matter in each voxel."""
    tissue = person.signal
    to_water = _distance_to_sulci(person, rng, points, -cerebrum)
    inside = soft(cerebrum, voxel)
    brain = inside * soft(person.sulcus - to_water, voxel)
    white = inside * soft(person.sulcus + person.cortex - to_water, voxel)
    paint(signal, brain, tissue["grey"])
    paint(signal, white, tissue["white"])
    for side in _SIDES:
        for centre, radii in (((12, -10, 3), (9, 14, 9)), ((15, 19, 8), (5, 11, 8)), ((26, 4, 1), (6, 17, 10))):
            nucleus = soft(ellipsoid(points, (side * centre[0], *centre[1:]), radii), 1.5 * voxel)
            paint(signal, nucleus, tissue["nuclei"])
            white = white * (1 - nucleus)
    water = soft(_ventricles(person, points), voxel)
    paint(signal, water, tissue["csf"])
    hindbrain = _draw_hindbrain(signal, person, rng, points, voxel)
    return np.maximum(brain * (1 - water), hindbrain), white * (1 - water)


def _cerebrum(person: _Person, points: Grid) -> np.ndarray:
    """Return the distance to the hull of the hemispheres with their temporal lobes."""
    hull = ellipsoid(points, _CEREBRUM, person.cerebrum)
    hull = np.maximum(hull, -17 - 0.04 * points[1] - points[2])  # lies on the skull base and the tentorium
    for side in _SIDES:
        hull = union(hull, ellipsoid(points, (side * 42, 8, -20), (25, 44, 24)), 8)
    return hull


def _distance_to_sulci(person: _Person, rng: np.random.Generator, points: Grid, depth: np.ndarray) -> np.ndarray:
    """Return the distance in mm to the nearest sheet of water: the surface, a sulcus, the fissures.

    Sulci are the zero sheets of a noise that varies along the surface and hardly in depth: distance = |g| / |grad g|.
    """
    scaled = [(p - c) / np.float32(r) for p, c, r in zip(points, _CEREBRUM, person.cerebrum, strict=True)]
    stretch = np.maximum(norm(scaled), np.float32(0.55)) ** np.float32(-0.56)
    folds = smooth_noise_at(rng, [0.8 * q * stretch for q in scaled], 30)
    steps = [extent / n for extent, n in zip(_FIELD_MM, depth.shape, strict=True)]
    slope = norm([*np.gradient(folds, *steps)])
    sheet = np.abs(folds) / np.maximum(slope, 0.12)
    reach = person.sulcus_depth * (1 + 0.3 * smooth_noise(rng, depth.shape, 9))
    sulcus = np.hypot(sheet, np.maximum(depth - reach, 0)) + person.sulcus * np.clip(depth / reach, 0, 1)
    callosum = np.hypot((points[1] + 6) / 44, (points[2] - 8) / 22) - 1
    midline = np.hypot(points[0] + smooth_noise(rng, depth.shape, 6), 22 * np.maximum(-callosum, 0))
    sylvian = np.hypot(points[2] + 3 + 0.3 * points[1], np.maximum(36 - np.abs(points[0]), 0)) + 0.8
    sylvian = np.maximum(sylvian, np.abs(points[1] - 6) - 34)
    nearest = np.minimum(np.minimum(sulcus, midline), sylvian)
    return np.minimum(nearest, np.maximum(depth, 0) + person.sulcus)


def _ventricles(person: _Person, points: Grid) -> np.ndarray:
    """Return the distance to the lateral, third and fourth ventricles."""
    width = person.ventricles
    shape = ellipsoid(points, (0, -6, 1), (2.2 * width, 12, 9))
    shape = np.minimum(shape, ellipsoid(points, (0, -37, -32), (6 * width, 4 * width, 7)))
    for side in _SIDES:
        arch = [(5 + 3 * width, 32, 7), (5 + 4 * width, 6, 18), (12 + 4 * width, -24, 17), (24, -38, 8)]
        arch = polyline(points, [(side * x, y, z) for x, y, z in arch], 4.8 * width)
        atrium = ellipsoid(points, (side * 24, -36, 6), (6 * width, 9, 9 * width))
        back = tube(points, (side * 25, -40, 5), (side * 22, -60, 2), 2.5 * width)
        below = polyline(points, [(side * 27, -34, 0), (side * 33, -16, -14), (side * 31, 6, -20)], 2.0 * width)
        lateral = union(union(arch, atrium, 5), union(back, below, 4), 4)
        shape = np.minimum(shape, lateral)
    return shape


def _draw_hindbrain(
    signal: np.ndarray, person: _Person, rng: np.random.Generator, points: Grid, voxel: float
) -> np.ndarray:
    """Paint cerebellum (with its leaves) and brainstem. Returns their share of each voxel."""
    tissue = person.signal
    shape = np.broadcast_shapes(*(p.shape for p in points))
    cerebellum = ellipsoid(points, *_CEREBELLUM)
    bumps = smooth_noise(rng, shape, 12)
    leaves = np.sin((cerebellum * 0.35 + points[2] * 0.9 + 0.3 * points[1] + 2.0 * bumps) * (2 * np.pi / 7.5))
    cerebellum = np.maximum(cerebellum, 5 - np.hypot(points[0], np.maximum(points[1] + 70, 0)))
    stem = union(tube(points, (0, -20, -6), (0, -27, -90), 10), ellipsoid(points, (0, -15, -28), (16, 12, 13)), 8)
    paint(signal, soft(cerebellum, voxel), tissue["grey"])
    paint(signal, soft(cerebellum + 5 + 5 * np.abs(leaves), voxel), tissue["white"])
    paint(signal, 0.6 * soft(cerebellum + 1, voxel) * np.clip(leaves * 2 - 1.2, 0, 1), tissue["csf"])
    paint(signal, soft(stem, voxel), tissue["white"])
    fourth = soft(ellipsoid(points, (0, -36, -32), (6 * person.ventricles, 4, 7)), voxel)
    paint(signal, fourth, tissue["csf"])
    return np.maximum(soft(cerebellum, voxel), soft(stem, voxel)) * (1 - fourth)


def _draw_tumour(
    signal: np.ndarray,
    person: _Person,
    tumour: _Tumour,
    rng: np.random.Generator,
    points: Grid,
    brain: np.ndarray,
    white: np.ndarray,
    voxel: float,
) -> np.ndarray:
    """Paint oedema along the white matter, the core and its enhancing rim. Returns the labels: uint8 [*space]."""
    tissue = person.signal
    distance = norm(offsets(points, tumour.place))
    coarse, fine = smooth_noise(rng, brain.shape, 9), smooth_noise(rng, brain.shape, 18)
    core = distance - tumour.core * (1 + 0.22 * coarse) + 0.8 * fine
    spread = distance - tumour.core - tumour.oedema * (0.9 + 0.5 * coarse) + 2 * fine
    oedema = soft(spread, 2 * voxel) * np.clip(white + 0.25 * brain, 0, 1)
    whole = soft(core, voxel) * soft(0.4 - brain, 0.4)
    inner = soft(core + tumour.rim * (1 + 0.35 * fine), voxel) * whole
    paint(signal, 0.9 * oedema, tissue["oedema"])
    paint(signal, whole, tissue["enhancing"] if tumour.rim else tissue["necrosis"])
    paint(signal, inner, tissue["necrosis"])
    label = np.zeros(brain.shape, np.uint8)
    label[oedema > 0.4] = OEDEMA
    label[whole > 0.5] = ENHANCING if tumour.rim else NECROSIS
    label[inner > 0.5] = NECROSIS
    return label


ANATOMY = Anatomy(
    axes=("R", "A", "S"),
    channels=("t1ce", "t1", "flair", "t2", "seg"),
    label_channels=(4,),
    size=(128, 128, 80),
    field_mm=_FIELD_MM,
    scan=scan,
)
