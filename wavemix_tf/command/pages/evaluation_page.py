"""The page of `evaluate`, drawn from its ``report.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from . import diagnosis
from . import pictures as picture_sections
from .formats import cell, interval, kibibytes, metric_of, milliseconds, percent
from .result_table import latency_ms
from .style import page

FORMAT = 1  # version of report.json, raised when a field changes its meaning
KIND_WORDS = {
    "right->wrong": "right → wrong",
    "wrong->right": "wrong → right",
    "wrong->wrong": "wrong → wrong",
}


def points(share: float) -> str:
    """-0.0125 -> "-1.25 points": percentage points."""
    return f"{100 * share:+.2f} points"


def difference_text(against: Mapping[str, Any]) -> str:
    """Return the difference of the accuracies with its interval: "-1.25 points (-3.10 to +0.52)"."""
    low, high = against["interval"]
    return f"{points(against['difference'])} ({100 * low:+.2f} to {100 * high:+.2f})"


def p_text(value: float) -> str:
    """0.0129 -> "p = 0.013"."""
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"


def render_html(report: Mapping[str, Any]) -> str:
    """Render the page.

    Args:
        report: Content of ``report.json``.

    Returns:
        One HTML document without external references.
    """
    parts = (
        _header(report),
        _gate(report),
        _files(report),
        _changes(report),
        '<div class="grid">',
        diagnosis.confusion(report),
        _classes(report),
        picture_sections.class_iou(report),
        picture_sections.enlargements(report),
        "</div>",
        diagnosis.mistakes(report),
        picture_sections.pictures(report),
        _environment(report),
    )
    return page(escape(str(report["name"])), "\n".join(part for part in parts if part))


def _header(report: Mapping[str, Any]) -> str:
    dataset, model = report["dataset"], report["model"]
    metric, title, text = metric_of(report)
    row = next(row for row in report["results"] if row["name"] == report["name"])
    classes = f"{len(dataset['class_names'])} classes, " if dataset["class_names"] else ""
    facts = [str(dataset["folder"]), f"{classes}images {' × '.join(map(str, dataset['image_shape']))}"]
    if model["preprocessing"]:
        facts.append(str(model["preprocessing"]))
    between = interval(row[metric], row["images"]) if metric == "accuracy" else ""
    tiles = [(title, text(row[metric]), f"95 % interval {between}" if between else row["runtime"], "float")]
    if "classes" in report:
        scores = [one["f1"] for one in report["classes"] if one["f1"] is not None]
        tiles.append(("mean F1", percent(sum(scores) / len(scores)), "each class counts equally", "float"))
    tiles.append(("images", f"{row['images']:,}", f"{len(dataset['skipped']):,} skipped", "accent"))
    tiles.append(("file", kibibytes(model["size_bytes"]), model["target"] or model["runtime"], "int8"))
    if model["arena_bytes"]:
        tiles.append(("arena", kibibytes(model["arena_bytes"]), "RAM for all tensors", "int8"))
    cells = "".join(
        f"<div class='tile {kind}'><span>{escape(label)}</span><strong>{escape(value)}</strong>"
        f"<small>{escape(str(small))}</small></div>"
        for label, value, small, kind in tiles
    )
    notes = "".join(f"<li>{escape(str(text))}</li>" for text in report["notes"])
    return (
        f"<header><p class='kicker'>wavemix-tf · evaluation</p><h1>{escape(str(report['name']))}</h1>"
        f"<p class='facts'>{' · '.join(map(escape, facts))}</p>"
        f"<pre class='command'><code>$ {escape(str(report['command']))}</code></pre>"
        f"<div class='tiles'>{cells}</div>{f'<ul class=remarks>{notes}</ul>' if notes else ''}</header>"
    )


def _gate(report: Mapping[str, Any]) -> str:
    """The verdict on a new file, and the figures behind it."""
    against = report.get("against")
    if not against:
        return ""
    rule = (
        "the upper end of the interval must not be below 0"
        if against["max_drop"] is None
        else f"a fall of at most {against['max_drop']:g} percentage points is allowed"
    )
    changed = f"{against['changed']:,} of {report['dataset']['images']:,} images ({against['changed_share']:.2%})"
    limit = "" if against["max_changed"] is None else f" (allowed: {against['max_changed']:.2%})"
    kinds = ", ".join(f"{count:,} {KIND_WORDS[kind]}" for kind, count in against["kinds"].items())
    rows = [
        ("accuracy", f"{difference_text(against)}, {p_text(against['p_value'])}: {rule}"),
        ("changed class", f"{changed}{limit}: {kinds}"),
    ]
    failed = {"accuracy": any("accuracy" in text for text in against["failures"])}
    failed["changed class"] = any("changed class" in text for text in against["failures"])
    items = "".join(
        f"<li{' class=fail' if failed[name] else ''}><b>{name}</b> {escape(text)}</li>" for name, text in rows
    )
    verdict = "passes" if against["passed"] else "fails"
    return (
        f"<section class='card'><h2>Release gate: {verdict}</h2><p class='note'>{escape(str(report['name']))} against "
        f"the shipped {escape(str(against['shipped']['path']))}, on the same images. Interval of the difference: 95 %, "
        f"paired ({escape(against['interval_method'])}). p: McNemar's exact test, two-sided.</p>"
        f"<ul class='checks'>{items}</ul></section>"
    )


def _files(report: Mapping[str, Any]) -> str:
    """The new and the shipped file: accuracy, size, latency, arena, and the ratios."""
    against = report.get("against")
    if not against:
        return ""
    body = ""
    for row, label in zip(report["results"], ("new", "shipped"), strict=True):
        kind = "int8" if str(row["dtype"] or "").startswith("int") else "float"
        share = f"{percent(row['accuracy'])} <small>({interval(row['accuracy'], row['images'])})</small>"
        latency = f"{milliseconds(latency_ms(row, 'p50'))} / {milliseconds(latency_ms(row, 'p90'))}"
        body += (
            f"<tr><th scope='row'><i class='dot {kind}'></i>{label}: {escape(str(row['name']))}</th>"
            + cell("runtime", escape(str(row["runtime"])))
            + cell("top-1", share, "n")
            + cell("size", kibibytes(row["size_bytes"]), "n")
            + cell("p50 / p90 ms", latency, "n")
            + cell("arena", kibibytes(row["arena_bytes"]), "n")
            + "</tr>"
        )
    ratios = [against["size_ratio"], against["latency_ratio"], against["arena_ratio"]]
    texts = ["–" if value is None else f"× {value:.3f}" for value in ratios]
    body += (
        "<tr><th scope='row'>new over shipped</th>"
        + cell("runtime", "–")
        + cell("top-1", points(against["difference"]), "n")
        + "".join(cell(*pair, "n") for pair in zip(("size", "p50 / p90 ms", "arena"), texts, strict=True))
        + "</tr>"
    )
    timed = " and ".join(dict.fromkeys(str(row["latency_ms"]["runtime"]) for row in report["results"]))
    note = (
        f"Latency of one image in {escape(timed)} on this machine, one thread, both files timed in turns; the ratio is "
        "that of the p50. The accuracies are measured in the runtime named beside each file."
    )
    if against["latency_ratio"] is None:
        note += " There is no ratio of latencies measured in different runtimes."
    heads = "".join(f"<th class='n'>{name}</th>" for name in ("top-1", "size", "p50 / p90 ms", "arena"))
    return (
        f"<section class='card'><h2>Costs</h2><p class='note'>{note}</p><div class='scroll'><table>"
        f"<thead><tr><th>file</th><th>runtime</th>{heads}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _changes(report: Mapping[str, Any]) -> str:
    """Pictures of images whose class changed."""
    rows = report.get("changes") or []
    if not rows:
        return ""
    against = report["against"]
    cells = "".join(
        f"<figure title='{escape(str(row['file']))}'><img alt='' src='{escape(row['image_png'])}'><figcaption>"
        f"{escape(str(row['label']))}<small>{KIND_WORDS[row['change']]}</small>"
        f"<span>{escape(str(row['shipped']))} → {escape(str(row['new']))}</span>"
        f"<small>{row['shipped_confidence']:.1%} → {row['new_confidence']:.1%}</small>"
        f"<small>{escape(str(row['file']))}</small></figcaption></figure>"
        for row in rows
    )
    return (
        f"<section class='card'><h2>Images whose class changed</h2><p class='note'>{len(rows)} of "
        f"{against['changed']:,}, with the true class, the classes of the shipped and of the new file, and their "
        f"probabilities; newly wrong images first. <code>{escape(against['file'])}</code> lists all.</p>"
        f"<div class='thumbs'>{cells}</div></section>"
    )


def _classes(report: Mapping[str, Any]) -> str:
    """Precision, recall and F1 of each class."""
    rows = report.get("classes") or []
    if not rows:
        return ""
    body = "".join(
        f"<tr><th scope='row'>{escape(str(row['name']))}</th>"
        + cell("precision", percent(row["precision"]), "n")
        + cell("recall", percent(row["recall"]), "n")
        + cell("F1", percent(row["f1"]), "n")
        + cell("images", f"{row['images']:,}", "n")
        + cell("predicted", f"{row['predicted']:,}", "n")
        + "</tr>"
        for row in rows
    )
    heads = "".join(f"<th class='n'>{name}</th>" for name in ("precision", "recall", "F1", "images", "predicted"))
    note = (
        "Precision: share of the images predicted as the class that are of it. Recall: share of its images that are "
        "predicted as it. F1: their harmonic mean. A dash: the class is never predicted."
    )
    return (
        f"<section class='card'><h2>Classes</h2><p class='note'>{note}</p><div class='scroll'><table class='small'>"
        f"<thead><tr><th>class</th>{heads}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _environment(report: Mapping[str, Any]) -> str:
    model = report["model"]
    blocks = [
        ("Model", [(key, value) for key, value in model.items() if value is not None]),
        ("Software", report["versions"].items()),
        ("Machine", report["machine"].items()),
    ]
    parts = "".join(
        f"<details open><summary>{title}</summary><dl>"
        + "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>" for key, value in pairs)
        + "</dl></details>"
        for title, pairs in blocks
    )
    return (
        f"<section class='card'><h2>Model and environment</h2><div class='provenance'>{parts}</div>"
        f"<p class='note'>Written {escape(str(report['created']))}</p></section>"
    )
