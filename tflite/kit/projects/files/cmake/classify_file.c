/* Classifies a picture file on this machine: classify_file PICTURE.ppm (or .pgm). Not for a microcontroller. */
#include <stdio.h>

#include "@{prefix}classifier.h"
#include "@{prefix}network.h"

enum { largest = 64 << 20 };

static unsigned char pixels[largest];

/* The next number of a header of Netpbm, after spaces and comments; -1 if there is none. */
static int number(FILE* file) {
  int value = -1;
  if (fscanf(file, " ") < 0) return -1;
  for (;;) {
    const int sign = fgetc(file);
    if (sign != '#') {
      ungetc(sign, file);
      break;
    }
    if (fscanf(file, "%*[^\n] ") < 0) return -1;
  }
  return fscanf(file, "%d", &value) == 1 ? value : -1;
}

int main(int count, char** words) {
  FILE* file = count == 2 ? fopen(words[1], "rb") : NULL;
  const @{prefix}Classification* result;
  int kind, width, height, maximum, i;
  if (file == NULL || fgetc(file) != 'P') {
    fprintf(stderr, "Give one picture file, PPM (P6) or PGM (P5), with 8 bits a channel.\n");
    return 2;
  }
  kind = fgetc(file);
  width = number(file);
  height = number(file);
  maximum = number(file);
  fgetc(file);
  if ((kind != '5' && kind != '6') || width < 1 || height < 1 || width > 65535 || height > 65535 || maximum != 255 ||
      (long long)width * height * 3 > largest) {
    fprintf(stderr, "The file must be a PPM (P6) or PGM (P5) with 8 bits a channel.\n");
    return 2;
  }
  if (fread(pixels, kind == '6' ? 3 : 1, (size_t)width * (size_t)height, file) != (size_t)width * (size_t)height) {
    fprintf(stderr, "The file ends too early.\n");
    return 2;
  }
  fclose(file);
  result = @{prefix}classify(pixels, width, height, kind == '6' ? PIXELS_RGB888 : PIXELS_GRAY8);
  if (result == NULL) {
    fprintf(stderr, "The picture was refused. %s\n", @{prefix}network_error());
    return 1;
  }
  printf("share    score    class\n");
  for (i = 0; i < @{PREFIX}CLASS_COUNT; ++i) {
    printf("%.6f %.6f %s%s\n", (double)result->shares[i], (double)result->scores[i], @{prefix}class_labels[i],
           i != result->best ? "" : result->accepted ? " <- accepted" : " <- best, rejected");
  }
  return 0;
}
