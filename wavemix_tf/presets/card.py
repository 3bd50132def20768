"""`ModelCard`: what a preset's weights were trained on, how, by which command, and what they reach. Loads no Keras."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from ..escaping import markdown
from ..state_files import Fields, check_fields

UNKNOWN = "unknown"
UNITS = {"accuracy": ("%", 100.0), "mean_iou": ("%", 100.0), "psnr_y": ("dB", 1.0)}  # metric -> unit, factor
FIELDS: Fields = {
    **dict.fromkeys(("name", "task", "description", "network", "command", "license", "source"), str),
    **dict.fromkeys(("data", "versions"), dict),
    **dict.fromkeys(("results", "notes"), list),
    **dict.fromkeys(("seed", "parameters"), (int, type(None))),
    "metric": (str, type(None)),
    "recipe": (dict, type(None)),
}


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """The model card of a preset. A text that nobody gave is "unknown".

    Attributes:
        name: Name of the preset.
        task: "classification", "segmentation" or "super_resolution"; "" for other networks.
        description: What it is, in a sentence.
        network: The network's kind and size.
        parameters: Number of trainable parameters; None: unknown.
        data: "name", "source" and "license" of the dataset, and "train", "validation", "test": numbers of images.
        seed: Seed of the training; None: unknown.
        metric: "accuracy", "mean_iou" or "psnr_y"; None: not measured.
        results: What was measured: {"form": which weights or file, "runtime", "value": of the metric, "images": number
            of test images or None, "by": the command, or who published it}.
        command: The commands that made the preset.
        license: License of the weights.
        source: Who trained them, or where they are published.
        notes: Further sentences.
        recipe: The fields of the training's ``Recipe``; None: there was none.
        versions: Package -> version of the training.
    """

    name: str
    task: str = ""
    description: str = ""
    network: str = UNKNOWN
    parameters: int | None = None
    data: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"name": UNKNOWN, "license": UNKNOWN})
    seed: int | None = None
    metric: str | None = None
    results: tuple[Mapping[str, Any], ...] = ()
    command: str = UNKNOWN
    license: str = UNKNOWN
    source: str = UNKNOWN
    notes: tuple[str, ...] = ()
    recipe: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def value(self) -> float | None:
        """The metric of the float weights; None: not measured."""
        return float(self.results[0]["value"]) if self.results else None

    def to_dict(self) -> dict[str, Any]:
        """The card as a JSON-able dict."""
        return dataclasses.asdict(self) | {"results": [dict(row) for row in self.results], "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, found: Any) -> ModelCard:
        """Read the result of ``to_dict``; ValueError if a field is missing or of another type."""
        check_fields(found, FIELDS)
        for row in found["results"]:
            check_fields(row, {"form": str, "runtime": str, "value": float, "images": (int, type(None)), "by": str})
        names = [field.name for field in dataclasses.fields(cls)]
        known = {name: found[name] for name in names}  # fields of later versions are ignored
        return cls(**{**known, "results": tuple(found["results"]), "notes": tuple(found["notes"])})

    def to_markdown(self) -> str:
        """The card as a page, in the form of Hugging Face: a YAML header, then text."""
        data = self.data
        counts = [
            f"{data[part]:,} {part}" for part in ("train", "validation", "test") if isinstance(data.get(part), int)
        ]
        facts = [
            ("network", self.network + (f", {self.parameters:,} parameters" if self.parameters else "")),
            ("data", ", ".join([str(data.get("name", UNKNOWN)), *counts])),
            ("source of the data", str(data.get("source", UNKNOWN))),
            ("license of the data", str(data.get("license", UNKNOWN))),
            ("seed", UNKNOWN if self.seed is None else str(self.seed)),
            ("license of the weights", self.license),
            ("source of the weights", self.source),
            ("trained with", ", ".join(f"{name} {version}" for name, version in self.versions.items()) or UNKNOWN),
        ]
        lines = ["---", f"license: {self.license.split(' ')[0].lower()}", "library_name: wavemix-tf", "---", ""]
        lines += [f"# {markdown(self.name)}", "", markdown(self.description), "", "| | |", "|---|---|"]
        lines += [f"| {name} | {markdown(text)} |" for name, text in facts]
        if self.results:
            lines += ["", f"| weights or file | runtime | {self.metric} | test images | measured by |"]
            lines += ["|---|---|---|---|---|"]
            lines += [
                f"| {markdown(row['form'])} | {markdown(row['runtime'])} | {format_value(self.metric, row['value'])} "
                f"| {UNKNOWN if row['images'] is None else format(row['images'], ',')} | {markdown(row['by'])} |"
                for row in self.results
            ]
        lines += ["", "Made by:", "", "```", *self.command.split(" && "), "```"]
        if self.notes:
            lines += ["", *(f"- {markdown(text)}" for text in self.notes)]
        if self.recipe is not None:
            lines += ["", "The recipe:", "", "```json", json.dumps(self.recipe, indent=1, ensure_ascii=False), "```"]
        return "\n".join(lines) + "\n"


def format_value(metric: str | None, value: float) -> str:
    """Return a metric's value with its unit: "99.72 %", "33.70 dB"."""
    unit, factor = UNITS.get(metric or "", ("", 1.0))
    return f"{factor * value:.2f} {unit}".rstrip()
