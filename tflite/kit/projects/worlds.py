"""Projects for the tools that bring TensorFlow Lite Micro as a package of their own, or build the C program."""

from __future__ import annotations

from .firmware import documents, filled, is_program, names, network_file, readme_values, sources
from .subject import Subject

CHIRALE_HEADER = "#include <Chirale_TensorFlowLite.h>"
CHIRALE_LIBRARY = "spaziochirale/Chirale_TensorFLowLite@2.0.0"  # with a capital L, as in the registries
NATIVE = """
; This machine: pio run -e native && .pio/build/native/program
[env:native]
platform = native
build_flags = -O2 -lm
"""
ESP_COMPONENT = '  espressif/esp-tflite-micro: "^1.4.0"\n'
ZEPHYR_MODULES = ("cmsis", "cmsis_6", "hal_nordic", "hal_stm32")
ZEPHYR_CONFIG = "CONFIG_MAIN_STACK_SIZE=8192\n"
ZEPHYR_TFLM_CONFIG = """\
CONFIG_CPP=y
CONFIG_STD_CPP17=y
CONFIG_REQUIRES_FULL_LIBCPP=y
CONFIG_TENSORFLOW_LITE_MICRO=y
"""
CMSIS_PACKS = (
    "ARM::CMSIS-NN@7.0.0",
    *(
        f"tensorflow::{name}@>=1.26.2"
        for name in ("tensorflow-lite-micro", "flatbuffers", "gemmlowp", "kissfft", "ruy")
    ),
)
CMSIS_COMPONENTS = (
    "ARM::CMSIS:NN Lib",
    "tensorflow::Data Exchange:Serialization:flatbuffers",
    "tensorflow::Data Processing:Math:gemmlowp fixed-point",
    "tensorflow::Data Processing:Math:kissfft",
    "tensorflow::Data Processing:Math:ruy",
    "tensorflow::Machine Learning:TensorFlow:Kernel&CMSIS-NN",
    "tensorflow::Machine Learning:TensorFlow:Kernel Utils",
)


def _readme(world: str, project: str, subject: Subject, checked: str, cpp: str, **more: object) -> bytes:
    values = {**readme_values(project, subject), **_names(subject, cpp), "checked": checked, **more}
    values["steps"] = filled(f"{world}/steps_{'c' if is_program(subject) else 'tflm'}.md", values).decode()
    return filled(f"{world}/README.md", values)


def _names(subject: Subject, cpp: str) -> dict[str, object]:
    own = names(subject)
    model = f"{own['name']}{'.c' if is_program(subject) else cpp}"
    return {**own, "network_file": network_file(subject, cpp), "model_file": model}


def arduino_files(subject: Subject, checked: str) -> dict[str, bytes]:
    """A sketch. The Arduino IDE compiles ``src/`` below the sketch, and .cpp files but no .cc files."""
    header = "" if is_program(subject) else CHIRALE_HEADER
    made = sources("arduino", subject, "sketch/src/", ".cpp", header)
    included = f"{header}  // so that the IDE finds the library\n" if header else ""
    made["sketch/sketch.ino"] = filled("arduino/sketch.ino", {**names(subject), "library_header": included})
    return {**made, **documents(subject, _readme("arduino", "arduino", subject, checked, ".cpp"))}


def platformio_files(subject: Subject, checked: str) -> dict[str, bytes]:
    """A PlatformIO project with the Arduino framework; the C program also runs on this machine."""
    program = is_program(subject)
    made = sources(
        "platformio", subject, f"lib/{subject.prefix}classifier/src/", ".cpp", "" if program else CHIRALE_HEADER
    )
    made["src/main.cpp"] = filled("platformio/main.cpp", names(subject))
    made["platformio.ini"] = filled(
        "platformio/platformio.ini",
        {
            "flags": "-O2",
            "library": "" if program else f"lib_deps = {CHIRALE_LIBRARY}\n",
            "native": NATIVE if program else "",
        },
    )
    return {**made, **documents(subject, _readme("platformio", "platformio", subject, checked, ".cpp"))}


def esp_idf_files(subject: Subject, checked: str) -> dict[str, bytes]:
    """An ESP-IDF project with Espressif's component of TensorFlow Lite Micro."""
    program, own = is_program(subject), _names(subject, ".cc")
    made = sources("esp-idf", subject, "main/")
    made["CMakeLists.txt"] = filled("esp_idf/CMakeLists.txt", own)
    made["main/CMakeLists.txt"] = filled("esp_idf/main_CMakeLists.txt", own)
    made["main/idf_component.yml"] = filled("esp_idf/idf_component.yml", {"library": "" if program else ESP_COMPONENT})
    made["main/main.c"] = filled("esp_idf/main.c", own)
    made["sdkconfig.defaults"] = filled("esp_idf/sdkconfig.defaults")
    words = "ESP-IDF" if program else "ESP-IDF, and the component espressif/esp-tflite-micro"
    return {**made, **documents(subject, _readme("esp_idf", "esp-idf", subject, checked, ".cc", library_words=words))}


def zephyr_files(subject: Subject, checked: str) -> dict[str, bytes]:
    """A Zephyr application with its manifest."""
    program, own = is_program(subject), _names(subject, ".cc")
    modules = [*ZEPHYR_MODULES, *(() if program else ("tflite-micro",))]
    made = sources("zephyr", subject, "app/src/")
    made["app/CMakeLists.txt"] = filled("zephyr/CMakeLists.txt", own)
    made["app/prj.conf"] = (ZEPHYR_CONFIG + ("" if program else ZEPHYR_TFLM_CONFIG)).encode()
    made["app/west.yml"] = filled(
        "zephyr/west.yml",
        {
            "modules": "".join(f"          - {module}\n" for module in modules),
            # tflite-micro is in a group of Zephyr's manifest that is off by default.
            "groups": "" if program else "  group-filter: [+optional]\n",
        },
    )
    made["app/src/main.c"] = filled("zephyr/main.c", own)
    words = "" if program else ", with tflite-micro"
    return {**made, **documents(subject, _readme("zephyr", "zephyr", subject, checked, ".cc", module_words=words))}


def cmsis_files(subject: Subject, checked: str) -> dict[str, bytes]:
    """A solution for the CMSIS-Toolbox."""
    program, own = is_program(subject), _names(subject, ".cc")
    name = own["name"]
    made = sources("cmsis", subject, "src/")
    made[f"{name}.csolution.yml"] = filled(
        "cmsis/csolution.yml",
        {**own, "packs": "" if program else "".join(f"    - pack: {pack}\n" for pack in CMSIS_PACKS)},
    )
    made[f"{name}.cproject.yml"] = filled(
        "cmsis/cproject.yml",
        {
            **own,
            # It changes the layout of structs: the packs define it too.
            "define": "" if program else "  define:\n    - TF_LITE_STATIC_MEMORY: 1\n",
            "components": "" if program else "".join(f"    - component: {one}\n" for one in CMSIS_COMPONENTS),
        },
    )
    made["main.c"] = filled("cmsis/main.c", own)
    made["regions.h"] = filled("cmsis/regions.h")
    return {**made, **documents(subject, _readme("cmsis", "cmsis", subject, checked, ".cc"))}
