/* Memory of the device: change it to that of yours. These are the sizes of an Arm MPS2 board. */
#ifndef REGIONS_H
#define REGIONS_H

#define __ROM0_BASE 0x00000000
#define __ROM0_SIZE 0x00080000
#define __ROM1_BASE 0x00000000
#define __ROM1_SIZE 0x00000000
#define __RAM0_BASE 0x20000000
#define __RAM0_SIZE 0x00080000
#define __RAM1_BASE 0x00000000
#define __RAM1_SIZE 0x00000000
#define __STACK_SIZE 0x00004000
#define __HEAP_SIZE 0x00000000

#endif /* REGIONS_H */
