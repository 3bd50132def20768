// Resizes a camera frame with a kit's picture code and prints what the network gets. Built by make_kit.py:
//   cc -std=c99 -Ikit/micro -DHEADER='"mcu_int8_picture.h"' -DNAME=mcu_int8 picture.c
#include <stdio.h>

#include HEADER

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

enum { height = 60, width = 80, bytes = 3 };

int main(void) {
  static uint8_t frame[height][width][bytes];  // a bright ring on black
  static int64_t sums[JOIN(NAME, _picture_sums)];
  static int8_t input[JOIN(NAME, _picture_height)][JOIN(NAME, _picture_sums)];
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const int distance = (y - 30) * (y - 30) + (x - 40) * (x - 40);
      for (int c = 0; c < bytes; ++c) frame[y][x][c] = distance > 200 && distance < 500 ? 255 : 0;
    }
  }
  if (JOIN(NAME, _from_picture)(&frame[0][0][0], height, width, bytes, width * bytes, &input[0][0], sums) != 0) {
    puts("the picture is too large");
    return 1;
  }
  for (int y = 0; y < JOIN(NAME, _picture_height); ++y) {
    for (int i = 0; i < JOIN(NAME, _picture_sums); ++i) printf("%5d", input[y][i]);
    puts("");
  }
  return 0;
}
