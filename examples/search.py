"""Search the most accurate network within a microcontroller's budget: depth and width by keras-tuner.

    python examples/search.py --out runs/search
    python examples/search.py --trials 2 --epochs 1 --out runs/search_short     # a short run

The digits come with the package. A network whose arena or file exceeds the budget is not trained. The same command
continues a search that was killed.
"""

import argparse
import dataclasses
from pathlib import Path

import wavemix_tf as wm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/search"))
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=None, help="of each trial; default: half of the recipe's")
    parser.add_argument("--final-epochs", type=int, default=None, help="of the best network; default: the recipe's")
    parser.add_argument("--ram", type=int, default=24 << 10, help="arena under TensorFlow Lite Micro, in bytes")
    parser.add_argument("--flash", type=int, default=64 << 10, help="the file, in bytes")
    options = parser.parse_args()

    recipe = wm.training.RECIPES["digits"]
    with wm.tflite.DeviceCosts("mcu") as costs:  # measured on the untrained file of each candidate
        best = wm.training.search(
            recipe,
            budget={"arena_bytes": options.ram, "flash_bytes": options.flash},
            costs=[costs],
            max_trials=options.trials,
            epochs=options.epochs,
            out=options.out,
        )
    result = wm.training.SearchResult.load(options.out)
    for trial in result.front("arena_bytes"):
        print(trial)
    print(f"best: depth {best.model_args['depth']}, width {best.model_args['width']}")

    # Train the best network with the recipe's epochs.
    epochs = options.final_epochs or best.epochs
    best = dataclasses.replace(best, name="best", epochs=epochs, warmup_epochs=min(best.warmup_epochs, epochs / 2))
    run = wm.training.fit(best, out=options.out / "best")
    print(f"{run.metric} on the test images: {run.test_score:.4f}")


if __name__ == "__main__":
    main()
