"""LiteRT on this machine: XNNPACK or the reference kernels."""

from __future__ import annotations

from typing import Any

from ..errors import RuntimeFailureError
from ..file.flatbuffer import for_reference_kernels, read_file
from ..file.softmax_limits import softmax_hazard


def make_interpreter(content: bytes, reference: bool = False, threads: int = 1) -> Any:
    """A LiteRT interpreter with its tensors allocated, with XNNPACK or the reference kernels.

    Raises:
        ExportError: the file is damaged, see ``read_file``; not every runtime detects a wrong index.
        RuntimeFailureError: LiteRT refused the file, or its reference kernels might end the process.
    """
    hazard = softmax_hazard(read_file(content, check_tensors=True))
    if reference and hazard is not None:
        raise RuntimeFailureError(hazard)
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
    try:
        interpreter = Interpreter(
            model_content=for_reference_kernels(content) if reference else content,
            experimental_op_resolver_type=kind,
            num_threads=threads,
        )
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        kernels = "reference kernels" if reference else "XNNPACK"
        raise RuntimeFailureError(f"LiteRT ({kernels}) refused the file: {str(error).splitlines()[0]}") from error
    return interpreter


def invoke(interpreter: Any) -> None:
    """Run an interpreter once; a RuntimeFailureError if it fails."""
    try:
        interpreter.invoke()
    except RuntimeError as error:
        raise RuntimeFailureError(f"LiteRT could not run the file: {str(error).splitlines()[0]}") from error
