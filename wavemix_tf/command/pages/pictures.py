"""Sections of the report page for networks that output masks or images."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from .formats import cell, decibels, percent


def class_iou(report: Mapping[str, Any]) -> str:
    """IoU of each class, for the float network and the first int8 file."""
    names = (report.get("dataset") or {}).get("class_names") or []
    rows = [row for row in report.get("results", []) if row.get("iou")]
    if not rows:
        return ""
    shown = [rows[0], *[row for row in rows if row.get("file") and row.get("dtype") == "int8"][:1]]
    pixels = rows[0].get("pixels") or [0] * len(names)
    colours = report.get("colours") or {}
    body = ""
    for index, name in enumerate(names):
        cells = cell("pixels", f"{pixels[index] / max(sum(pixels), 1):.1%}", "n")
        for row in shown:
            value = row["iou"][index]
            kind = "int8" if str(row["dtype"]).startswith("int") else "float"
            share = 0.0 if value is None else 100 * value
            bar = f"<i class='bar {kind}' style='--share:{share:.1f}%'></i>"
            cells += cell(str(row["name"]), f"{percent(value)}{bar}", "n")
        swatch = f"<i class='dot' style='background:{colours[name]}'></i>" if name in colours else ""
        body += f"<tr><th scope='row'>{swatch}{escape(str(name))}</th>{cells}</tr>"
    head = "".join(f"<th class='n'>{escape(str(row['name']))}</th>" for row in shown)
    note = (
        "Intersection over union from one confusion matrix over all test pixels with a class; its mean over the "
        "classes is the mIoU. A dash: the class neither occurs nor is predicted."
    )
    return (
        f"<section class='card'><h2>IoU per class</h2><p class='note'>{note}</p>"
        "<div class='scroll'><table class='small'>"
        f"<thead><tr><th>class</th><th class='n'>pixels</th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        "</section>"
    )


def enlargements(report: Mapping[str, Any]) -> str:
    """PSNR and SSIM of bicubic interpolation and of each model and file."""
    rows = [row for row in report.get("results", []) if row.get("ssim_y") is not None]
    if not rows:
        return ""
    body = "".join(
        f"<tr><th scope='row'>{escape(str(row['name']))}</th>"
        + cell("PSNR-Y", decibels(row["psnr_y"]), "n")
        + cell("SSIM-Y", f"{row['ssim_y']:.4f}", "n")
        + cell("official PSNR", decibels(row["official_psnr_y"]), "n")
        + cell("images", f"{row['images']:,}", "n")
        + "</tr>"
        for row in rows
    )
    note = (
        f"Means over the test images, enlarged {report['scale']} times: luma of BT.601 in the studio range, without a "
        f"border of {report['scale']} pixels. The column official PSNR is computed as in the official WaveMixSR "
        "scripts: full range, with the border, the true image's largest luma as the peak."
    )
    head = "".join(f"<th class='n'>{name}</th>" for name in ("PSNR-Y", "SSIM-Y", "official PSNR", "images"))
    return (
        f"<section class='card'><h2>Comparison with bicubic interpolation</h2><p class='note'>{note}</p>"
        "<div class='scroll'><table class='small'>"
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def pictures(report: Mapping[str, Any]) -> str:
    """Test images, and the outputs of the models."""
    rows = report.get("pictures") or []
    if not rows:
        return ""
    body = "".join(
        "<div class='row'>"
        + "".join(
            f"<figure><img alt='' src='{escape(shown['image'])}'>"
            f"<figcaption>{escape(str(shown['title']))}</figcaption></figure>"
            for shown in row["cells"]
        )
        + "</div>"
        for row in rows
    )
    colours = report.get("colours") or {}
    legend = "".join(
        f"<span><i class='dot' style='background:{colour}'></i>{escape(str(name))}</span>"
        for name, colour in colours.items()
    )
    note = "Test images, ground truth and outputs" + ("; colors are classes." if legend else ".")
    return (
        f"<section class='card pictures'><h2>Outputs</h2><p class='note'>{note}</p>{body}"
        f"{f'<p class=legend>{legend}</p>' if legend else ''}</section>"
    )
