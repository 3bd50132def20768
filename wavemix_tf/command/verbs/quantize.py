"""``wavemix-tf quantize``: quantization-aware fine-tuning of a trained network."""

from __future__ import annotations

from ...training.tasks import task_type
from ..options import Debug, OldSplit, Overwrite, RunFolder, Settings
from ..pages.formats import score_text
from ..run_folder import check_finished_data, check_folder, check_state, is_finished, saved_recipe
from ..terminal import announce_loading, console, step


def quantize(
    out: RunFolder,
    settings: Settings = None,
    old_split: OldSplit = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Make the trained network quantization-aware and fine-tune it: model.keras -> qat.keras."""
    recipe = saved_recipe(out, settings, also="qat_")
    begun = (out / "qat_training.json").is_file() or (out / "qat_checkpoint.npz").is_file()
    check_folder(out, recipe, overwrite, ignore=None if begun else "qat_")
    check_state(out, ["float"] if overwrite else ["float", "qat"])
    if not overwrite and is_finished(out, "qat"):
        check_finished_data(recipe, out, old_split)
        console.print(f"Nothing to do: {out / 'qat.keras'} is fine-tuned. --overwrite starts over.")
        return
    announce_loading()
    from ...tflite.quantization.quantizer import check_options
    from .. import exports, steps

    model = steps.load_model(out / "model.keras")
    check_options(model, observer=recipe.qat_observer, skip=recipe.qat_skip)
    seconds: dict[str, float] = {}
    with step(f"Read {recipe.dataset}", seconds):
        images = steps.load_images(recipe, out, quantizes=True, known_only=old_split)
    exports.delete_exports(out)
    result = steps.fine_tune(recipe, model, images, out, overwrite, seconds)
    unit = task_type(recipe).example_unit
    part = "" if unit == "images" else f"{unit} of "
    console.print(
        f"{out / 'qat.keras'}: {score_text(result.metric, result.validation_score)} on {part}the validation images, "
        f"{score_text(result.metric, result.test_score)} on {part}the test images."
    )
