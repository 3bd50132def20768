"""Compare our networks with the authors' PyTorch networks at the same random weights: parameters and outputs.

    pip install torch einops PyWavelets wavemix==0.2.4 timm
    python benchmarks/parity.py --out build/parity
    python benchmarks/parity.py --out build/parity --variants wavemix_lite_144_7 wavemixsr_144_4

Compares every network of `wm.VARIANTS` at its published width and depth, WaveMix on small images, the others at their
published image size. If the official package does not have the network, the reference is the authors' script, see
`torch_references.py` and `torch_dynamixer.py`; for ConvMixer, MLP-Mixer, PoolFormer and DeiT it is timm. The weights
are copied from PyTorch to ours and back (`load_state_dict(strict=True)`). Writes `parity.json` and `parity.md`;
`--doc docs/checkpoints.md` puts the table there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import timm_references
import torch
import torch_dynamixer
import torch_references
from nets import in_package, official_network, official_outputs, our_network, our_outputs, random_images
from report import markdown_table
from side_by_side import write_atomically

import wavemix_tf as wm

SMALLEST_SIDE = 16  # pixels
IMAGES = 2
MARK = "<!-- parity -->"


def compare(name: str, seed: int) -> dict[str, Any]:
    """Measure one row: the same random weights and images in both networks."""
    kind = wm.VARIANTS[name].get("model", "WaveMixClassifier")
    if kind == "DynaMixer":
        config, network, origin = dynamixer(name, seed)
    elif kind in timm_references.NETWORKS:
        config, network, origin = of_timm(name, kind, seed)
    else:
        config, network, origin = wavemix(name, seed)
    model = wm.load_torch_weights(our_network(config), network.state_dict())
    images = random_images(IMAGES, config["image_shape"], seed)
    expected = official_outputs(network, config, images)
    back = {key: torch.from_numpy(array) for key, array in wm.export_torch_weights(model).items()}
    network.load_state_dict(timm_references.timm_state(network, back), strict=True)
    return {
        "class": kind,
        "parameters": sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
        "official_parameters": sum(parameter.numel() for parameter in network.parameters()),
        "num_classes": config.get("num_classes"),
        "from": origin,
        "image_shape": config["image_shape"],
        "largest_output": float(np.abs(expected).max()),
        "difference": float(np.abs(our_outputs(model, images) - expected).max()),
        "difference_after_export": float(np.abs(official_outputs(network, config, images) - expected).max()),
    }


def wavemix(name: str, seed: int) -> tuple[dict[str, Any], torch.nn.Module, str]:
    """(arguments, the authors' network, its source)."""
    row = dict(wm.VARIANTS[name])
    # The official network needs sides divisible by the stem and every level. Not square, to detect swapped sides.
    reduction = row["patch_size"] if row.get("stem") == "patchify" else row.get("stride", 1) ** 2
    side = max(SMALLEST_SIDE, reduction * 2 ** row.get("levels", 1))
    shape = (side, 2 * side, row.get("image_shape", (0, 0, 3))[2])
    config = {"num_classes": 20 if "model" in row else 10, **row, "image_shape": shape}
    if row.get("model") == "WaveMixSuperResolver":
        del config["num_classes"]
    network = official_network(config).eval()
    torch_references.randomize(network, seed)
    damp(network, 0.25)
    return config, network, "package" if in_package(config) else "script"


def damp(network: torch.nn.Module, factor: float) -> None:
    """Reduce the batch norm weights in place: sixteen random blocks would otherwise amplify outputs to thousands.

    The factor keeps the outputs different from image to image.
    """
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.weight.data.mul_(factor)


def of_timm(name: str, kind: str, seed: int) -> tuple[dict[str, Any], torch.nn.Module, str]:
    """As ``wavemix``, for a network of timm; the arguments come from our network."""
    config = {"num_classes": 1000, **wm.build_model(name).get_config(), "model": kind}
    network = timm_references.NETWORKS[kind](config)
    timm_references.randomize(network, seed)
    damp(network, 0.75)
    return {**wm.VARIANTS[name], "image_shape": config["image_shape"]}, network, "timm"


def dynamixer(name: str, seed: int) -> tuple[dict[str, Any], torch.nn.Module, str]:
    """As ``wavemix``, for a DynaMixer."""
    config = {**wm.build_model(name).get_config(), "model": "DynaMixer"}
    network = torch_dynamixer.Network(config).eval()
    torch_dynamixer.randomize(network, seed)
    return {**wm.VARIANTS[name], "image_shape": config["image_shape"]}, network, "script"


def table(rows: dict[str, dict[str, Any]]) -> str:
    header = ["variant", "class", "parameters, ours", "official", "largest output", "largest difference", "from"]
    lines = [
        [
            name,
            row["class"],
            f"{row['parameters']:,}",
            f"{row['official_parameters']:,}",
            f"{row['largest_output']:.1f}",
            f"{row['difference']:.1e}",
            row["from"],
        ]
        for name, row in rows.items()
    ]
    return markdown_table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", choices=wm.VARIANTS, default=list(wm.VARIANTS))
    parser.add_argument("--doc", type=Path, help=f"page whose lines between two {MARK} are replaced by this table")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "parity.json"
    rows: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}
    for seed, name in enumerate(wm.VARIANTS):
        if name in given.variants:
            rows[name] = compare(name, seed)
            write_atomically(path, (json.dumps(rows, indent=2) + "\n").encode())
            print(f"{name}: {rows[name]['difference']:.1e} of {rows[name]['largest_output']:.1f}", flush=True)
    rows = {name: rows[name] for name in wm.VARIANTS if name in rows}
    text = table(rows)
    write_atomically(given.out / "parity.md", (text + "\n").encode())
    if given.doc is not None:
        before, _, after = given.doc.read_text(encoding="utf-8").split(MARK)
        write_atomically(given.doc, f"{before}{MARK}\n{text}\n{MARK}{after}".encode())
    print(text)


if __name__ == "__main__":
    main()
