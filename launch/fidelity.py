"""Measure how much a synthetic set resembles its training set as a whole: Fréchet distance, coverage and the like.

    python -m launch.fidelity --train=DIR --synthetic=DIR [--heldout=DIR] --features=random|pixels|inception|descriptor
        [--weights=FILE] [--run=RUN] [--out=FILE.json]

Takes folders of image files or image stores. None of the usual scores can tell copying from generalising: a generator
that returns training images has the best of them. `launch.audit` finds copies.
"""

import contextlib
import dataclasses
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from launch import boot, image_sets, inputs, measuring
from memjax.errors import UserError

if TYPE_CHECKING:
    from memjax.audit.fidelity.features import Features
    from memjax.audit.fidelity.quality import Quality
    from memjax.data.store import Store

_FEATURES = flags.DEFINE_enum(
    "features",
    "random",
    list(measuring.KINDS),
    "What images are compared in: an untrained network, principal components of pixels, InceptionV3 (see --weights), "
    "or a trained descriptor (see --run).",
)
_WEIGHTS = flags.DEFINE_string(
    "weights",
    None,
    "InceptionV3's, which do not ship: the public weights-inception-2015-12-05-6726825d.pth, or .safetensors or .npz "
    "with arrays of the same names.",
)
_RUN = flags.DEFINE_string("run", None, "A run of launch.train, of task descriptor.")
_INFINITY = flags.DEFINE_bool("infinity", False, "Also extrapolate the Fréchet distance to infinitely many images.")
_SEED = flags.DEFINE_integer("seed", 0, "Of random choices.", lower_bound=0)
_OUT = flags.DEFINE_string("out", None, "The file to write all scores to, as JSON; default: none.")
_CACHE = flags.DEFINE_string(
    "cache", None, "Where prepared folders, vectors and compiled programs are kept; default: nowhere."
)
_DEVICES = flags.DEFINE_integer("devices", None, "How many devices to use; default: all.", lower_bound=1)


def main() -> None:
    """Measure one synthetic set."""
    from memjax.data.together import stores_together

    given = image_sets.given()
    places = {role: one.path for role, one in given.items()}
    out = _out(places)
    weights, run = boot.place_if_given(_WEIGHTS), boot.place_if_given(_RUN)
    how = inputs.preparation()
    with _cache(places) as cache:
        stores = stores_together(given, how, cache, workers=boot.workers())
        boot.keep_freed_memory()
        boot.use_compilation_cache(cache / "compiled")
        from memjax.mesh import audit_mesh

        features = measuring.make_features(
            _FEATURES.value,
            shape=stores["train"].manifest.shape,
            mesh=audit_mesh(_DEVICES.value),
            weights=weights,
            run=run,
        )
        found = measuring.quality(
            stores["train"],
            stores["synthetic"],
            stores.get("heldout"),
            features,
            infinity=_INFINITY.value,
            seed=_SEED.value,
            cache=cache / "vectors",
        )
        if out is not None:
            _write(out, found, features, stores)
    for line in table(found):
        boot.say(line)
    for warning in found.warnings:
        boot.say(f"note: {warning}")


def table(found: "Quality") -> list[str]:
    """Return the scores as lines of text: those of the synthetic images beside those of real ones, where there are any.

    Scores that were not computed are left out.
    """
    unseen = f", {found.n_heldout} of unseen patients" if found.n_heldout else ""
    lines = [f"{found.n_synthetic} synthetic images, {found.n_train} training images{unseen}; in {found.features}"]
    lines.append(_line("", "synthetic", "real", ""))
    for title, rows in _ROWS.items():
        lines.append(title)
        for name, value, deviation, real, reading in rows:
            here, spread, there = (getattr(found, field) if field else math.nan for field in (value, deviation, real))
            if not math.isnan(here):
                shown = f"{here:.4g}" if math.isnan(spread) else f"{here:.4g} ± {spread:.2g}"
                lines.append(_line(name, shown, "" if math.isnan(there) else f"{there:.4g}", reading))
    return lines


def _line(name: str, here: str, there: str, reading: str) -> str:
    return f"  {name:29} {here:>21} {there:>9}  {reading}".rstrip()


# Name, value, its standard deviation, the same of real images, how to read it.
_ROWS = {
    "How alike the sets are. None of this can tell copies from new images:": (
        ("FID to the training images", "fid", "", "fid_real", "0 is best; real: held-out images, as many"),
        ("FID of all synthetic images", "fid_all", "", "", "0 is best; as other programs compute it"),
        ("FID to the held-out images", "fid_heldout", "", "", "0 is best"),
        ("FID of infinitely many images", "fid_infinity", "", "", "0 is best; extrapolated"),
        ("KID to the training images", "kid", "kid_deviation", "", "0 is best"),
        ("inception score", "inception_score", "inception_score_deviation", "", "from 1; sees no real image"),
        ("precision", "precision", "", "", "1 is best: synthetic images that look real"),
        ("recall", "recall", "", "", "1 is best: training images that the generator could make"),
        ("density", "density", "", "", "about 1: as precision, robust"),
        ("coverage", "coverage", "", "", "1 is best: as recall, robust"),
        ("MS-SSIM of pairs", "ms_ssim", "", "ms_ssim_real", "1 if all images are the same; real: training images"),
    ),
    "Scores that look for copying; launch.audit finds the copies:": (
        ("C_T", "c_t", "", "", "far below 0: copying; far above 0: underfitting"),
        ("AuthPct", "auth_pct", "", "", "50 or more if images are new; near 0: copying"),
        ("MiFID", "mifid", "", "", "FID, larger where images are nearly those of training"),
        ("FLD", "fld", "", "", "the lower, the better; on held-out images"),
        ("FLD's generalization gap", "fld_gap", "", "", "the more negative, the more overfitted"),
    ),
}


def _out(given: dict[str, Path]) -> Path | None:
    """Return the file to write, if one can be made there without harm."""
    if _OUT.value is None:
        return None
    out = boot.place(_OUT)
    if out.is_dir():
        raise UserError(f"--out={out} is a folder; give the name of a .json file.")
    if out.suffix != ".json":
        raise UserError(f"--out={out} is to be a .json file; give its name that ending.")
    if not out.exists():
        return inputs.check_output(_OUT, given)
    for name, path in given.items():
        if out.resolve().is_relative_to(path.resolve()):
            raise UserError(f"--out={out} is a file of --{name}={path}; choose a place outside.")
    return out


@contextlib.contextmanager
def _cache(given: dict[str, Path]) -> Iterator[Path]:
    """Yield the folder that --cache names, or one that is gone afterwards."""
    if _CACHE.value:
        yield inputs.check_output(_CACHE, given)
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


def _write(out: Path, found: "Quality", features: "Features", stores: "dict[str, Store]") -> None:
    """Write all scores, null for those that there are none of, and what they are of."""
    from memjax import __version__
    from memjax.whole import whole_file

    scores: dict[str, Any] = dataclasses.asdict(found)
    record = {
        "program": f"memjax {__version__}",
        "command": boot.command(),
        "features_digest": features.digest,
        "sets": {role: {"digest": store.manifest.digest, "n": len(store)} for role, store in stores.items()},
        **{name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in scores.items()},
    }
    with whole_file(out) as partial:
        partial.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="ascii")


if __name__ == "__main__":
    boot.run(main)
