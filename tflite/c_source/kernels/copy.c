/* Moves blocks of bytes: slices, transpositions, concatenations, paddings and all else that computes nothing. */
typedef struct {
  int32_t sides[5];
  int32_t in_steps[5], out_steps[5];
  int32_t in_start, out_start, run; /* run: bytes that lie beside each other on both sides */
} movement;

static void copy(const movement *k, const int8_t *input, int8_t *output) {
  int32_t a, b, c, d, e;
  input += k->in_start;
  output += k->out_start;
  for (a = 0; a < k->sides[0]; ++a) {
    for (b = 0; b < k->sides[1]; ++b) {
      for (c = 0; c < k->sides[2]; ++c) {
        for (d = 0; d < k->sides[3]; ++d) {
          const int8_t *from =
              input + a * k->in_steps[0] + b * k->in_steps[1] + c * k->in_steps[2] + d * k->in_steps[3];
          int8_t *to = output + a * k->out_steps[0] + b * k->out_steps[1] + c * k->out_steps[2] + d * k->out_steps[3];
          if (k->run == 1) {
            for (e = k->sides[4]; e > 0; --e) {
              *to = *from;
              from += k->in_steps[4];
              to += k->out_steps[4];
            }
          } else {
            for (e = k->sides[4]; e > 0; --e) {
              memcpy(to, from, (size_t)k->run);
              from += k->in_steps[4];
              to += k->out_steps[4];
            }
          }
        }
      }
    }
  }
}
