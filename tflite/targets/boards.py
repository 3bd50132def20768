"""Boards with their memory, core and clock: published figures, each with its source. Loads no Keras."""

from __future__ import annotations

from dataclasses import dataclass

from wavemix_tf.checks import check_option

from ..names import CMSIS_NN, REFERENCE_KERNELS

KIB = 1024
MIB = 1024 * KIB

# Core -> kernels of TensorFlow Lite Micro whose memory is calculated for it. Espressif's kernels are not among them.
ARM_KERNELS = (REFERENCE_KERNELS, CMSIS_NN)
CORES: dict[str, tuple[str, ...]] = {
    "cortex-m0+": ARM_KERNELS,
    "cortex-m33": ARM_KERNELS,
    "cortex-m4": ARM_KERNELS,
    "cortex-m55": ARM_KERNELS,
    "cortex-m7": ARM_KERNELS,
    "xtensa-lx7": (REFERENCE_KERNELS,),
}


@dataclass(frozen=True)
class Board:
    """A board.

    Args:
        title: Name of the board and of its chip.
        core: Key of ``CORES``: of the core that runs the file.
        clock_mhz: Its highest clock.
        ram_bytes: On-chip RAM.
        block_bytes: Largest part of it with consecutive addresses, which the arena must fit into.
        flash_bytes: Flash for programs; of boards with external flash, the smallest that is sold.
        source: Address of the data sheet or the product's page.
        note: What the figures do not say.
    """

    title: str
    core: str
    clock_mhz: int
    ram_bytes: int
    block_bytes: int
    flash_bytes: int
    source: str
    note: str = ""


BOARDS: dict[str, Board] = {
    "alif-e7": Board(
        "Alif Ensemble E7",
        "cortex-m55",
        400,
        13824 * KIB,
        4 * MIB,
        5632 * KIB,
        "https://alifsemi.com/products/ensemble/",
        "for the Cortex-M55 HP alone; with its Ethos-U55, export for the target ethos-u55",
    ),
    "arduino-nano-33-ble": Board(
        "Arduino Nano 33 BLE (nRF52840)",
        "cortex-m4",
        64,
        256 * KIB,
        256 * KIB,
        1 * MIB,
        "https://docs.arduino.cc/hardware/nano-33-ble/",
        "Mbed OS and Bluetooth take part of both",
    ),
    "esp32-s3": Board(
        "ESP32-S3-DevKitC-1-N8",
        "xtensa-lx7",
        240,
        512 * KIB,
        416 * KIB,
        8 * MIB,
        "https://www.espressif.com/sites/default/files/documentation/esp32-s3_datasheet_en.pdf",
        "caches and Wi-Fi take part of the RAM; the reference kernels, ESP-NN's need more scratch memory",
    ),
    "nrf52840-dk": Board(
        "nRF52840 DK",
        "cortex-m4",
        64,
        256 * KIB,
        256 * KIB,
        1 * MIB,
        "https://www.nordicsemi.com/Products/nRF52840",
    ),
    "nucleo-f446re": Board(
        "NUCLEO-F446RE (STM32F446RE)",
        "cortex-m4",
        180,
        128 * KIB,
        128 * KIB,
        512 * KIB,
        "https://www.st.com/en/microcontrollers-microprocessors/stm32f446re.html",
    ),
    "nucleo-g071rb": Board(
        "NUCLEO-G071RB (STM32G071RB)",
        "cortex-m0+",
        64,
        36 * KIB,
        36 * KIB,
        128 * KIB,
        "https://www.st.com/en/microcontrollers-microprocessors/stm32g071rb.html",
    ),
    "nucleo-h743zi2": Board(
        "NUCLEO-H743ZI2 (STM32H743ZI)",
        "cortex-m7",
        480,
        1024 * KIB,
        512 * KIB,
        2 * MIB,
        "https://www.st.com/en/microcontrollers-microprocessors/stm32h743zi.html",
    ),
    "nucleo-l4r5zi": Board(
        "NUCLEO-L4R5ZI (STM32L4R5ZI)",
        "cortex-m4",
        120,
        640 * KIB,
        640 * KIB,
        2 * MIB,
        "https://www.st.com/en/microcontrollers-microprocessors/stm32l4r5zi.html",
        "the reference board of MLPerf Tiny",
    ),
    "rp2040-pico": Board(
        "Raspberry Pi Pico (RP2040)",
        "cortex-m0+",
        133,
        264 * KIB,
        264 * KIB,
        2 * MIB,
        "https://datasheets.raspberrypi.com/pico/pico-datasheet.pdf",
    ),
    "rp2350-pico-2": Board(
        "Raspberry Pi Pico 2 (RP2350)",
        "cortex-m33",
        150,
        520 * KIB,
        520 * KIB,
        4 * MIB,
        "https://datasheets.raspberrypi.com/pico/pico-2-datasheet.pdf",
    ),
    "stm32h747i-disco": Board(
        "STM32H747I-DISCO",
        "cortex-m7",
        480,
        1024 * KIB,
        512 * KIB,
        2 * MIB,
        "https://www.st.com/en/evaluation-tools/stm32h747i-disco.html",
        "for its Cortex-M7",
    ),
}


def get_board(name: str) -> Board:
    """The row of ``BOARDS``; a ValueError lists the valid names."""
    check_option("board", name, tuple(BOARDS))
    return BOARDS[name]
