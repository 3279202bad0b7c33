"""A plan in words and tables, for a person at a terminal."""

from collections.abc import Mapping, Sequence

from launch.planning.costs import Cost
from launch.planning.growth import Row, speed
from launch.planning.machines import GIB, USABLE
from launch.planning.search import Setting

_PREALLOCATED = 0.75  # of a GPU's memory, JAX's default
_FEW = 8  # images of a TPU; measured: with four, 2.5 times the bytes of twice as many


def told(cost: Cost) -> str:
    """Return one program's cost."""
    there = f"{cost.topology} ({cost.where.n_devices} x {cost.where.of.called})"
    how = f"compiled in {cost.compile_s:.0f} s" + " with the least effort" * cost.is_quick
    lines = [f"{cost.program} on {there}, {cost.images:,} {cost.unit} a run; {how}"]
    memory = {kind: size for kind, size in cost.memory.items() if size}
    for kind, size in sorted(memory.items(), key=lambda one: -one[1]):
        lines.append(f"  {kind:14}{gib(size):>12}")
    lines.append(f"  {'together':14}{gib(cost.need_bytes):>12} of {gib(cost.have_bytes)}: {_fits(cost)}")
    if cost.bound is None or cost.flops is None or cost.collectives is None:
        return "\n".join(lines)
    products = ", ".join(f"{_many(flops)}FLOP in {kind}" for kind, flops in sorted(cost.flops.items()))
    lines.append(f"  a device does {products or 'no products'}, moves {_many(cost.moved_bytes or 0)}B")
    lines += [f"  {line}" for line in exchanges(cost)]
    if cost.unknown_loops:
        lines.append(f"  {cost.unknown_loops} loops of unknown length are counted once: it is more than that")
    found = cost.bound
    lines.append(
        f"  at least {seconds(found.seconds)} ({seconds(found.serial_s)} if nothing overlaps): products "
        f"{seconds(found.compute_s)}, memory {seconds(found.memory_s)}, network {seconds(found.network_s)}; "
        f"{found.binds} binds; {cost.images / found.seconds:,.3g} {cost.unit}/s, products at most at "
        f"{found.utilisation:.0%} of the peak"
    )
    if cost.program == "train" and cost.where.of.platform == "tpu" and cost.images < _FEW * cost.where.n_devices:
        lines.append(
            f"  fewer than {_FEW} images a device: XLA cuts them into pieces, with copies in between; more on "
            "each may be faster (docs/plan.md)"
        )
    return "\n".join(lines)


def told_together(name: str, costs: Sequence[Cost]) -> str:
    """Return a table of programs on topologies, in Markdown."""
    lines = [
        "| config | program | topology | a run | one device holds | it has | at least | binds | products at most |",
        "|---|---|---|--:|--:|--:|--:|---|--:|",
    ]
    for cost in costs:
        cells = [name, cost.program, cost.topology, f"{cost.images:,} {cost.unit}", gib(cost.need_bytes)]
        cells += [gib(cost.have_bytes) + ("" if cost.fits else ": too little")]
        found = cost.bound
        cells += [seconds(found.seconds), found.binds, f"{found.utilisation:.0%}"] if found else ["", "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def exchanges(cost: Cost) -> list[str]:
    """Return a line for each kind of collective: how often, how much a device puts in, among how many."""
    sums: dict[tuple[str, int, bool], list[float]] = {}
    for what, times in cost.collectives or ():
        found = sums.setdefault((what.kind, what.group, what.is_between_nodes), [0.0, 0.0, 0.0])
        found[0] += times
        found[1] += times * what.size_bytes
        found[2] = max(found[2], what.size_bytes)
    return [
        f"{kind:19}x{times:<6g}{size / 1e6:>10,.3f} MB, the largest {largest / 1e6:,.3f} MB, among {group}"
        + (" across nodes" if is_between else "")
        for (kind, group, is_between), (times, size, largest) in sums.items()
    ]


def told_settings(tried: Sequence[tuple[Setting, Cost]]) -> str:
    """Return a line for each setting that was tried."""
    lines = ["what makes it fit:" if tried[-1][1].fits else "nothing that was tried makes it fit:"]
    for setting, cost in tried:
        changes = " ".join(f"--config.{key}={value}" for key, value in setting.items()) or "as it is"
        time = f", at least {seconds(cost.bound.seconds)}" if cost.bound else ""
        lines.append(f"  {changes:60}{gib(cost.need_bytes):>12}  {'fits' if cost.fits else 'does not fit'}{time}")
    return "\n".join(lines)


def told_batches(batch: int, tried: Mapping[int, int | None]) -> str:
    """Return the largest batch, and what was tried."""
    sizes = ", ".join(f"{size}: {gib(need)}" for size, need in sorted(tried.items()))
    return f"largest batch that fits: {batch} ({sizes})" if batch else f"no batch fits ({sizes})"


def told_growth(rows: Sequence[Row]) -> str:
    """Return a table of devices."""
    names = ("batch", 7), ("GiB", 8), ("TFLOP", 9), ("GB", 8), ("sent MB", 9), ("bound", 10)
    lines = [
        f"{'topology':>12}" + "".join(f"{name:>{width}}" for name, width in names) + f"  {'binds':8}{'images/s':>10}"
    ]
    for topology, cost in rows:
        if isinstance(cost, str):
            lines.append(f"{topology!s:>12}  {cost}")
        elif cost.bound is None:
            lines.append(f"{topology!s:>12}{cost.images:>7}  does not fit: {gib(cost.need_bytes)}")
        else:
            flops, sent = sum((cost.flops or {}).values()), sum(w.sent_bytes * n for w, n in cost.collectives or ())
            lines.append(
                f"{topology!s:>12}{cost.images:>7}{(cost.need_bytes or 0) / GIB:>8.2f}{flops / 1e12:>9.3g}"
                f"{(cost.moved_bytes or 0) / 1e9:>8.3g}{sent / 1e6:>9.3g}{seconds(cost.bound.seconds):>10}  "
                f"{cost.bound.binds:8}{speed(cost):>10,.4g}" + ("" if cost.fits else "  does not fit")
            )
    return "\n".join(lines)


def seconds(value: float) -> str:
    """Return a time in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"


def gib(size: int | None) -> str:
    """Return bytes in GiB; small ones in MiB or KiB."""
    if size is None:
        return "too much"
    for unit, scale in (("GiB", GIB), ("MiB", 1 << 20)):
        if size >= scale / 10:
            return f"{size / scale:,.2f} {unit}"
    return f"{size / 1024:,.1f} KiB"


def _many(value: float) -> str:
    """Return a number with the prefix that suits it."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:,.3g} {prefix}"
    return f"{value / 1e3:,.3g} k"


def _fits(cost: Cost) -> str:
    if not cost.fits:
        return "does not fit"
    by_default = cost.have_bytes * _PREALLOCATED / USABLE
    if cost.where.of.platform == "cuda" and (cost.need_bytes or 0) > by_default:
        return f"fits with XLA_PYTHON_CLIENT_MEM_FRACTION={USABLE} (JAX takes 75 % where nothing is said)"
    return "fits"
