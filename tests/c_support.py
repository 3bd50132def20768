"""Generated C programs, compiled by the system's compiler and run in a process that reads inputs and writes outputs."""

import shutil
import subprocess

import numpy as np
import pytest

from wavemix_tf.tflite.c_source.generator import write_c
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.runtimes.microcontroller import run_micro

requires_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wconversion")


def main_c(info, name):
    """A program that reads inputs one after another, as long as there are any."""
    upper, lines, arguments, reads, writes = name.upper(), [], [], [], []
    for kind, tensors in (("input", info.inputs), ("output", info.outputs)):
        for index, tensor in enumerate(tensors):
            part = kind if len(tensors) == 1 else f"{kind}_{index}"
            ctype = {"int8": "int8_t", "int32": "int32_t"}[tensor.dtype]
            size = f"{upper}_{part.upper()}_BYTES"
            lines.append(f"static {ctype} {part}[{size} / sizeof({ctype})];")
            arguments.append(part)
            if kind == "input":
                reads.append(f"fread({part}, 1, {size}, stdin) == {size}")
            else:
                writes.append(f"    fwrite({part}, 1, {size}, stdout);")
    newline = "\n"
    return f"""\
#include <stdio.h>
#include "{name}.h"
{newline.join(lines)}
int main(void) {{
  while ({" && ".join(reads)}) {{
    {name}_run({", ".join(arguments)});
{newline.join(writes)}
  }}
  return 0;
}}
"""


def run_c(content, inputs, folder, name="net", options=("-std=c99", "-O2"), compiler="cc", link=()):
    """([array of each output], CSource) of a file on inputs (N, ...)."""
    made, info = write_c(content, name), read_file(content)
    (folder / f"{name}.c").write_text(made.source)
    (folder / f"{name}.h").write_text(made.header)
    (folder / "main.c").write_text(main_c(info, name))
    program = folder / "program"
    command = [compiler, *options, *WARNINGS, f"{name}.c", "-c", "-o", f"{name}.o"]
    subprocess.run(command, cwd=folder, check=True)
    subprocess.run(["cc", "main.c", f"{name}.o", *link, "-o", str(program)], cwd=folder, check=True)
    count = len(inputs[0])
    given = b"".join(part[index].tobytes() for index in range(count) for part in inputs)
    raw = subprocess.run([str(program)], input=given, capture_output=True, check=True, timeout=600).stdout
    dtype = np.dtype([(f"o{i}", t.dtype, t.shape[1:] if t.shape else ()) for i, t in enumerate(info.outputs)])
    sizes = [int(np.prod(t.shape)) * np.dtype(t.dtype).itemsize for t in info.outputs]
    assert len(raw) == count * sum(sizes), (len(raw), count, sizes, dtype)
    rows = np.frombuffer(raw, np.uint8).reshape(count, -1)
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    outputs = [
        np.ascontiguousarray(part).view(t.dtype).reshape(count, *t.shape)
        for part, t in zip(parts, info.outputs, strict=True)
    ]
    return outputs, made


def random_inputs(info, count=6, seed=0):
    """int8 inputs (N, ...) without the batch axis: random ones, and the extremes."""
    rng = np.random.default_rng(seed)
    parts = []
    for tensor in info.inputs:
        part = rng.integers(-128, 128, (count, *tensor.shape[1:])).astype(np.int8)
        part[0], part[1] = -128, 127
        parts.append(part)
    return parts


def assert_bit_equal(content, inputs, folder, run=None, **options):
    """C and TensorFlow Lite Micro's reference kernels, integer by integer."""
    expected, _ = run_micro(content, inputs, run=run)
    outputs, made = run_c(content, inputs, folder, **options)
    for ours, theirs in zip(outputs, expected, strict=True):
        if ours.shape[1:] != theirs.shape[1:]:
            ours = ours[:, 0]  # the worker takes the first of a batch
        np.testing.assert_array_equal(ours, theirs)
    return made
