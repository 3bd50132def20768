"""Boards with their memory, core and clock: published figures, each with the page that was read. Loads no Keras."""

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
        source: Address of the page that the figures were read in.
        memory_source: Of the page with the memory map, or with another figure, where that is another.
        note: What the figures do not say.
    """

    title: str
    core: str
    clock_mhz: int
    ram_bytes: int
    block_bytes: int
    flash_bytes: int
    source: str
    memory_source: str = ""
    note: str = ""


GITHUB = "https://github.com"
PLATFORMIO = f"{GITHUB}/platformio/platform"
PICO = f"{GITHUB}/raspberrypi/pico-sdk/blob/master/src"
ZEPHYR = "https://docs.zephyrproject.org/latest/boards"
BOARDS: dict[str, Board] = {
    "alif-e7": Board(
        "Alif Ensemble E7",
        "cortex-m55",
        400,
        13824 * KIB,
        4 * MIB,
        5632 * KIB,
        "https://alifsemi.com/whitepaper/alif-mcu-ram-regions-and-linker-files/",
        memory_source=f"{GITHUB}/alifsemi/zephyr_alif/blob/510de1b4c07d2de37e3bebaf931cd6e043965941/dts/arm/alif/ensemble/e5/"
        "ae512f80f55d5xx.dtsi",
        note="for the Cortex-M55 HP alone; with its Ethos-U55, export for the target ethos-u55; "
        "flash as of the E5 of the same memory code, F80F55D5",
    ),
    "arduino-nano-33-ble": Board(
        "Arduino Nano 33 BLE (nRF52840)",
        "cortex-m4",
        64,
        256 * KIB,
        256 * KIB,
        960 * KIB,
        f"{PLATFORMIO}-nordicnrf52/blob/develop/boards/nano33ble.json",
        note="flash without the boot loader; Mbed OS and Bluetooth take part of both",
    ),
    "esp32-s3": Board(
        "ESP32-S3-DevKitC-1-N8",
        "xtensa-lx7",
        240,
        512 * KIB,
        416 * KIB,
        8 * MIB,
        f"{PLATFORMIO}-espressif32/blob/develop/boards/esp32-s3-devkitc-1.json",
        memory_source=f"{GITHUB}/espressif/esp-idf/blob/002cd296e1a7081681bc792db8eeaa89bfa0e89d/components/soc/esp32s3/include/soc/soc.h",
        note="caches and Wi-Fi take part of the RAM, partitions part of the flash; the "
        "reference kernels, ESP-NN's need more scratch memory",
    ),
    "nrf52840-dk": Board(
        "nRF52840 DK",
        "cortex-m4",
        64,
        256 * KIB,
        256 * KIB,
        1 * MIB,
        f"{PLATFORMIO}-nordicnrf52/blob/develop/boards/nrf52840_dk.json",
    ),
    "nucleo-f446re": Board(
        "NUCLEO-F446RE (STM32F446RE)",
        "cortex-m4",
        180,
        128 * KIB,
        128 * KIB,
        512 * KIB,
        f"{PLATFORMIO}-ststm32/blob/develop/boards/nucleo_f446re.json",
    ),
    "nucleo-g071rb": Board(
        "NUCLEO-G071RB (STM32G071RB)",
        "cortex-m0+",
        64,
        36 * KIB,
        36 * KIB,
        128 * KIB,
        f"{PLATFORMIO}-ststm32/blob/develop/boards/nucleo_g071rb.json",
    ),
    "nucleo-h743zi2": Board(
        "NUCLEO-H743ZI2 (STM32H743ZI)",
        "cortex-m7",
        480,
        1024 * KIB,
        512 * KIB,
        2 * MIB,
        f"{ZEPHYR}/st/nucleo_h743zi/doc/index.html",
        memory_source=f"{GITHUB}/zephyrproject-rtos/zephyr/blob/0761962b672a6940bb27108d86d358f0c45528b6/dts/arm/st/h7/stm32h743.dtsi",
    ),
    "nucleo-l4r5zi": Board(
        "NUCLEO-L4R5ZI (STM32L4R5ZI)",
        "cortex-m4",
        120,
        640 * KIB,
        640 * KIB,
        2 * MIB,
        f"{PLATFORMIO}-ststm32/blob/develop/boards/nucleo_l4r5zi.json",
        note="the reference board of MLPerf Tiny",
    ),
    "rp2040-pico": Board(
        "Raspberry Pi Pico (RP2040)",
        "cortex-m0+",
        200,
        264 * KIB,
        256 * KIB,
        2 * MIB,
        f"{PICO}/rp2040/hardware_regs/include/hardware/platform_defs.h",
        memory_source=f"{PICO}/rp2_common/pico_crt0/rp2040/memmap_default.ld",
        note="125 MHz by default; 8 KB of the RAM are for the stacks of its cores",
    ),
    "rp2350-pico-2": Board(
        "Raspberry Pi Pico 2 (RP2350)",
        "cortex-m33",
        150,
        520 * KIB,
        512 * KIB,
        4 * MIB,
        f"{PICO}/boards/include/boards/pico2.h",
        memory_source=f"{PICO}/rp2_common/pico_crt0/rp2350/memmap_default.ld",
        note="8 KB of the RAM are for the stacks of its cores",
    ),
    "stm32h747i-disco": Board(
        "STM32H747I-DISCO",
        "cortex-m7",
        480,
        1024 * KIB,
        512 * KIB,
        2 * MIB,
        f"{ZEPHYR}/st/stm32h747i_disco/doc/index.html",
        memory_source=f"{PLATFORMIO}-ststm32/blob/develop/boards/disco_h747xi.json",
        note="for its Cortex-M7; by default the Cortex-M4 has half of the flash",
    ),
}


def get_board(name: str) -> Board:
    """The row of ``BOARDS``; a ValueError lists the valid names."""
    check_option("board", name, tuple(BOARDS))
    return BOARDS[name]
