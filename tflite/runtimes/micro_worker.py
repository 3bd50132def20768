"""Runs a file on TensorFlow Lite Micro's real kernels, in a separate process.

An arena that is too small may crash the process (segmentation fault), so the caller starts this script instead of
calling the interpreter. Imports nothing of this package.

Usage: micro_worker.py MODEL.tflite INPUTS.npz OUTPUTS.npz FIRST_ARENA_BYTES LARGEST_ARENA_BYTES LIMIT_SECONDS COUNT

COUNT is the number of the file's outputs.

Tries arenas from the first size on, in steps of 128 bytes, and prints each size before it tries it. Runs the inputs in
the first arena that suffices and writes the outputs.
"""

import sys
import time

STEP_BYTES = 128  # a smaller step would take seconds and save no useful memory


def main(
    model_path: str, inputs_path: str, outputs_path: str, first: str, largest: str, limit_s: str, count: str
) -> None:
    import numpy as np
    from tflite_micro.python.tflite_micro import runtime

    with open(model_path, "rb") as file:
        content = file.read()
    with np.load(inputs_path) as file:
        inputs = [file[f"arr_{index}"] for index in range(len(file.files))]
    for arena_bytes in range(int(first), int(largest) + 1, STEP_BYTES):
        print(arena_bytes, flush=True)
        try:
            interpreter = runtime.Interpreter.from_bytes(content, arena_size=arena_bytes)
        except RuntimeError:
            continue  # the interpreter printed the reason to stderr
        outputs, start = [], time.perf_counter()
        for parts in zip(*inputs, strict=True):
            for index, part in enumerate(parts):
                interpreter.set_input(part[None], index)
            interpreter.invoke()
            outputs.append([np.array(interpreter.get_output(index)[0]) for index in range(int(count))])
            if time.perf_counter() - start > float(limit_s):
                break
        interpreter.print_allocations()  # it prints to stderr; the caller reads the total
        np.savez(outputs_path, *[np.stack(column) for column in zip(*outputs, strict=True)])
        return
    sys.exit(3)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: the names of its modules must not shadow others
    main(*sys.argv[1:])
