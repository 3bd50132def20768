/* A computer: standard output. */
#include "board.h"

#include <stdio.h>

void board_write(const char* text) {
  fputs(text, stdout);
}
