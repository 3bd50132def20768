"""A CMake project: the classifier as a library, and its self-test for a computer or an emulated Cortex-M."""

from __future__ import annotations

from ..firmware_files import cmsis_nn_words
from .firmware import c_name_of, documents, filled, is_program, names, network_file, readme_values, sources, text_of
from .subject import Subject

PLAIN_FILES = (
    *("main.c", "classify_file.c", "arm-none-eabi.cmake", "board/board.h", "board/host.c", "board/semihosting.c"),
    *("board/mps2-an386.ld", "board/mps3-an547.ld", "board/sections.ld"),
)


def project_files(subject: Subject, checked: str) -> dict[str, bytes]:
    """Path -> content; ``checked`` is ``Project.what_was_run``."""
    name, program = c_name_of(subject), is_program(subject)
    made = sources("cmake", subject, "src/")
    made["CMakeLists.txt"] = filled(
        "cmake/CMakeLists.txt",
        {
            **names(subject),
            "project": name,
            "languages": "C" if program else "C CXX",
            "kernels": text_of("cmake/cmsis_nn.cmake" if program else "cmake/tflm.cmake"),
            "network": network_file(subject),
            "model": f"{name}.c" if program else f"{name}.cc",
            "libraries": "kernels m" if program else "tflm m",
        },
    )
    made.update({path: filled(f"cmake/{path}", names(subject)) for path in PLAIN_FILES})
    steps = {**names(subject), "cmsis_nn": cmsis_nn_words(subject.info)}
    values = {
        **readme_values("cmake", subject),
        "checked": checked,
        "steps": filled(f"cmake/steps_{'c' if program else 'tflm'}.md", steps).decode(),
        "network_words": "a C program" if program else "TensorFlow Lite Micro's interpreter with the file's ops",
        "model_words": "the network as a program" if program else "the file as an array, its ops and its arena",
    }
    return {**made, **documents(subject, filled("cmake/README.md", values))}
