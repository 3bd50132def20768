"""Figures on the page of a run: training, confusion, logits, wavelet bands and mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .formats import METRICS
from .image_urls import band_image
from .run_plots import confusion_matrix, logit_scatter, training_curves

BANDS = {
    "LL": "average",
    "LH": "horizontal edges",
    "HL": "vertical edges",
    "HH": "diagonals",
}


def _card(title: str, note: str, figure: str) -> str:
    return f"<section class='card'><h2>{title}</h2><p class='note'>{note}</p><figure>{figure}</figure></section>"


def curves(history: Mapping[str, Mapping[str, Sequence[float]]], metric: str) -> str:
    """Metric and loss by epoch."""
    if not any(history.values()):
        return ""
    note = (
        "First the float network, then the same weights fine-tuned with int8 arithmetic. "
        f"The epoch with the best {METRICS[metric][0]} on the validation images is kept."
    )
    return _card("Training", note, training_curves(history, metric, METRICS[metric][0]))


def confusion(report: Mapping[str, Any]) -> str:
    """The confusion matrix of one file or model."""
    confusion = report.get("confusion")
    if not confusion:
        return ""
    matrix = confusion["matrix"]
    names = (report.get("dataset") or {}).get("class_names") or [str(index) for index in range(len(matrix))]
    wrong = sum(count for row, counts in enumerate(matrix) for column, count in enumerate(counts) if row != column)
    total = sum(map(sum, matrix))
    note = f"Of {escape(str(confusion['of']))}: {wrong:,} of {total:,} test images are classified wrongly."
    return _card("Confusion matrix", note, confusion_matrix(matrix, names))


def scatter(report: Mapping[str, Any]) -> str:
    """Logits of an int8 file against those of the Keras models."""
    scatter = report.get("scatter")
    if not scatter:
        return ""
    note = (
        f"Logits of {escape(str(scatter['of']))} for {scatter['images']:,} test images. The file should compute the "
        "logits of the QAT model. The points against the float model show how far fine-tuning moved the logits."
    )
    return _card(
        "Float against int8",
        note,
        logit_scatter(scatter["int8"], scatter["qat"], scatter["float"], scatter.get("step")),
    )


def wavelet(report: Mapping[str, Any]) -> str:
    """The four bands of a test image."""
    wavelet = report.get("wavelet")
    if not wavelet:
        return ""
    details = [abs(v) for band in ("LH", "HL", "HH") for row in wavelet["bands"][band] for v in row]
    peak = max((abs(v) for row in wavelet["bands"]["LL"] for v in row), default=1.0)
    cells = "".join(
        "<div><img alt='{0} band' src='{1}'><span><b>{0}</b> {2}</span></div>".format(
            band,
            band_image(
                wavelet["bands"][band], signed=band != "LL", limit=peak if band == "LL" else max(details, default=1.0)
            ),
            meaning,
        )
        for band, meaning in BANDS.items()
    )
    figure = (
        f"<div class='wavelet'><div class='source'><img alt='test image' src='{escape(wavelet['image_png'])}'>"
        f"<span>test image, <b>{escape(str(wavelet['label']))}</b></span></div><div class='bands'>{cells}</div></div>"
    )
    note = (
        "One Haar transform of a test image, computed by <code>DWT2D</code>: four bands of half the side. Every "
        "block mixes its tokens with this transform, whose filters are fixed. "
        "<i class='dot int8'></i>positive <i class='dot float'></i>negative"
    )
    return _card("Wavelet bands", note, figure)


def _share(mistake: Mapping[str, Any]) -> str:
    """The probability of the predicted class, if it is known."""
    value = mistake.get("confidence")
    return "" if value is None else f"<small>{value:.1%}</small>"


def mistakes(report: Mapping[str, Any]) -> str:
    """Wrongly classified test images."""
    mistakes = report.get("mistakes") or []
    if not mistakes:
        return ""
    source = escape(str((report.get("confusion") or {}).get("of", "the model")))
    file = (report.get("predictions") or {}).get("file")
    listed = f"<code>{escape(str(file))}</code> lists every test image." if file else ""
    cells = "".join(
        f"<figure title='{escape(str(m.get('file', '')))}'><img alt='' src='{escape(m['image_png'])}'><figcaption>"
        f"{escape(str(m['label']))} <span>→ {escape(str(m['prediction']))}</span>{_share(m)}"
        f"<small>{escape(str(m.get('file', '')))}</small></figcaption></figure>"
        for m in mistakes
    )
    return (
        f"<section class='card'><h2>Mistakes</h2><p class='note'>{len(mistakes)} test images with their true class "
        f"and the class that {source} predicts; the most confident errors first. {listed}</p>"
        f"<div class='thumbs'>{cells}</div></section>"
    )
