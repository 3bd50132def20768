"""``wavemix-tf fit``: train the float network of a recipe."""

from __future__ import annotations

from ..arguments import start_weights
from ..options import Data, Debug, From, OldSplit, Overwrite, RecipeName, RecipeOut, Settings
from ..pages.formats import score_text
from ..run_folder import check_finished_data, check_state, choose_run, is_finished
from ..terminal import announce_loading, console, step


def fit(
    recipe: RecipeName = None,
    data: Data = None,
    out: RecipeOut = None,
    start: From = None,
    settings: Settings = None,
    old_split: OldSplit = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Train the float network of a recipe. Called again, it resumes after the last finished epoch."""
    chosen, out = choose_run(recipe, data, out, settings, overwrite, start)
    if not overwrite:
        check_state(out, ["float"])
    if not overwrite and is_finished(out, "float"):
        check_finished_data(chosen, out, old_split)
        console.print(f"Nothing to do: {out / 'model.keras'} is trained. --overwrite starts over.")
        return
    announce_loading()
    from .. import exports, steps

    steps.check_network(chosen)
    seconds: dict[str, float] = {}
    with step(f"Read {chosen.dataset}", seconds):
        images = steps.load_images(chosen, out, fresh=overwrite, known_only=old_split)
    exports.delete_exports(out)
    if start is not None:
        steps.begin_from(start_weights(start), chosen, images, out, overwrite)
    with step("Train", seconds):
        result = steps.train(chosen, images, out, overwrite)
    console.print(
        f"{out / 'model.keras'}: {score_text(result.metric, result.validation_score)} on the validation images "
        f"(epoch {result.best_epoch})."
    )
