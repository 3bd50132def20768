"""Write a microcontroller kit of the digits network, and compile and run its picture code on this machine.

    python examples/firmware/make_kit.py --out runs/firmware

The script trains on the digits of the package, exports for ``mcu`` and writes the kit. If a C compiler is found, it
compiles ``picture.c``, which resizes a camera frame with the kit's header and prints the network's input.
"""

import argparse
import dataclasses
import shutil
import subprocess
from pathlib import Path

import numpy as np

import wavemix_tf as wm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/firmware"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--max-arena-bytes", type=int, default=32 << 10)
    options = parser.parse_args()

    recipe = dataclasses.replace(wm.training.RECIPES["digits"], epochs=options.epochs, qat_epochs=1)
    data = wm.training.load_data(recipe)
    run = wm.training.fit(recipe, data=data, out=options.out / "run")
    images = np.concatenate([batch for batch, _ in data.validation])
    qat = wm.tflite.quantize(run.model, data.calibration, target="mcu")
    artifact = wm.tflite.export(
        qat, "mcu", images=images, class_names=data.class_names, max_arena_bytes=options.max_arena_bytes
    )
    pictures = [(255 * image).astype(np.uint8) for image in images[:4]]
    kit = artifact.save_kit(options.out / "kit", pictures=pictures, overwrite=True)
    print(f"{kit}: file {artifact.size_bytes} bytes; README.md has the build line")

    compiler = shutil.which("cc")
    if compiler is None:
        print("No C compiler (cc) was found: the picture code was not compiled.")
        return
    header = next(Path(kit).rglob("*_picture.h"))
    program = options.out / "picture"
    source = Path(__file__).with_name("picture.c")
    include = [f"-I{header.parent}", f'-DHEADER="{header.name}"', f"-DNAME={header.stem.removesuffix('_picture')}"]
    subprocess.run([compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", *include, source, "-o", program], check=True)
    print(subprocess.run([program], check=True, capture_output=True, text=True).stdout, end="")


if __name__ == "__main__":
    main()
