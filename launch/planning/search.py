"""What fits: the largest batch, settings that save memory, and the smallest topology, each found with few compiles."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from launch.planning.costs import Cost
from launch.planning.topologies import Topology, family

Setting = Mapping[str, Any]  # keys of the config, with dots, and what they become

_NEAR = 16  # the largest batch is known to this part of it
_MOST = 1 << 16  # images: nobody wants a larger batch
_STATE = ("parameters", "optimizer", "average", "other state", "code")  # what every device has, however many there are


def largest_batch(
    need: Callable[[int], int | None], *, have: int, unit: int, first: int
) -> tuple[int, dict[int, int | None]]:
    """Return the largest batch that fits, to a sixteenth of it, and the bytes that each batch tried needs.

    Bytes grow with the batch about as a straight line, so the next batch to try is where the line through the last two
    reaches what there is; the batch is bracketed all the while, so it is found whatever they do.

    Args:
      need: bytes that a batch takes; None: more than there is, nobody knows by how much.
      have: bytes that there are.
      unit: what a batch is a multiple of.
      first: the batch to try first.

    Returns:
      The batch, 0 if not even `unit` fits; and what was tried.
    """
    tried: dict[int, int | None] = {}
    low, high, units = 0, max(2, _MOST // unit), max(1, first // unit)
    while high - low > max(1, low // _NEAR):
        bytes_ = tried[units * unit] = need(units * unit)
        if bytes_ is not None and bytes_ <= have:
            low = units
        else:
            high = units
        units = _next(tried, low, high, unit, have)
    return low * unit, tried


def _next(tried: Mapping[int, int | None], low: int, high: int, unit: int, have: int) -> int:
    """Return the number of units to try next, between what fits and what does not."""
    known = sorted(((batch // unit, bytes_) for batch, bytes_ in tried.items() if bytes_ is not None), key=_near(have))
    is_bracketed = high * unit in tried
    if is_bracketed and low and len(tried) % 2:
        return (low + high) // 2  # every other time, so that a curve that is no line halves the bracket, too
    guess = 2 * low if low else high // 2
    if len(known) > 1 and known[0][1] != known[1][1]:
        (u0, b0), (u1, b1) = known[:2]
        guess = math.floor(u0 + (have - b0) * (u1 - u0) / (b1 - b0))
    return min(max(guess, low + max(1, low // _NEAR)), high - 1)


def _near(have: int) -> Callable[[tuple[int, int]], int]:
    return lambda known: abs(known[1] - have)


def savings(config: Mapping[str, Any], topology: Topology) -> Iterator[Setting]:
    """Yield settings that save memory, those that cost least time first; the first changes nothing.

    `fsdp` splits parameters, optimizer and average, within a node, and gathers them when they are used; `microbatches`
    go through the batch in parts; `remat` computes features a second time.
    """
    block = {"ddpm": "model", "descriptor": "model", "autoencoder": "autoencoder"}.get(config["task"])
    remat = {f"{block}.remat": True} if block and "remat" in config[block] and not config[block]["remat"] else {}
    split = {"fsdp": topology.per_node} if topology.per_node > config["fsdp"] else {}
    yield {}
    if split:
        yield split
    if remat:
        yield remat
    if split and remat:
        yield {**split, **remat}
    for parts in _more_parts(config["batch_size"], config.get("microbatches"), topology.n_devices):
        yield {**split, "microbatches": parts}
        if remat:
            yield {**split, **remat, "microbatches": parts}


def _more_parts(batch: int, parts: int | None, devices: int) -> Iterator[int]:
    """Yield into how many parts a batch divides, each number at least twice the one before."""
    while parts:
        parts = next((more for more in range(2 * parts, batch + 1) if batch % (more * devices) == 0), None)
        if parts:
            yield parts


def changed(config: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    """Return the config with a setting."""
    found = dict(config)
    for key, value in setting.items():
        block, _, name = key.rpartition(".")
        if block:
            found[block] = {**found[block], name: value}
        else:
            found[key] = value
    return found


def first_fitting(settings: Iterable[Setting], cost: Callable[[Setting], Cost]) -> list[tuple[Setting, Cost]]:
    """Return what was tried, up to the first that fits; if the last does not, none does."""
    tried = []
    for setting in settings:
        tried.append((setting, cost(setting)))
        if tried[-1][1].fits:
            break
    return tried


def smallest_topology(
    found: Cost, topology: Topology, images: int, cost: Callable[[Topology], Cost]
) -> tuple[Topology, Cost] | None:
    """Return the smallest topology of the same machine on which a program fits that does not fit here; None: none is.

    Those that an estimate rules out are not compiled for: what every device has stays, the rest is shared by more.

    Args:
      found: what it costs here.
      topology: where that is.
      images: of a batch, or of one of its parts: they must divide over the devices.
      cost: compiles for another topology.
    """
    fixed = sum(found.memory.get(kind, 0) for kind in _STATE)
    for larger in family(topology.machine):
        if larger.n_devices <= topology.n_devices or images % larger.n_devices:
            continue
        shared = ((found.need_bytes or fixed) - fixed) * topology.n_devices / larger.n_devices
        if fixed + shared > 1.1 * found.have_bytes:  # an estimate: near it, ask the compiler
            continue
        there = cost(larger)
        if there.fits:
            return larger, there
    return None
