"""The whole way on phantoms that ship with the code: draw, train, sample, audit, report.

    python -m launch.demo [--out=DIR] [--volumes]

A diffusion model is trained on few patients for long enough to memorize some of them; the audit says which, and how
sure that is, against patients whom the model never saw. The run's metrics show when copying began.
"""

import json
import shutil
from pathlib import Path

from absl import flags

from configs import demo as demo_config
from launch import boot, sampling, training
from memjax.errors import UserError

_OUT = flags.DEFINE_string("out", "out/demo", "Where to write; a finished demo there is replaced, a begun one goes on.")
_VOLUMES = flags.DEFINE_bool("volumes", False, "3-D vessel phantoms instead of chest radiographs.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the phantoms and of the training.", lower_bound=0)
_SMOKE = flags.DEFINE_bool("smoke", False, "A few steps only: shows that everything runs, not what it finds.")

_MARK = "demo.json"  # only a folder with this mark is replaced


def main() -> None:
    """Draw, train, sample, audit."""
    words = ["volumes" if _VOLUMES.value else "pictures", *(["smoke"] if _SMOKE.value else [])]
    config = demo_config.get_config(",".join(words))
    config.seed = config.phantoms.seed = _SEED.value
    config = config.to_dict()
    out = _folder(boot.place(_OUT), {"words": words, "seed": _SEED.value})
    boot.keep_freed_memory()
    boot.use_compilation_cache(out / "cache" / "compiled")

    with boot.StopRequests() as stop:
        outcome = training.train(config, out / "run", data=None, is_asked_to_stop=stop)
    if outcome.was_asked:
        raise KeyboardInterrupt
    sampling.sample(out / "run", range(config["samples"]), out / "synthetic")
    _audit(out)
    boot.say(f"the report: {out / 'report.html'}; the training's metrics and pictures: {out / 'run'}")


def _folder(out: Path, asked: dict) -> Path:
    """Return the folder to write: a begun demo's that asked for the same goes on, another one's is replaced."""
    mark = out / _MARK
    if out.exists():
        try:
            begun = json.loads(mark.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise UserError(f"--out={out} exists and was not made by this demo; choose another folder.") from None
        if begun == asked and not (out / "report.html").exists():
            return out
        shutil.rmtree(out)
    out.mkdir(parents=True)
    mark.write_text(json.dumps(asked) + "\n", encoding="utf-8")
    return out


def _audit(out: Path) -> None:
    from memjax.audit.audit import Question, audit
    from memjax.audit.findings import ImageSet
    from memjax.audit.report import write
    from memjax.data.store import Store
    from memjax.mesh import audit_mesh

    boot.say("comparing every synthetic image with every training image, under every flip and quarter turn …")
    places = {"train": out / "run/data/train", "synthetic": out / "synthetic", "heldout": out / "run/data/heldout"}
    train, synthetic, heldout = (ImageSet(role=role, given=role, store=Store.open(at)) for role, at in places.items())
    findings = audit(
        train,
        synthetic,
        heldout,
        Question(),
        mesh=audit_mesh(at_most=len(synthetic.store)),
        kept=out / "cache",
        progress=boot.pairs_bar,
        tell=boot.say,
    )
    write(out, findings, command=boot.command())


if __name__ == "__main__":
    boot.run(main)
