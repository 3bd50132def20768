/* What convolutions and dense layers share: parameters of each output channel, and the end of an output value. */
typedef struct {
  const int8_t *weights;
  const int32_t *bias; /* with -zero point * (sum of the weights) folded in */
  const int32_t *multiplier;
  const int8_t *shift;
  const int8_t *table; /* of the activation, by value + 128; or none */
  int32_t zero; /* the output's zero point */
} channels;
