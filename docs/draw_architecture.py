"""Draw docs/pipeline.svg (from a model to a verified file) and docs/architecture.svg (the folders and their imports).

python docs/draw_architecture.py
"""

from __future__ import annotations

from html import escape
from pathlib import Path

INK, MUTED, PAGE = "#1c2431", "#56606f", "#fbfaf7"
BLUE, ORANGE, GREEN, VIOLET, GRAY = "#2c6cb0", "#c2541f", "#1f7a63", "#6f4fb0", "#8a8578"
FONT = "font-family='Helvetica, Arial, sans-serif'"


class Picture:
    """An SVG of boxes and arrows; positions in pixels from the top left."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.parts = [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img' aria-label='{title}'>",
            "<defs><marker id='tip' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' markerHeight='7' "
            f"orient='auto'><path d='M0 0L10 5L0 10z' fill='{MUTED}'/></marker></defs>",
            f"<rect width='{width}' height='{height}' rx='12' fill='{PAGE}'/>",
        ]

    def text(self, x: float, y: float, words: str, size: int = 15, color: str = INK, **options: str) -> None:
        anchor, weight = options.get("anchor", "middle"), options.get("weight", "normal")
        self.parts.append(
            f"<text x='{x}' y='{y}' {FONT} font-size='{size}' font-weight='{weight}' fill='{color}' "
            f"text-anchor='{anchor}'>{escape(words)}</text>"
        )

    def box(self, x: int, y: int, width: int, height: int, title: str, lines: tuple[str, ...], color: str) -> None:
        self.parts.append(
            f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='8' fill='white' stroke='{color}' "
            "stroke-width='2'/>"
        )
        self.text(x + width / 2, y + 27, title, 16, color, weight="bold")
        for row, line in enumerate(lines):
            self.text(x + width / 2, y + 51 + 20 * row, line, 13, INK)

    def arrow(self, *points: tuple[int, int]) -> None:
        path = " L".join(f"{x} {y}" for x, y in points)
        self.parts.append(f"<path d='M{path}' fill='none' stroke='{MUTED}' stroke-width='2' marker-end='url(#tip)'/>")

    def save(self, name: str) -> None:
        text = "\n".join([*self.parts, "</svg>", ""])
        Path(__file__).resolve().with_name(name).write_text(text, encoding="utf-8")


def pipeline() -> None:
    picture = Picture(1000, 590, "From a Keras model to a verified file")
    top = 30
    picture.box(30, top, 270, 118, "Keras model", ("functional, trained with fit", "float32", "any backend"), BLUE)
    picture.box(
        365,
        top,
        270,
        118,
        "Graph",
        ("a copy, nested models opened", "few canonical forms", "Haar + 1x1 contracted"),
        GREEN,
    )
    picture.box(
        700,
        top,
        270,
        118,
        "QAT model",
        ("fake-quant layers", "ranges from calibration images", "fine-tuned with fit"),
        GREEN,
    )
    picture.text(500, 173, "copy compared with the model before rounding: 1e-3 of the spread", 13, ORANGE)
    picture.arrow((300, top + 59), (361, top + 59))
    picture.arrow((635, top + 59), (696, top + 59))
    second = 210
    picture.box(
        700,
        second,
        270,
        138,
        "Lowering",
        (
            "batch norm folded, weights on their grid",
            "upsampling form of the target",
            "activations of the target",
            "one ordered list of passes",
        ),
        GREEN,
    )
    picture.box(
        365, second, 270, 138, "Converter", ("TensorFlow Lite", "trained ranges kept", "metadata, labels"), GRAY
    )
    picture.box(
        30,
        second,
        270,
        138,
        "Audit",
        (
            "every op in the target's table",
            "every rule of the op",
            "no float op in int8 files",
            "Vela: no op left to the CPU",
        ),
        ORANGE,
    )
    picture.arrow((835, top + 118), (835, second - 4))
    picture.arrow((700, second + 69), (639, second + 69))
    picture.arrow((365, second + 69), (304, second + 69))
    third = 400
    picture.box(
        30,
        third,
        270,
        138,
        "Runtimes",
        ("LiteRT with XNNPACK", "LiteRT reference kernels", "TensorFlow Lite Micro", "error in quantization steps"),
        ORANGE,
    )
    picture.box(
        365,
        third,
        270,
        138,
        "Judgement",
        ("against the float model", "SNR, top-1 agreement, peaks", "float16 range", "32 or more images"),
        ORANGE,
    )
    picture.box(
        700,
        third,
        270,
        138,
        "Artifact",
        (
            ".tflite, labels, model card",
            "C array; Vela's file",
            "kit: Kotlin, C, test vectors",
            "written only if all passed",
        ),
        BLUE,
    )
    picture.arrow((165, second + 138), (165, third - 4))
    picture.arrow((300, third + 69), (361, third + 69))
    picture.arrow((635, third + 69), (696, third + 69))
    picture.text(500, 570, "orange: checks that refuse the file", 13, MUTED)
    picture.save("pipeline.svg")


def architecture() -> None:
    picture = Picture(1000, 700, "Folders of the project and the direction of imports")
    picture.box(
        30,
        25,
        940,
        96,
        "cli.py and command/",
        ("one verb a function; run folder, pages, terminal", "joins training and tflite; nothing imports it"),
        VIOLET,
    )
    picture.box(30, 165, 440, 265, "training/", ("Recipe, named recipes", "", "", "", "", "", "", ""), BLUE)
    picture.box(530, 165, 440, 265, "tflite/", ("", "", "", "", "", "", "", ""), ORANGE)
    for row, (name, words) in enumerate(
        (
            ("data/", "folders, masks, TFDS, arrays, splits"),
            ("fitting/", "fit: batches, tasks, optimizers, resume"),
            ("searching/", "search: spaces, budgets, oracles"),
        )
    ):
        picture.text(60, 260 + 56 * row, name, 15, BLUE, anchor="start", weight="bold")
        picture.text(160, 260 + 56 * row, words, 14, INK, anchor="start")
    folders = (
        ("layers/  file/", "fake-quant layers; the file format"),
        ("targets/  c_source/", "devices, audit; a file as C"),
        ("graph/", "a model as a graph, passes"),
        ("runtimes/  verification/", "files run and compared"),
        ("quantization/", "ranges, rounding, the copy check"),
        ("kit/  exporting/", "code for devices, export"),
        ("measuring/", "benchmark, costs for a search"),
    )
    for row, (name, words) in enumerate(folders):
        picture.text(552, 222 + 30 * row, name, 14, ORANGE, anchor="start", weight="bold")
        picture.text(728, 222 + 30 * row, words, 13, INK, anchor="start")
    picture.box(30, 475, 940, 130, "wavemix_tf/  (the core)", ("", "", ""), GREEN)
    core = (
        ("layers/", "wavelets, blocks, mixers"),
        ("networks/", "WaveMix, mixers, ViT, DynaMixer"),
        ("checkpoints/", "PyTorch weights"),
        ("presets/", "trained networks"),
    )
    for column, (name, words) in enumerate(core):
        picture.text(145 + 237 * column, 540, name, 15, GREEN, weight="bold")
        picture.text(145 + 237 * column, 564, words, 13)
    picture.text(500, 592, "variants, profiler, metrics, tiling, inspection", 13, MUTED)
    picture.box(30, 640, 940, 44, "Keras 3, NumPy, PyWavelets", (), GRAY)
    picture.arrow((250, 121), (250, 161))
    picture.arrow((750, 121), (750, 161))
    picture.arrow((250, 430), (250, 471))
    picture.arrow((750, 430), (750, 471))
    picture.arrow((500, 605), (500, 636))
    picture.save("architecture.svg")


if __name__ == "__main__":
    pipeline()
    architecture()
