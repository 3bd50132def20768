/* DEPTH_TO_SPACE and a crop behind it; block 1: neither. */
typedef struct {
  int32_t block, crop_h, crop_w, shown_h, shown_w;
} blocks;
