/* The self-test: runs the test vectors and returns 0 if all passed. */
#include "board.h"
#include "self_test.h"

int main(void) {
  return self_test(board_write) == 0 ? 0 : 1;
}
