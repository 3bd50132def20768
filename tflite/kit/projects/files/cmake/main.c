/* The self-test: runs the test vectors and returns 0 if all passed. */
#include "board.h"
#include "@{prefix}self_test.h"

int main(void) {
  return @{prefix}self_test(board_write) == 0 ? 0 : 1;
}
