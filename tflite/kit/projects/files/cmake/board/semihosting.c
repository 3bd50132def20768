/* A Cortex-M in an emulator or under a debugger: start-up code, and texts and the exit code by semihosting.
 *
 * On a board of your own, use the start-up code and the linker script of its maker in place of this folder, and
 * write a board_write() for its serial port. */
#include "board.h"

#include <stdint.h>
#include <string.h>

extern uint32_t data_load[], data_begin[], data_end[], bss_begin[], bss_end[], stack_end[];

int main(void);
void Reset_Handler(void);
void __libc_init_array(void);
void _init(void);
void _fini(void);

static int semihosting(int operation, const void* argument) {
  register int result __asm("r0") = operation;
  register const void* second __asm("r1") = argument;
  __asm volatile("bkpt 0xab" : "+r"(result) : "r"(second) : "memory");
  return result;
}

static void leave(int code) {
  const uint32_t exited[2] = {0x20026u, (uint32_t)code}; /* ADP_Stopped_ApplicationExit */
  semihosting(0x20, exited);                             /* SYS_EXIT_EXTENDED */
  for (;;) {
  }
}

static void fault(void) {
  board_write("FAILED: the processor stopped with a fault\n");
  leave(2);
}

void board_write(const char* text) {
  semihosting(0x04, text); /* SYS_WRITE0 */
}

void _init(void) {
}

void _fini(void) {
}

void Reset_Handler(void) {
#if defined(__ARM_FP)
  *(volatile uint32_t*)0xE000ED88u |= 0xFu << 20; /* CPACR: the floating-point unit, and MVE */
  __asm volatile("dsb\n isb");
#endif
  memcpy(data_begin, data_load, (size_t)((const char*)data_end - (const char*)data_begin));
  memset(bss_begin, 0, (size_t)((const char*)bss_end - (const char*)bss_begin));
  __libc_init_array(); /* constructors of C++ */
  leave(main());
}

__attribute__((section(".vectors"), used)) static const void* const vectors[16] = {
    stack_end, (const void*)Reset_Handler,
    (const void*)fault, (const void*)fault, (const void*)fault, (const void*)fault, (const void*)fault,
};
