"""Runs a file under LiteRT in a separate process and prints the memory that this took.

The separate process isolates the interpreter's need; in the caller's process, TensorFlow and Keras would hide it.
Imports nothing of this package.
this package.

Usage: memory_worker.py MODEL.tflite INPUTS.npz THREADS

Prints two numbers: resident bytes before the interpreter is made (Python, NumPy, LiteRT's library and the file are
loaded by then), and the largest number of resident bytes from then until three inferences have run.
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
        control.write("5")  # resets VmHWM
    before = resident("VmRSS")
    interpreter = Interpreter(model_content=content, num_threads=int(threads))
    interpreter.allocate_tensors()
    for detail, part in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], part)
    for _ in range(3):
        interpreter.invoke()
    print(before, resident("VmHWM"))


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: the names of its modules must not shadow others
    main(*sys.argv[1:])
