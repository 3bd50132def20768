"""A run folder with a file for browsers and its kit, without a training."""

import shutil

from wavemix_tf.training import RECIPES

# Names that a page, a script or a Markdown table could take for something else.
HOSTILE = ("<img src=x onerror=fail()>", 'it\'s "quoted" & `ticks`', "</script>|日本語", "$&\\n{0}@{x}", "Käfer")


def web_run(folder, artifact, kit):
    """``folder`` as a run folder whose file for browsers is ``artifact``, with its kit."""
    (folder / "recipe.json").write_text(RECIPES["digits"].to_json())
    artifact.save(folder / "exports" / "web-int8.tflite")
    shutil.copytree(kit, folder / "exports" / "web-int8_kit")
    return folder
