"""Train a recipe in several processes, on one machine or on many: what `slurm.sh` and `kubernetes.yaml` start.

    sbatch examples/several_machines/slurm.sh imagenet2012 --out /shared/runs/imagenet --set data_dir=/shared/tfds
    kubectl apply -f examples/several_machines/kubernetes.yaml

Every process runs this script with the same arguments. Keras and JAX do the rest: `keras.distribution.initialize` finds
the other processes (JAX reads Slurm's variables, Keras its own KERAS_DISTRIBUTION_*), and `DataParallel` gives each
device an equal share of every batch and averages the gradients. `--out` must be on a file system that all processes
see. A job that was stopped continues after the last finished epoch when the same command runs again.
"""

import argparse
import os
import zlib
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np

import wavemix_tf as wm
from wavemix_tf.command.arguments import choose_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a name of `wavemix-tf list`; with --data: classification, segmentation, ...")
    parser.add_argument("--data", type=Path, help="folder of your own images")
    parser.add_argument("--out", type=Path, required=True, help="run folder, on a shared file system")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a field of the recipe")
    options = parser.parse_args()

    keras.distribution.initialize()  # before anything computes
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    recipe = choose_recipe(options.recipe, options.data, options.set)
    result = wm.training.fit(recipe, out=options.out, verbose=2 if jax.process_index() == 0 else 0)

    # Equal in every process: each has applied the same averaged gradients.
    weights = zlib.crc32(b"".join(np.ascontiguousarray(array).tobytes() for array in result.model.get_weights()))
    print(
        f"process {jax.process_index()} of {jax.process_count()}, {jax.device_count()} devices: "
        f"{result.metric} {result.validation_score:.4f} on the validation images, weights {weights:08x}",
        flush=True,
    )


if __name__ == "__main__":
    main()
