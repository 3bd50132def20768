"""Runs a file under TensorFlow Lite Micro's real kernels, in a process of its own.

An arena that is too small ends that process (segmentation fault), which is why the caller starts this script instead of
calling the interpreter. Imports nothing of this package.

Usage: micro_worker.py MODEL.tflite INPUTS.npy OUTPUTS.npy ARENA_BYTES LIMIT_SECONDS
"""

import sys
import time

if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules' names must not shadow anyone's

    import numpy as np
    from tflite_micro.python.tflite_micro import runtime

    model_path, inputs_path, outputs_path, arena_bytes, limit_s = sys.argv[1:]
    with open(model_path, "rb") as file:
        interpreter = runtime.Interpreter.from_bytes(file.read(), arena_size=int(arena_bytes))
    outputs, start = [], time.perf_counter()
    for image in np.load(inputs_path):
        interpreter.set_input(image[None], 0)
        interpreter.invoke()
        outputs.append(np.array(interpreter.get_output(0)[0]))
        if time.perf_counter() - start > float(limit_s):
            break
    interpreter.print_allocations()  # to stderr; the caller reads the total
    np.save(outputs_path, np.stack(outputs))
