"""The texts of an Ethos-U kit; see ``templates`` for their form."""

from __future__ import annotations

from .templates import Template

DEVICE_INCLUDES = """
#include <ethosu_driver.h>

#if defined(NPU_BASE_ADDRESS) && defined(NPU_IRQ) && defined(NPU_DEVICE_HEADER)
#include NPU_DEVICE_HEADER  // of CMSIS: NVIC_SetVector, NVIC_EnableIRQ
#elif !defined(NPU_STARTED_BY_TARGET)
#error "Define NPU_BASE_ADDRESS, NPU_IRQ and NPU_DEVICE_HEADER, or NPU_STARTED_BY_TARGET: see README.md"
#endif
"""

DEVICE_CODE = Template("""
#if defined(NPU_BASE_ADDRESS) && defined(NPU_IRQ) && defined(NPU_DEVICE_HEADER)
#ifndef NPU_SECURE
#define NPU_SECURE 1
#endif
struct ethosu_driver npu;

void NpuInterrupt() { ethosu_irq_handler(&npu); }

// No fast memory: memory mode Shared_Sram.
bool InitializeNpu() {
  if (ethosu_init(&npu, reinterpret_cast<void*>(NPU_BASE_ADDRESS), nullptr, 0, NPU_SECURE, 1) != 0) return false;
  NVIC_SetVector(static_cast<IRQn_Type>(NPU_IRQ), reinterpret_cast<uint32_t>(&NpuInterrupt));
  NVIC_EnableIRQ(static_cast<IRQn_Type>(NPU_IRQ));
  return true;
}
#else  // tflite::InitializeTarget() did it.
bool InitializeNpu() { return true; }
#endif

// The compiled file runs on @{accelerator} and on no other: @{macs} multiply-accumulates a cycle.
bool StartNpu() {
  if (!InitializeNpu()) return Fail("the driver found no NPU at NPU_BASE_ADDRESS");
  struct ethosu_driver* driver = ethosu_reserve_driver();
  if (driver == nullptr) return Fail("the driver of the NPU was not initialized");
  struct ethosu_hw_info hardware;
  ethosu_get_hw_info(driver, &hardware);
  ethosu_release_driver(driver);
  const int macs = 1 << hardware.cfg.macs_per_cc;
  if (macs == @{macs}) return true;
  MicroPrintf("FAIL @{name}: this NPU has %d multiply-accumulates a cycle, the file is for @{macs}", macs);
  return false;
}
""")

ETHOS_SECTION = Template("""\
## Ethos-U

**`@{name}_vela.tflite` is the file for the device**: `@{name}.tflite` compiled by @{compiler} for `@{accelerator}`,
and for no other accelerator (system `@{system}`, memory mode `@{memory}` of `Arm/vela.ini`). `@{name}.tflite` is the
verified file; the NPU cannot run it. `ethos_u/` contains the compiled file as a C array, the vectors, and `main.cc`,
which starts Arm's driver, runs the vectors and prints PASS or FAIL. It registers one op, `AddEthosU()`.

1. TensorFlow Lite Micro with the NPU's kernel and Arm's driver, for a Cortex-M55 (its Makefile fetches the driver):

   ```
   make -C tflite-micro -f tensorflow/lite/micro/tools/make/Makefile microlite CO_PROCESSOR=ethos_u \\
       ETHOSU_ARCH=@{family} TARGET=cortex_m_corstone_300 TARGET_ARCH=cortex-m55 OPTIMIZED_KERNEL_DIR=cmsis_nn
   ```

   On a board: the library for your processor, and the driver of its vendor's package or from
   https://gitlab.arm.com/artificial-intelligence/ethos-u/ethos-u-core-driver, built for `@{accelerator}`
   (`-DETHOSU_TARGET_NPU_CONFIG=@{accelerator}`).
2. Compile `ethos_u/*.cc` with the library's flags, `-DTF_LITE_STATIC_MEMORY`, the driver's `include/`, and

   ```
   -DNPU_BASE_ADDRESS=0x48102000 -DNPU_IRQ=56 -DNPU_DEVICE_HEADER='"ARMCM55.h"'
   ```

   with the values of your chip: these are those of Arm's Corstone-300. `-DNPU_SECURE=0` starts the NPU in the
   non-secure state. Where the port of TensorFlow Lite Micro starts the NPU in `InitializeTarget()`, as that for
   Corstone-300 with `CO_PROCESSOR=ethos_u`, pass `-DNPU_STARTED_BY_TARGET` instead; where it does not, the driver then
   waits for ever.
3. Put the arena and the model where the NPU reaches them; it does not reach a processor's DTCM. For example
   `'-DARENA_PLACEMENT=__attribute__((section(".bss.npu_sram")))'` and
   `'-D@{placement}=__attribute__((section(".rodata.npu_flash")))'`, with sections of your linker script.
   Memory mode `@{memory}`: arena in SRAM, model in flash, no fast memory (`ethosu_init` gets none).
4. A processor with a data cache: define the driver's weak functions `ethosu_flush_dcache` and
   `ethosu_invalidate_dcache`, or the NPU reads old values.
5. `main` is called once from your start-up code. On Arm's model of a whole system:
   `@{model}`.

- **RAM.** An arena of @{arena_bytes} bytes: @{sram_bytes} by the compiler's plan, the rest for TensorFlow Lite Micro.
- **Flash.** The compiled file takes @{flash_bytes} bytes, without TensorFlow Lite Micro and the driver, which were not
  measured.
- **Speed.** @{cycles} cycles an inference by the compiler's estimate.
- **Several networks.** Every symbol and file name begins with `@{c_name}`. Export the next network with another name
  (`wavemix-tf export --name NAME`, in Python `name=`); the driver is started once.
- **Tolerance.** @{tolerance}. `main.cc` fails on larger differences.
- **Not run.** No NPU and no model of one was run.
""")
