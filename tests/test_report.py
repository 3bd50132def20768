"""The report page and the result table, from a hand-written report.json."""

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from wavemix_tf.command.pages import formats, image_urls, report, terminal_tables
from wavemix_tf.command.pages.diagnosis import BANDS
from wavemix_tf.command.pages.figure_style import THEME
from wavemix_tf.command.pages.verification import WORST_LAYERS
from wavemix_tf.command.run_folder import REPORT_FORMAT

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags nest, and collects ids and outside references."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.references = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href"):
                self.references.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()


@pytest.fixture
def history():
    epochs = list(range(1, 13))
    curve = [1 - 0.7 / e for e in epochs]
    float_stage = {
        "epoch": epochs,
        "accuracy": curve,
        "val_accuracy": curve,
        "loss": [1 / e for e in epochs],
        "val_loss": curve,
    }
    return {"float": float_stage, "qat": {"epoch": [1], "accuracy": [0.97], "val_accuracy": [0.98]}}


def cell(error, bound, fault=None, images=20):
    return {
        "images": images,
        "mean_error_steps": error,
        "max_error_steps": 2 * error,
        "agreement": 0.95,
        "counted": images,
        "accuracy": 0.9,
        "bound_steps": bound,
        "fault": fault,
    }


def layer_rows(count):
    """A clean network whose layer 7 is bad; the first tensor is exact."""
    return [
        {
            "name": f"block{index}_<conv>",
            "shape": [8, 8, 4],
            "step": 0.01,
            "file_error_steps": 0.001 * index,
            "file_differs": 0.001 * index,
            "noise_db": 100.0 if index == 0 else 40.0 - 20 * (index >= 7),
            "output_share": 0.9 if index == 7 else 0.1 / (count - 1),
            "lost_db": 10.0 if index == 7 else 0.05,
        }
        for index in range(count)
    ]


@pytest.fixture
def run():
    random = np.random.default_rng(0)
    logits = random.normal(size=60)
    image = image_urls.png_url(random.integers(0, 256, (8, 8, 3)))
    return {
        "format": REPORT_FORMAT,
        "name": "cats & <dogs>",
        "command": "wavemix-tf run --data 'cats & <dogs>'",
        "dataset": {"class_names": ["cat", "<dog>"], "image_shape": [8, 8, 3], "sizes": {"train": 90, "test": 20}},
        "model": {"parameters": 1234},
        "machine": {"cpu": "a CPU"},
        "results": [
            {"name": "float model", "runtime": "Keras", "dtype": "float32", "accuracy": 0.95},
            {
                "name": "mcu-int8",
                "runtime": "TFLite Micro",
                "dtype": "int8",
                "accuracy": 0.9,
                "size_bytes": 40_000,
                "latency_ms": {"p50": 1.234, "p90": 2.5},
                "arena_bytes": 65_536,
                "file": "exports/mcu-int8.tflite",
            },
        ],
        "confusion": {"of": "mcu-int8", "matrix": [[9, 1], [1, 9]]},
        "scatter": {
            "of": "mcu-int8",
            "images": 30,
            "step": 0.1,
            "float": logits.tolist(),
            "qat": (logits + 0.01).tolist(),
            "int8": (np.round(logits / 0.1) * 0.1).tolist(),
        },
        "wavelet": {
            "label": "cat",
            "image_png": image,
            "bands": {b: random.normal(size=(4, 4)).tolist() for b in BANDS},
        },
        "mistakes": [{"image_png": image, "label": "<dog>", "prediction": "cat"}],
        "exports": [
            {
                "name": "mcu-int8",
                "file": "exports/mcu-int8.tflite",
                "target": "mcu",
                "dtype": "int8",
                "size_bytes": 40_000,
                "arena_bytes": 65_536,
                "ops": {"CONV_2D": 3},
                "input": {"dtype": "int8", "shape": [1, 8, 8, 3], "scale": 1 / 255, "zero_point": -128},
                "output": {"dtype": "int8", "shape": [1, 2], "scale": 0.1, "zero_point": 3},
                "checks": [{"name": "operators", "measured": "3, all allowed", "bound": "", "passed": True}],
                "card": {"labels": "cat, <dog>"},
            }
        ],
        "verification": {
            "images": 20,
            "rows": [
                {"file": "android-<cpu>", "dtype": "float32", "cells": {"litert-xnnpack": cell(2e-5, 0.002)}},
                {
                    "file": "mcu-int8",
                    "dtype": "int8",
                    "cells": {
                        "tflite-micro": cell(4.5, 4.0, fault='off by "4.5"', images=12),
                        "litert-xnnpack": cell(0.012, 2.0),
                        "keras-fake-quant": cell(1.25, None),
                    },
                },
            ],
            "layers": {"of": "mcu-int8", "images": 16, "rows": layer_rows(12)},
        },
        "recipe": {"name": "cats", "model_args": {"width": 8}, "epochs": 3},
        "seconds": {"fit": 1.0},
        "versions": {"keras": "3"},
    }


@pytest.mark.slow
def test_page_is_whole_and_needs_nothing_else(run, history):
    text = report.render_html(run, history)
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    for reference in page.references:
        assert reference.startswith(("data:image/png;base64,", "#")), reference
    assert "<script" not in text
    assert not re.search(r"url\((?!#)", text)
    targets = set(re.findall(r"url\(#([^)]+)\)", text)) | {r[1:] for r in page.references if r.startswith("#")}
    assert targets <= set(page.ids)
    assert "<dog>" not in text
    for heading in ("Results", "Training", "Confusion matrix", "Float against int8", "Wavelet bands", "Exported files"):
        assert f">{heading}</h2>" in text
    for number in ("95.00 %", "90.00 %", "39.1 KiB", "64.0 KiB", "1.23 / 2.50", "1,234 parameters"):
        assert number in text


@pytest.mark.slow
def test_figures_follow_the_theme(run, history):
    text = report.render_html(run, history)
    figures = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--muted)" in figures
    assert "var(--int8)" in figures
    for placeholder in THEME:
        assert placeholder not in figures


@pytest.mark.slow
def test_same_report_same_page(run, history):
    assert report.render_html(run, history) == report.render_html(run, history)


def test_every_part_may_be_missing(run, history):
    for part in run:
        Page(report.render_html({key: value for key, value in run.items() if key != part}, history))
    Page(report.render_html({}, {}))


@pytest.mark.slow
def test_many_classes_and_one_epoch(run):
    run["dataset"]["class_names"] = [f"class {i}" for i in range(60)]
    run["confusion"]["matrix"] = np.eye(60, dtype=int).tolist()
    text = report.render_html(run, {"float": {"epoch": [1], "val_accuracy": [0.5], "loss": [float("nan")]}})
    Page(text)
    assert len(text) < 400_000


@pytest.mark.slow
def test_write_report_leaves_json_and_page_and_no_temporary_file(run, tmp_path):
    (tmp_path / "history.csv").write_text("epoch,accuracy,val_accuracy,loss\n1,0.5,0.6,1.5\n2,0.7,0.8,0.9\n")
    page = report.write_report(tmp_path, run)
    assert page.read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "report.json").read_text()) == run
    assert {path.name for path in tmp_path.iterdir()} == {"history.csv", "report.html", "report.json"}
    assert report.read_history(tmp_path)["float"]["val_accuracy"] == [0.6, 0.8]
    run["results"][0]["accuracy"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        report.write_report(tmp_path, run)


def test_results_table(run):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(terminal_tables.results_table(run))
    text = console.export_text()
    assert re.search(r"float model +Keras +95\.00 % +– +– +–", text)
    assert re.search(r"mcu-int8 +TFLite Micro +90\.00 % +39\.1 KiB +1\.23 +64\.0 KiB", text)


def test_verification_matrix(run):
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(terminal_tables.verification_table(run["verification"]))
    console.print(terminal_tables.worst_layers_text(run["verification"]["layers"]))
    text = console.export_text()
    assert re.search(r"file +LiteRT XNNPACK +TFLite Micro +Keras fake-quant", text)
    assert re.search(r"android-<cpu> +✓ 95\.00 % +– +–", text)
    assert re.search(r"mcu-int8 +✓ 95\.00 % +✗ 95\.00 % +95\.00 %", text)
    assert re.search(r"0\.012 steps +4\.500 steps +1\.250 steps", text)
    assert "top-1 90.00 %, 12 images" in text
    layers = [line for line in text.splitlines() if "of the noise" in line]
    assert len(layers) == WORST_LAYERS
    assert layers[0].split()[0] == "90.0%"
    assert layers[0].split()[-1] == "block7_<conv>"


@pytest.mark.slow
def test_verification_on_the_page(run):
    text = report.render_html(run)
    matrix = text[text.index(">Verification<") : text.index(">Accuracy loss per layer<")]
    assert matrix.count("mark pass") == 2
    assert matrix.count("mark fail") == 1
    assert matrix.count("mark unbound") == 1
    assert "off by &quot;4.5&quot;" in matrix
    assert "90.0%" in text[text.index(">Accuracy loss") :]
    run["verification"]["layers"]["rows"] = layer_rows(60)
    text = report.render_html(run)
    Page(text)
    assert len(text) < 400_000
    del run["verification"]["layers"]
    assert ">Accuracy loss" not in report.render_html(run)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.percent(0.98611), "98.61 %"),
        (formats.percent(None), "–"),
        (formats.kibibytes(1024), "1.0 KiB"),
        (formats.kibibytes(3 * 1024**2), "3.00 MiB"),
        (formats.milliseconds(0.1234), "0.123"),
        (formats.milliseconds(0.2), "0.200"),
        (formats.milliseconds(0.00912), "0.0091"),
        (formats.milliseconds(123.4), "123"),
    ],
)
def test_numbers(text, expected):
    assert text == expected
