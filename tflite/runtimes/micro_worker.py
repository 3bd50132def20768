"""Runs a file on TensorFlow Lite Micro's real kernels, in a separate process.

An arena that is too small may crash the process (segmentation fault), so the caller starts this script instead of
calling the interpreter. Imports nothing of this package.

Usage: micro_worker.py MODEL.tflite INPUTS.npz OUTPUTS.npz ARENA_BYTES LIMIT_SECONDS COUNT

COUNT is the number of the file's outputs. The interpreter prints what it uses of the arena to stderr.
"""

import sys
import time


def main(model_path: str, inputs_path: str, outputs_path: str, arena_bytes: str, limit_s: str, count: str) -> None:
    import numpy as np
    from tflite_micro.python.tflite_micro import runtime

    with open(model_path, "rb") as file:
        content = file.read()
    with np.load(inputs_path) as file:
        inputs = [file[f"arr_{index}"] for index in range(len(file.files))]
    try:
        interpreter = runtime.Interpreter.from_bytes(content, arena_size=int(arena_bytes))
    except RuntimeError:
        sys.exit(3)  # the interpreter printed the reason to stderr
    outputs, start = [], time.perf_counter()
    for parts in zip(*inputs, strict=True):
        for index, part in enumerate(parts):
            interpreter.set_input(part[None], index)
        interpreter.invoke()
        outputs.append([np.array(interpreter.get_output(index)[0]) for index in range(int(count))])
        if time.perf_counter() - start > float(limit_s):
            break
    interpreter.print_allocations()
    np.savez(outputs_path, *[np.stack(column) for column in zip(*outputs, strict=True)])


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: the names of its modules must not shadow others
    main(*sys.argv[1:])
