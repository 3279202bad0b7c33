"""Frontal chest radiographs: attenuation added up along the beam, as on film, then exposed.

Coordinates: x from -1 (the patient's right) to 1, y from -1 (neck) to 1 (upper abdomen), over the whole picture.
"""

import dataclasses

import numpy as np

from memjax.data.phantoms.anatomy import Anatomy, Size
from memjax.data.phantoms.geometry import ellipsoid, grid, polyline, soft, union
from memjax.data.phantoms.noise import smooth_noise
from memjax.data.phantoms.scanner import eight_bits

_RIBS = 10
_SIDES = (-1, 1)  # the patient's right lung is on the left of the picture


@dataclasses.dataclass(frozen=True)
class _Person:
    """What a patient brings to every radiograph, in units of half the picture."""

    scale: float
    torso: float
    apex: float
    base: float
    lung: float
    mediastinum: float
    heart: tuple[float, float, float, float]  # centre: x, height above the diaphragm; radii
    knob: float
    spine: float
    scoliosis: float
    rib_spacing: float
    rib_width: float
    rib_slope: float
    clavicle: float
    arms: float
    thickness: float
    lung_air: float
    bone: float
    gas: float


def _person(rng: np.random.Generator) -> _Person:
    normal = rng.normal
    return _Person(
        scale=normal(1.0, 0.06),
        torso=normal(0.80, 0.055),
        apex=normal(-0.70, 0.06),
        base=normal(0.42, 0.10),
        lung=normal(0.30, 0.025),
        mediastinum=normal(0.15, 0.03),
        heart=(normal(0.13, 0.04), normal(-0.20, 0.04), normal(0.30, 0.05), normal(0.27, 0.045)),
        knob=normal(0.09, 0.025),
        spine=normal(0.075, 0.012),
        scoliosis=normal(0.0, 0.035),
        rib_spacing=normal(0.150, 0.014),
        rib_width=normal(0.028, 0.005),
        rib_slope=normal(0.55, 0.16),
        clavicle=normal(-0.60, 0.06),
        arms=rng.uniform(0.0, 1.0),
        thickness=normal(1.0, 0.10),
        lung_air=normal(0.60, 0.07),
        bone=normal(1.0, 0.2),
        gas=rng.uniform(0.0, 0.35),
    )


def scan(person_rng: np.random.Generator, visit_rng: np.random.Generator, size: Size) -> np.ndarray:
    """Draw one radiograph: uint8 [row, column, 1]."""
    person = _person(person_rng)
    breath = visit_rng.normal(0.0, 0.035)
    person = dataclasses.replace(person, base=person.base + breath, scale=person.scale * visit_rng.normal(1, 0.012))
    x, y = _stance(person, person_rng, visit_rng, size)
    edge = 3.0 / min(size)
    body, outline = _body(person, x, y, edge)
    lungs = _lungs(person, x, y, edge)
    heart = _heart(person, x, y, edge)
    texture = _lung_texture(person_rng, x, y, size)
    opacity = _opacity(person_rng, visit_rng, x, y, size)
    air = lungs * (1 - 0.88 * heart) * (1 - opacity) * (1 - texture)
    film = body * (1 + 0.06 * smooth_noise(person_rng, size, 4))
    film += body * (0.05 * heart + 0.12 * _abdomen(person, x, y, edge)) - person.lung_air * air
    film += body * person.bone * (_ribs(person, x, y, edge, lungs) + _spine(person, x, y, edge))
    film += outline * person.bone * _shoulders(person, x, y, edge)
    return _expose(film, visit_rng, size)[..., None]


def _stance(
    person: _Person, person_rng: np.random.Generator, visit_rng: np.random.Generator, size: Size
) -> tuple[np.ndarray, np.ndarray]:
    """Return the body's own coordinates of every pixel: scaled, turned, shifted and a little irregular."""
    y, x = grid(size, (2.0, 2.0))
    turn = np.deg2rad(person_rng.normal(0, 1.5) + visit_rng.normal(0, 1.2))
    shift = person_rng.normal(0, 0.03, 2) + visit_rng.normal(0, 0.024, 2)
    warp = 0.03 * np.stack([smooth_noise(person_rng, size, 3) for _ in range(2)])
    turned_x = (np.cos(turn) * x - np.sin(turn) * y - shift[0]) / person.scale
    turned_y = (np.sin(turn) * x + np.cos(turn) * y - shift[1]) / person.scale
    return (turned_x + warp[0]).astype(np.float32), (turned_y + warp[1]).astype(np.float32)


def _body(person: _Person, x: np.ndarray, y: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Return how thick the patient is along the beam, and the silhouette."""
    torso = np.abs(x) - person.torso * (1.0 - 0.10 * y + 0.05 * np.cos(3 * y))
    torso = np.maximum(torso, 0.42 * np.abs(x) - 0.97 - y)  # the trapezius slopes from neck to shoulder
    neck = np.maximum(np.abs(x) - 0.26, y + 0.3)
    outline = union(torso, neck, 0.35)
    chin = ellipsoid((x, y), (0.0, -1.16), (0.30, 0.30))
    outline = np.minimum(outline, chin)
    for side in _SIDES:
        elbow = (side * (person.torso + 0.32), -0.95 + 1.5 * person.arms)
        arm = polyline((x, y), [(side * (person.torso - 0.12), -0.52), elbow], 0.17)
        outline = union(outline, arm, 0.18)
    depth = np.sqrt(np.clip(-outline / 0.42, 0, 1))
    return person.thickness * depth, soft(outline, edge)


def _lungs(person: _Person, x: np.ndarray, y: np.ndarray, edge: float) -> np.ndarray:
    """Return the share of the beam's path that is in the lungs."""
    total = np.zeros_like(x)
    for side in _SIDES:
        middle = side * (person.mediastinum * 0.45 + person.lung)
        height = person.base + 0.34 - person.apex
        widen = 1 + 0.22 * (y - 0.1)
        field = ((x - middle) / (person.lung * widen)) ** 2 + ((y - person.apex - height * 0.52) / (height * 0.52)) ** 2
        path = np.sqrt(np.clip(1.05 - field**1.6, 0, 1))
        medial = side * x - person.mediastinum * (0.62 + 0.25 * np.clip(y + 0.6, 0, 1))
        total += path * soft(y - _diaphragm(person, x), 1.5 * edge) * soft(-medial, 2 * edge)
    return total


def _diaphragm(person: _Person, x: np.ndarray) -> np.ndarray:
    """Return the height of the domes: the liver lifts the right one, the angles at the ribs are deep."""
    dome = person.base - 0.10 + 0.05 * soft(-x, 0.3)
    return dome + 2.0 * (np.abs(x) - 0.75 * person.lung - 0.45 * person.mediastinum) ** 2


def _heart(person: _Person, x: np.ndarray, y: np.ndarray, edge: float) -> np.ndarray:
    """Return the shadow of heart, aortic knob and great vessels, 0 to 1."""
    cx, above, rx, ry = person.heart
    cy = person.base + above
    lean = x - cx - 0.35 * (y - cy)
    ventricles = ellipsoid((lean, y), (0.0, cy), (rx, ry))
    atrium = ellipsoid((x, y), (cx - 0.62 * rx, cy - 0.02), (0.45 * rx, 0.72 * ry))
    knob = ellipsoid((x, y), (person.mediastinum * 0.62, -0.27), (person.knob, person.knob * 1.1))
    vessels = np.maximum(np.abs(x - 0.02) - person.mediastinum * 0.72, y - cy)
    shape = union(union(ventricles, atrium, 0.08), union(knob, vessels, 0.06), 0.10)
    return soft(shape, 2.5 * edge) * soft(y - _diaphragm(person, x) - 0.03, 0.08)


def _abdomen(person: _Person, x: np.ndarray, y: np.ndarray, edge: float) -> np.ndarray:
    """Return the extra density below the diaphragm, with the stomach's gas on the left."""
    below = soft(_diaphragm(person, x) - y, 0.12)
    bubble = soft(ellipsoid((x, y), (0.40, person.base + 0.12), (0.17, 0.09)), 3 * edge)
    return below - 4 * person.gas * bubble


def _ribs(person: _Person, x: np.ndarray, y: np.ndarray, edge: float, lungs: np.ndarray) -> np.ndarray:
    """Return the density of ten pairs of ribs: level behind, falling towards the front."""
    across = np.abs(x) / (person.torso * 0.92)
    cage = soft(across - (0.55 + 0.45 * np.sqrt(np.clip((y + 0.78) / 0.75, 0, 1))), 4 * edge)
    first = person.apex + 0.05
    behind = y - first - person.rib_slope * (across**2 - 0.35 * across) * 0.55
    front = y - first - 0.22 - person.rib_slope * (1.15 - across) * 0.62
    density = 0.13 * _bars(behind, person.rib_spacing, person.rib_width, edge) * soft(0.10 - across, 0.06)
    density += 0.07 * _bars(front, person.rib_spacing, person.rib_width * 1.1, edge) * soft(0.5 - across, 0.3)
    seen_along = 1 + 1.1 * np.clip(across, 0, 1) ** 6  # at the side the beam runs along the rib
    return density * cage * seen_along * (0.25 + 0.75 * np.clip(lungs * 1.5, 0, 1))


def _bars(level: np.ndarray, spacing: float, width: float, edge: float) -> np.ndarray:
    """Return `_RIBS` bars of half-width `width` at multiples of the spacing, their rims denser than their middle."""
    number = np.clip(np.rint(level / spacing), 0, _RIBS - 1)
    apart = np.abs(level - number * spacing)
    bar = soft(apart - width, edge)
    return bar * (0.7 + 0.5 * np.clip(apart / width, 0, 1) ** 2)


def _spine(person: _Person, x: np.ndarray, y: np.ndarray, edge: float) -> np.ndarray:
    """Return the density of the vertebral column: bodies, discs and spinous processes."""
    off_axis = x - person.scoliosis * np.sin(2.2 * (y + 0.3))
    column = soft(np.abs(off_axis) - person.spine, 2 * edge)
    phase = 2 * np.pi * y / person.rib_spacing
    bodies = 0.75 + 0.25 * np.tanh(2.5 * np.cos(phase))
    process = np.exp(-((off_axis / 0.018) ** 2)) * np.clip(np.sin(phase), 0, 1)
    return 0.20 * column * bodies + 0.06 * process


def _shoulders(person: _Person, x: np.ndarray, y: np.ndarray, edge: float) -> np.ndarray:
    """Return the density of clavicles, scapulae and the heads of the humeri."""
    density = np.zeros_like(x)
    for side in _SIDES:
        joint = (side * (person.torso - 0.10), person.clavicle - 0.10)
        corners = [(side * 0.07, person.clavicle + 0.06), (side * 0.30, person.clavicle - 0.01), joint]
        density += 0.16 * soft(polyline((x, y), corners, 0.026), 1.5 * edge)
        blade = [joint, (side * (person.torso - 0.02), -0.15), (side * (person.torso - 0.16), -0.30), joint]
        density += 0.08 * soft(polyline((x, y), blade, 0.022), 2 * edge)
        elbow = (side * (person.torso + 0.32), -0.95 + 1.5 * person.arms)
        shaft = polyline((x, y), [(side * person.torso, -0.52), elbow], 0.06)
        density += 0.22 * soft(shaft, 3 * edge)
    return density


def _lung_texture(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, size: Size) -> np.ndarray:
    """Return the share of air that vessels take: branching ridges, dense around the hila."""
    texture = np.zeros_like(x)
    hilum = np.hypot(np.abs(x) - 0.19, (y + 0.06) / 1.5)
    for cells, weight in ((9, 0.42), (17, 0.30)):
        ridge = np.exp(-((smooth_noise(rng, size, cells) / 0.32) ** 2))
        texture += weight * ridge
    strength = rng.uniform(0.6, 1.1)
    return np.clip(strength * texture * np.exp(-hilum / 0.28) + 0.30 * np.exp(-((hilum / 0.085) ** 2)), 0, 0.8)


def _opacity(
    person_rng: np.random.Generator, visit_rng: np.random.Generator, x: np.ndarray, y: np.ndarray, size: Size
) -> np.ndarray:
    """Return the share of air that disease takes: nothing, a consolidated lobe, or patchy infiltrates."""
    disease = person_rng.choice(["none", "lobe", "patches"], p=[0.45, 0.3, 0.25])
    place = person_rng.choice(_SIDES) * person_rng.uniform(0.25, 0.5), person_rng.uniform(-0.4, 0.35)
    radii = person_rng.uniform(0.15, 0.30, 2)
    cloud = smooth_noise(person_rng, size, 8)
    course = visit_rng.uniform(0.8, 1.1)  # it comes or goes between visits
    if disease == "lobe":
        return course * 0.8 * soft(ellipsoid((x, y), place, radii) + 0.05 * cloud, 0.18)
    if disease == "patches":
        return course * np.clip(0.15 + 0.28 * cloud, 0, 0.7)
    return np.zeros_like(x)


def _expose(film: np.ndarray, rng: np.random.Generator, size: Size) -> np.ndarray:
    """Turn attenuation into grey values: the window, the film's curve, scatter and quantum noise."""
    low, high = rng.normal(0.10, 0.02), rng.normal(1.50, 0.06)
    grey = np.clip((film - low) / (high - low), 0, 1) ** rng.normal(0.85, 0.05)
    grey += 0.02 * smooth_noise(rng, size, 2)
    grain = rng.standard_normal(size, dtype=np.float32)
    return eight_bits(np.clip(grey, 0, 1) * 0.97 + 0.012 * grain * np.sqrt(np.clip(grey, 0, 1)))


ANATOMY = Anatomy(
    axes=("row", "column"),
    channels=("xray",),
    size=(256, 256),
    field_mm=(360.0, 360.0),
    scan=scan,
)
