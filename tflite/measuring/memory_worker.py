"""Runs a file under LiteRT in a process of its own and prints how much memory that took.

The process tells what the interpreter needs: in the caller's, TensorFlow and Keras would hide it. Imports nothing of
this package.

Usage: memory_worker.py MODEL.tflite INPUTS.npz THREADS

Prints two numbers: bytes resident before the interpreter is made (Python, NumPy, LiteRT's library and the file itself
are there by then), and the most that were resident from then on until three inferences had run.
"""

import sys


def resident(key: str) -> int:
    """A field of /proc/self/status in bytes: VmRSS now, VmHWM at most."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{key}:")) << 10


def main(model_path: str, input_path: str, threads: str) -> None:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    with open(model_path, "rb") as model:
        content = model.read()
    with np.load(input_path) as file:
        inputs = [file[f"arr_{index}"] for index in range(len(file.files))]
    with open("/proc/self/clear_refs", "w") as control:
        control.write("5")  # from here on VmHWM counts anew
    before = resident("VmRSS")
    interpreter = Interpreter(model_content=content, num_threads=int(threads))
    interpreter.allocate_tensors()
    for detail, part in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], part)
    for _ in range(3):
        interpreter.invoke()
    print(before, resident("VmHWM"))


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules' names must not shadow anyone's
    main(*sys.argv[1:])
