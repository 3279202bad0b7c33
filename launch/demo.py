"""The whole way on phantoms that ship with the code: draw, train, sample, audit, report.

    python -m launch.demo [--out=DIR] [--volumes]

A StyleGAN2 and a diffusion model are trained on the same few patients, for long enough to memorize what they memorize;
the audit says which images are copies, and how sure that is, against patients whom no model saw. One page shows both
(Akbar et al., figure 3); the runs' metrics show when copying began. Volumes go the way of Dar et al.: an autoencoder is
trained on them, a diffusion model on its latents, and what that draws is decoded.
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from configs import demo as demo_config
from launch import boot, sampling, training
from launch.latents import encode_store
from memjax.errors import UserError

if TYPE_CHECKING:
    from memjax.audit.report.compared import Audited

_OUT = flags.DEFINE_string("out", "out/demo", "Where to write; a finished demo there is replaced, a begun one goes on.")
_VOLUMES = flags.DEFINE_bool("volumes", False, "3-D vessel phantoms instead of chest radiographs.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the phantoms and of the training.", lower_bound=0)
_SMOKE = flags.DEFINE_bool("smoke", False, "A few steps only: shows that everything runs, not what it finds.")

_MARK = "demo.json"  # only a folder with this mark is replaced
_NAMES = {"stylegan2": "StyleGAN2", "ddpm": "Diffusion model", "autoencoder": "Autoencoder"}


def main() -> None:
    """Draw, train, sample, audit."""
    kind = "volumes" if _VOLUMES.value else "pictures"
    words = [kind, *(["smoke"] if _SMOKE.value else [])]
    models = ("autoencoder", "ddpm") if _VOLUMES.value else ("stylegan2", "ddpm")
    configs = {model: demo_config.get_config(",".join([model, *words])) for model in models}
    for config in configs.values():
        config.seed = config.phantoms.seed = _SEED.value
    configs = {model: config.to_dict() for model, config in configs.items()}
    out = _folder(boot.place(_OUT), {"models": list(configs), "words": words, "seed": _SEED.value})
    boot.keep_freed_memory()
    boot.use_compilation_cache(out / "cache" / "compiled")
    training.draw_phantoms(configs["ddpm"]["phantoms"], out / "data")

    trained_on, audited = out / "data", {}
    for model, config in configs.items():
        boot.say(f"{_NAMES[model]}:")
        _train(config, out / model / "run", trained_on)
        if model == "autoencoder":
            trained_on = out / "latents"
            _encode(out / model / "run", out / "data", trained_on)
            continue
        sampling.sample(out / model / "run", range(config["samples"]), out / model / "synthetic")
        audited[model] = _audited(out, model, images_seen=config["steps"] * config["batch_size"])
    from memjax.audit.report.comparison import write

    page = write(out, {_NAMES[model]: one for model, one in audited.items()}, command=boot.command())
    boot.say(f"the report: {page}; metrics and pictures of the training: {out}/{{{','.join(configs)}}}/run")


def _train(config: dict, run: Path, data: Path) -> None:
    with boot.StopRequests() as stop:
        outcome = training.train(config, run, data=data / "train", heldout=data / "heldout", is_asked_to_stop=stop)
    if outcome.was_asked:
        raise KeyboardInterrupt


def _encode(run: Path, images: Path, latents: Path) -> None:
    for part in ("train", "heldout"):
        if not (latents / part).exists():  # a demo that was interrupted goes on
            encode_store(images / part, run, latents / part)


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


def _audited(out: Path, model: str, *, images_seen: int) -> "Audited":
    """Audit the images of one model and write its own report."""
    from memjax.audit.audit import Question, audit
    from memjax.audit.findings import ImageSet
    from memjax.audit.report.compared import Audited
    from memjax.audit.report.report import write
    from memjax.data.store import Store
    from memjax.mesh import audit_mesh

    boot.say("comparing every synthetic image with every training image, under every flip and quarter turn …")
    places = {"train": out / "data/train", "synthetic": out / model / "synthetic", "heldout": out / "data/heldout"}
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
    write(out / model, findings, command=boot.command())
    return Audited(findings=findings, link=f"{model}/report.html", images_seen=images_seen)


if __name__ == "__main__":
    boot.run(main)
