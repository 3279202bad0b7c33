"""Knees in proton-density MR: bones with their marrow and cartilage, menisci, ligaments, muscles, fat.

Coordinates in mm from the joint line: `lateral` towards the outer side (so that one drawing serves left and right),
A forwards, S upwards.
"""

import dataclasses

import numpy as np

from memjax.data.phantoms.anatomy import Anatomy, Size
from memjax.data.phantoms.geometry import Grid, ellipsoid, grid, paint, polyline, soft, tube, union
from memjax.data.phantoms.noise import smooth_noise
from memjax.data.phantoms.scanner import magnetic_resonance, reposition

_FIELD_MM = (150.0, 150.0, 112.0)
_CENTRE_MM = (0.0, -4.0, 6.0)
_SIDES = (-1, 1)  # medial, lateral
_GAP = -4.5  # height of the middle of the joint space

_SIGNAL = {
    "fat": 0.70,
    "skin": 0.35,
    "muscle": 0.30,
    "cortex": 0.05,
    "marrow": 0.62,
    "cartilage": 0.46,
    "meniscus": 0.07,
    "ligament": 0.08,
    "blood": 0.12,
    "fluid": 0.92,
    "bruise": 0.30,
}

# Muscles as tubes: lateral and A at the upper and lower end, S from and to, radius (all mm).
_MUSCLES = (
    ((-36, 14), (-44, 4), 80, 12, 17),  # vastus medialis
    ((34, 16), (40, 8), 80, 22, 15),  # vastus lateralis
    ((-26, -34), (-30, -30), 80, 0, 13),  # semimembranosus
    ((-40, -30), (-42, -16), 80, -20, 6),  # sartorius and gracilis
    ((32, -32), (38, -26), 80, 2, 11),  # biceps femoris
    ((-18, -44), (-20, -44), 22, -80, 15),  # gastrocnemius, medial head
    ((18, -44), (20, -44), 22, -80, 14),  # gastrocnemius, lateral head
    ((0, -28), (4, -26), -18, -80, 13),  # popliteus and soleus
    ((30, 6), (28, 8), -34, -80, 13),  # tibialis anterior
)


@dataclasses.dataclass(frozen=True)
class _Person:
    """What a patient brings to every scan; lengths in mm."""

    is_left: bool
    size: float  # of the bones, 1 = usual
    width: float  # of the bones relative to their depth
    leg: float  # radius
    fat: float  # thickness under the skin
    bulk: float  # of the muscles, 1 = usual
    cortex: float
    cartilage: float
    patella: tuple[float, float, float]  # lateral, S, radius
    effusion: float
    torn_side: int  # 0: neither meniscus
    ligament_tear: bool
    bruise: tuple[float, float, float, float]  # place and radius; radius 0: none
    signal: dict[str, float]


def scan(person_rng: np.random.Generator, visit_rng: np.random.Generator, size: Size) -> np.ndarray:
    """Draw one knee: uint8 [R, A, S, 1]."""
    person = _person(person_rng)
    spacing = ANATOMY.spacing_mm(size)
    edge = 1.5 * min(spacing)
    points = grid(size, _FIELD_MM, _CENTRE_MM)
    points[0] = points[0] if not person.is_left else -points[0]
    points = [p + 2.4 * smooth_noise(person_rng, size, 4) for p in points]
    signal = np.zeros((1, *size), np.float32)
    leg = _draw_leg(signal, person, person_rng, points, edge)
    bones = [p / np.float32(person.size) for p in points]
    bones[0] = bones[0] / np.float32(person.width)
    _draw_joint(signal, person, person_rng, bones, edge)
    degrees, shift = visit_rng.normal(0, 1.5, 3), visit_rng.normal(0, 1.2, 3)
    signal = reposition(signal[0], spacing, degrees, shift)[None]
    body = reposition(soft(leg, edge), spacing, degrees, shift) > 0.5
    noise = visit_rng.uniform(0.012, 0.025)
    return np.moveaxis(magnetic_resonance(signal, body, visit_rng, shading=0.10, noise=noise), 0, -1)


def _person(rng: np.random.Generator) -> _Person:
    return _Person(
        is_left=bool(rng.random() < 0.5),
        size=rng.normal(1.0, 0.05),
        width=rng.normal(1.0, 0.04),
        leg=rng.normal(58, 4.5),
        fat=rng.uniform(3, 14),
        bulk=rng.normal(1.0, 0.12),
        cortex=rng.uniform(1.2, 2.0),
        cartilage=rng.uniform(1.6, 2.6),
        patella=(rng.normal(2, 2.5), rng.normal(18, 4), rng.normal(20, 1.5)),
        effusion=float(rng.gamma(1.2, 2.0)),
        torn_side=int(rng.choice((0, *_SIDES), p=(0.6, 0.3, 0.1))),
        ligament_tear=bool(rng.random() < 0.25),
        bruise=(rng.uniform(-28, 28), rng.uniform(-15, 15), rng.choice((-20.0, 16.0)), rng.choice((0.0, 9.0, 14.0))),
        signal={name: value * rng.normal(1, 0.07) for name, value in _SIGNAL.items()},
    )


def _draw_leg(signal: np.ndarray, person: _Person, rng: np.random.Generator, points: Grid, edge: float) -> np.ndarray:
    """Paint skin, fat, muscles and the vessels of the hollow of the knee. Returns the distance to the skin."""
    tissue = person.signal
    lateral, front, up = points
    radius = np.float32(person.leg) + np.float32(0.10) * up - 2.5 * np.cos(up / 22)
    leg = np.hypot(lateral, 0.97 * (front + 5)) - radius
    paint(signal, soft(leg, edge), [tissue["skin"]])
    paint(signal, soft(leg + 1.6, edge), [tissue["fat"]])
    fibres = 1 + 0.10 * smooth_noise(rng, signal.shape[1:], (34, 34, 6))
    inside = soft(leg + person.fat, 2 * edge)
    for upper, lower, top, bottom, thickness in _MUSCLES:
        shape = tube(points, (*upper, top), (*lower, bottom), thickness * person.bulk)
        paint(signal, soft(shape - 0.8, edge) * inside, [tissue["fat"] * 0.8])  # fascia between muscles
        mask = soft(shape, 2 * edge) * inside
        signal[0] += mask * (np.float32(tissue["muscle"]) * fibres - signal[0])
    paint(signal, soft(tube(points, (3, -30, 90), (1, -34, -90), 3.2), edge), [tissue["blood"]])
    paint(signal, soft(tube(points, (7, -36, 90), (5, -40, -90), 3.8), edge), [tissue["blood"] * 2.5])
    signal *= 1 + 0.03 * smooth_noise(rng, signal.shape[1:], 20)
    return leg


def _draw_joint(signal: np.ndarray, person: _Person, rng: np.random.Generator, points: Grid, edge: float) -> None:
    """Paint fluid, cartilage, bones, menisci, ligaments and tendons."""
    tissue = person.signal
    _, front, up = points
    femur, tibia = _femur(points), _tibia(points)
    patella_side, patella_up, patella_radius = person.patella
    patella = ellipsoid(points, (patella_side, 42, patella_up), (patella_radius, 9, patella_radius * 0.95))
    _draw_fluid(signal, person, points, femur, edge)
    articular = soft(up - 30, 6) * soft(-10 - up, 4)
    paint(signal, soft(femur - person.cartilage, edge) * articular, [tissue["cartilage"]])
    paint(signal, soft(tibia - person.cartilage, edge) * soft(-12 - up, 3), [tissue["cartilage"]])
    paint(signal, soft(patella - person.cartilage, edge) * soft(front - 42, 3), [tissue["cartilage"]])
    _draw_menisci(signal, person, points, edge)
    _draw_ligaments(signal, person, points, edge)
    fibula = union(tube(points, (36, -22, -26), (36, -20, -110), 6), ellipsoid(points, (36, -21, -22), (9, 9, 9)), 4)
    grain = 1 + 0.07 * smooth_noise(rng, signal.shape[1:], (44, 44, 20))
    x, y, z, radius = person.bruise
    bruise = soft(ellipsoid(points, (x, y, z), (radius, radius, radius)), 6) if radius else np.zeros_like(grain)
    marrow = np.float32(tissue["marrow"]) * grain
    marrow = marrow + bruise * (np.float32(tissue["bruise"]) - marrow)
    for bone in (femur, tibia, patella, fibula):
        paint(signal, soft(bone, edge), [tissue["cortex"]])
        signal[0] += soft(bone + person.cortex, edge) * (marrow - signal[0])


def _femur(points: Grid) -> np.ndarray:
    """Return the distance to the femur: shaft, two condyles, the groove for the patella, the notch between."""
    shaft = tube(points, (0, 2, 50), (0, 2, 120), 15)
    flare = ellipsoid(points, (0, 2, 30), (31, 19, 26))
    femur = union(shaft, flare, 22)
    for side in _SIDES:
        condyle = ellipsoid(points, (side * 22, -5, 16), (17.5, 30, 18.5))
        ridge = ellipsoid(points, (side * 17, 17, 23), (13, 13, 15))
        femur = union(femur, union(condyle, ridge, 6), 5)
    notch = tube(points, (0, -45, 4), (0, 2, 4), 9.5)
    return np.maximum(femur, -notch)


def _tibia(points: Grid) -> np.ndarray:
    """Return the distance to the tibia: a plateau with its eminence, the tuberosity, the shaft."""
    plateau = ellipsoid(points, (0, -4, -21), (39, 27, 20))
    plateau = np.maximum(plateau, points[2] + 7.5 + 0.06 * points[1])  # its top slopes backwards
    shaft = tube(points, (0, -2, -46), (0, -6, -120), 16)
    tibia = union(plateau, shaft, 24)
    tibia = union(tibia, ellipsoid(points, (2, 18, -38), (9, 8, 13)), 6)
    return union(tibia, ellipsoid(points, (0, -4, -7), (6, 7, 4.5)), 3)


def _draw_fluid(signal: np.ndarray, person: _Person, points: Grid, femur: np.ndarray, edge: float) -> None:
    """Paint the joint's fluid: a film on the condyles, and the pouch above the patella where there is effusion."""
    fluid = [person.signal["fluid"]]
    height = points[2]
    film = soft(femur - person.cartilage - 0.9, edge) * soft(height - 24, 6) * soft(-8 - height, 3)
    paint(signal, film, fluid)
    pouch = ellipsoid(points, (0, 29, 44), (19 + person.effusion, 1.2 + 0.9 * person.effusion, 18))
    paint(signal, soft(pouch, edge), fluid)
    for side in _SIDES:
        recess = ellipsoid(points, (side * 30, 22, 20), (2.5, 6 + person.effusion, 12))
        paint(signal, soft(recess - 0.3 * person.effusion, edge), fluid)


def _draw_menisci(signal: np.ndarray, person: _Person, points: Grid, edge: float) -> None:
    """Paint two crescents, wedges in section, open towards the middle of the joint; one may be torn."""
    lateral, front, up = points
    for side in _SIDES:
        aside = side * lateral - 20
        from_middle = np.hypot(aside, (front + 5) / np.float32(1.25))
        thickness = 0.30 * (from_middle - 9)
        wedge = np.maximum(np.abs(up - _GAP + 0.06 * front) - thickness, from_middle - 19.5)
        wedge = np.maximum(wedge, -11 - aside)
        meniscus = soft(wedge, edge)
        paint(signal, meniscus, [person.signal["meniscus"]])
        if person.torn_side == side:
            tear = soft(np.abs(up - _GAP - 0.25 * (from_middle - 14)) - 0.6, edge) * soft(front + 8, 2)
            paint(signal, meniscus * tear, [0.8 * person.signal["fluid"]])


def _draw_ligaments(signal: np.ndarray, person: _Person, points: Grid, edge: float) -> None:
    """Paint the cruciate and collateral ligaments, the tendons of quadriceps and patella, the iliotibial band."""
    dark = [person.signal["ligament"]]
    patella_side, patella_up, patella_radius = person.patella
    flat = [points[0] / 5, points[1], points[2]]  # bands five times as wide as thick
    tip, base = patella_up - 0.8 * patella_radius, patella_up + 0.8 * patella_radius
    tendon = polyline(flat, [(patella_side / 5, 43, tip), (0.4, 36, -18), (0.4, 27, -40)], 2.6)
    paint(signal, soft(tendon, edge), dark)
    paint(signal, soft(polyline(flat, [(patella_side / 5, 46, base), (0, 36, 110)], 3.0), edge), dark)
    paint(signal, soft(tube(points, (-7, 0, 10), (0, -28, -16), 4.0), edge), dark)  # posterior cruciate
    front_cruciate = soft(tube(points, (8, -18, 14), (-3, 8, -7), 3.6), edge)
    paint(signal, front_cruciate, [0.6 * person.signal["fluid"]] if person.ligament_tear else dark)
    side_on = [points[0], points[1] / 5, points[2]]
    paint(signal, soft(polyline(side_on, [(-39, 0, 20), (-42, 0, 0), (-37, 0, -36)], 1.2), edge), dark)
    paint(signal, soft(polyline(side_on, [(40, -1.6, 18), (43, -2, 0), (39, -4, -22)], 1.2), edge), dark)
    paint(signal, soft(polyline(side_on, [(45, 2, 90), (43, 3, 0), (34, 3, -18)], 1.0), edge), dark)


ANATOMY = Anatomy(
    axes=("R", "A", "S"),
    channels=("pd",),
    size=(256, 256, 32),
    field_mm=_FIELD_MM,
    scan=scan,
)
