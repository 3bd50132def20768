"""The verb `explain`: for each image, one picture of wavelet bands and class evidence. Imports Keras."""

from __future__ import annotations

import difflib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..colours import overlay, palette
from ..escaping import printable
from ..inspection import BANDS, BlockBands, Saliency, block_bands, saliency, wavemix_blocks
from .image_files import ImageFile, PictureFolder
from .networks import Network, NoNumbersError, finite, load_network, probabilities
from .pages.figure_style import ACCENT, FLOAT, INK, INT8, LINE, MUTED, STYLE
from .predicting import first_class, fit_pixels, note_nearly_black, run_whole
from .steps import network_name
from .terminal import console, one_line, print_to_stderr

MAPS = 2  # channels shown per level
MOST_ROWS = 4  # levels of blocks whose maps are shown
CALM, WARM = "#2c6cb0", "#d4602a"  # negative and positive coefficients, as in the report
BAND_COLOURS = dict(zip(BANDS, (LINE, FLOAT, ACCENT, INT8), strict=True))


def explain_images(
    images: Sequence[ImageFile], path: Path, out: Path | None, pictures: PictureFolder, class_name: str | None
) -> int:
    """Draw explain_<stem>.png of every image; report unreadable images on standard error and skip them.

    Args:
        images: In this order.
        path: .keras file.
        out: Run folder, if given.
        pictures: Folder for the pictures.
        class_name: Class to explain; None: the predicted class.

    Returns:
        Number of images that could not be read, or whose outputs are not finite.

    Raises:
        ValueError: A model without WaveMix blocks, an unknown class, a class for a model that is no classifier.
    """
    network = load_network(path, out, 1)
    wavemix_blocks(network.model)
    chosen = None if class_name is None else _class_index(class_name, network)
    failures = 0
    deep: dict[str, int] = {}
    for image in images:
        try:
            pixels = fit_pixels(image.read(network.image_shape[2], deep), network)
        except (OSError, ValueError) as error:
            failures += 1
            print_to_stderr(f"wavemix-tf: {one_line(error)}")
            continue
        try:
            with console.status(f"  {image.name}"):
                picture = _explain(image.name, pixels, network, chosen)
        except NoNumbersError as error:
            failures += 1
            print_to_stderr(f"wavemix-tf: {image.name}: {error}")
            continue
        (place,) = pictures.places(image.stem, ["explain_{}.png"])
        print(printable(f"{image.name}: {pictures.save(place, picture)}"), flush=True)
    note_nearly_black(deep)
    return failures


def _class_index(name: str, network: Network) -> int:
    if network.kind.large_outputs:
        raise ValueError(f"--class is for classifiers. Received: a network for {network.task}")
    if name not in network.names:
        near = difflib.get_close_matches(name, network.names, n=3, cutoff=0.4) or network.names[:10]
        raise ValueError(f"--class must be one of the network's classes, such as {', '.join(near)}. Received: {name}")
    return network.names.index(name)


def _explain(name: str, pixels: np.ndarray, network: Network, chosen: int | None) -> Any:
    values = pixels.astype(np.float32) / 255
    bands = block_bands(network.model, values)
    title = f"{Path(name).name}  ·  {network_name(network.model)}"
    shown, caption, words = EXPLANATIONS[network.kind.targets](pixels, values, network, chosen)
    return draw(pixels, shown, caption, words, bands, title)


Explanation = tuple[np.ndarray, str, str]  # picture beside the image, its caption, text below


def _explain_class(pixels: np.ndarray, values: np.ndarray, network: Network, chosen: int | None) -> Explanation:
    one = network.model.outputs[0].shape[-1] == 1  # the logit of the second of two classes
    found = saliency(network.model, values, 0 if one else chosen)
    shares = probabilities(finite(found.logits))
    index = 1 if one else found.class_index
    words = f"{network.names[index]}  {shares[index]:.1%}"
    best = int(shares.argmax())
    if best != index:
        words += f"   (predicted: {network.names[best]}  {shares[best]:.1%})"
    return heat(pixels, found), "class evidence (Grad-CAM)", words


def _explain_mask(pixels: np.ndarray, values: np.ndarray, network: Network, chosen: int | None) -> Explanation:
    output = run_whole(network, values[None])[0]
    return overlay(pixels, first_class(output), palette(network.classes)), "classes", ""


def _explain_enlarged(pixels: np.ndarray, values: np.ndarray, network: Network, chosen: int | None) -> Explanation:
    output = run_whole(network, values[None])[0]
    return np.clip(output, 0, 1), f"enlarged {network.scale} times", ""


EXPLANATIONS = {"labels": _explain_class, "masks": _explain_mask, "images": _explain_enlarged}  # by ``Task.targets``


def heat(pixels: np.ndarray, found: Saliency) -> np.ndarray:
    """Draw the saliency map over the image in pale gray: uint8 (H, W, 3)."""
    import matplotlib
    from PIL import Image

    height, width = pixels.shape[:2]
    grown = Image.fromarray(found.map).resize((width, height), Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(grown), 0, 1)[..., None]
    grey = np.repeat(pixels.mean(axis=-1, keepdims=True), 3, axis=-1) / 255
    colour = matplotlib.colormaps["inferno"](0.15 + 0.8 * strength[..., 0])[..., :3]
    # Pixels without evidence stay gray; the opacity rises faster than the color.
    opacity = 0.75 * strength**0.7
    return np.round(255 * ((1 - opacity) * (0.15 + 0.7 * grey) + opacity * colour)).astype(np.uint8)


def draw(
    pixels: np.ndarray, shown: np.ndarray, caption: str, words: str, bands: Sequence[BlockBands], title: str
) -> Any:
    """Draw the picture of one image.

    Args:
        pixels: Input of the network, uint8 (H, W, C).
        shown: Picture beside the image: an overlay, or the enlarged image.
        caption: Caption of that picture.
        words: Text below that picture.
        bands: From ``block_bands``.
        title: Title of the whole picture.

    Returns:
        A Pillow image.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from PIL import Image

    rows = _chosen_rows(bands)
    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = Figure(figsize=(12.4, 4.9 + 1.34 * len(rows)), dpi=110)
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05))
        parts: Any = figure.subfigures(2, 1, height_ratios=[4.4, 0.5 + 1.34 * len(rows)])
        above, below = parts
        above.suptitle(title, x=0.008, ha="left", color=INK, fontsize=13, fontweight="bold")
        left, middle, right = above.subplots(1, 3, width_ratios=[1, 1, 1.5])
        _image(left, pixels, f"input: {pixels.shape[1]} × {pixels.shape[0]}")
        _image(middle, shown, caption)
        if words:
            middle.set_xlabel(words, color=INK, fontsize=11.5, fontweight="bold", labelpad=7)
        _energies(right, bands)
        _maps(below, rows)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    buffer.seek(0)
    return Image.open(buffer)


def _image(axis: Any, pixels: np.ndarray, title: str) -> None:
    shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    axis.imshow(shown, cmap="gray", interpolation="nearest" if max(pixels.shape) < 200 else "antialiased")
    axis.set_title(title)
    _remove_ticks(axis)


def _remove_ticks(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(True)
        spine.set_color(LINE)


def _energies(axis: Any, bands: Sequence[BlockBands]) -> None:
    """Draw stacked bars, with the details at the bottom so that they can be compared; LL fills up to 100 %."""
    from matplotlib.ticker import PercentFormatter

    blocks = list(dict.fromkeys(row.block for row in bands))
    places, labels = [], []
    for index, block in enumerate(blocks):
        levels = [row for row in bands if row.block == block]
        width = 0.84 / len(levels)
        for row in levels:
            place = index + (row.level - 0.5) * width - 0.42
            bottom = 0.0
            for name in ("LH", "HL", "HH", "LL"):
                share = row.energy[BANDS.index(name)]
                axis.bar(place, share, 0.9 * width, bottom=bottom, color=BAND_COLOURS[name], linewidth=0)
                bottom += share
            places.append(place)
            labels.append(f"{row.level}")
    most = max(sum(row.energy[1:]) for row in bands)
    axis.set_ylim(0, min(1.0, 1.3 * most + 0.005))
    axis.set_xlim(-0.6, len(blocks) - 0.4)
    several = len(bands) > len(blocks)
    if several and len(places) <= 32:
        axis.set_xticks(places, labels, fontsize=8)
        for index in range(len(blocks)):
            axis.annotate(
                f"{index + 1}",
                (index, 0),
                xycoords=("data", "axes fraction"),
                xytext=(0, -17),
                textcoords="offset points",
                ha="center",
                va="top",
                color=INK,
                fontsize=9,
                fontweight="bold",
            )
        axis.set_xlabel("level, and below it the block", labelpad=17)
    else:
        axis.set_xticks(range(len(blocks)), [str(index + 1) for index in range(len(blocks))])
        axis.set_xlabel("block" + (" (bars: its levels, the finest first)" if several else ""))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axis.grid(axis="x", visible=False)
    axis.set_title("share of energy in the detail bands; the rest is LL")
    handles = [
        _square(BAND_COLOURS[name], f"{name}  {meaning}")
        for name, meaning in (
            ("LH", "horizontal edges"),
            ("HL", "vertical edges"),
            ("HH", "diagonals"),
            ("LL", "average"),
        )
    ]
    axis.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.19 if several else -0.12),
        ncols=4,
        handlelength=0.9,
        handletextpad=0.4,
        columnspacing=1.2,
        fontsize=8.5,
    )


def _square(colour: str, label: str) -> Any:
    """Return a square for the legend."""
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)


def _chosen_rows(bands: Sequence[BlockBands]) -> list[BlockBands]:
    """Return level 1 of evenly spaced blocks and, if there are more levels, the deepest one of the last block."""
    blocks = list(dict.fromkeys(row.block for row in bands))
    deepest = [row for row in bands if row.block == blocks[-1]][-1]
    count = min(len(blocks), MOST_ROWS - (deepest.level > 1))
    spread = [blocks[round(index)] for index in np.linspace(0, len(blocks) - 1, count)]
    rows = [next(row for row in bands if row.block == block and row.level == 1) for block in spread]
    return [*rows, *([deepest] if deepest.level > 1 else [])]


def _maps(figure: Any, rows: Sequence[BlockBands]) -> None:
    """Draw a row for each level: its channels with the strongest details, each as its four bands."""
    figure.suptitle(
        "inside: the two channels with the strongest details, each as its four bands "
        "(gray: average; orange: positive, blue: negative)",
        x=0.008,
        ha="left",
        color=INK,
        fontsize=10.5,
    )
    # A narrow empty column keeps the channels apart.
    axes = figure.subplots(len(rows), 4 * MAPS + 1, squeeze=False, width_ratios=[1, 1, 1, 1, 0.12, 1, 1, 1, 1])
    for line, row in zip(axes, rows, strict=True):
        line[4].set_visible(False)
        cells = [*line[:4], *line[5:]]
        channels = row.strongest(MAPS)
        for cell in cells[4 * len(channels) :]:
            cell.set_visible(False)
        for number, channel in enumerate(channels):
            values = row.bands[..., channel]
            limit = max(float(np.quantile(np.abs(values[1:]), 0.99)), 1e-9)
            for band, name in enumerate(BANDS):
                cell = cells[4 * number + band]
                if band == 0:
                    cell.imshow(values[0], cmap="gray", interpolation="nearest")
                else:
                    cell.imshow(_signed(values[band], limit), interpolation="nearest")
                _remove_ticks(cell)
                if row is rows[0]:
                    cell.set_title(name, color=MUTED, fontsize=9, loc="center", pad=4)
        height, width = row.bands.shape[1:3]
        block = row.block.removeprefix("block")
        line[0].set_ylabel(f"block {block}, level {row.level}\n{width} × {height}", color=INK, fontsize=8.5)


def _signed(values: np.ndarray, limit: float) -> np.ndarray:
    """Return coefficients around zero as RGB: white for zero, two hues for the signs."""
    from matplotlib.colors import to_rgb

    strength = (np.clip(np.abs(values) / limit, 0, 1) ** 0.75)[..., None]
    hue = np.where(values[..., None] >= 0, to_rgb(WARM), to_rgb(CALM))
    return np.round(255 * (1 - strength + strength * hue)).astype(np.uint8)
