"""The texts of a deployment kit that resize a picture to the network's size, in C and in Kotlin; see ``templates``.

Both repeat ``wavemix_tf.resizing.fit_picture`` line by line: only whole numbers, one result on every processor.
"""

from __future__ import annotations

from .templates import Template

PICTURE_H = Template("""\
// Makes the input of @{name} from a picture, as in training: @{words}.
// C99 and C++, only whole numbers, no memory allocation: the same levels on every processor. Color profiles are not
// applied. The picture must be upright: the decoder of the file must apply the EXIF orientation of a camera.
#ifndef @{guard}
#define @{guard}

#include <stdint.h>

enum {
  @{name}_picture_height = @{height},
  @{name}_picture_width = @{width},
  @{name}_picture_channels = @{channels},  // @{channel_words}
  @{name}_picture_sums = @{name}_picture_width * @{name}_picture_channels  // scratch memory, int64_t
};
@{table}
// Quotient of two non-negative numbers, rounded to the nearest whole number; ties go to the even one.
static inline int64_t @{name}_nearest(int64_t dividend, int64_t divisor) {
  int64_t quotient = dividend / divisor, rest = dividend % divisor;
  return quotient + (2 * rest > divisor || (2 * rest == divisor && quotient % 2 == 1));
}

// A pixel -> the network's channels. Its format is 1 gray, 2 RGB565 with the low byte first, 3 red, green, blue, 4 and
// alpha (colors not premultiplied; transparent becomes white), or 10 RGB565 with the high byte first. format & 7 is its
// number of bytes. 5 and 6 bits become 8 by repeating the highest bits.
static inline void @{name}_levels(const uint8_t* pixel, int32_t format, int32_t* levels) {
  int32_t colours[3];
  if ((format & 7) == 2) {
    const int32_t both = format == 2 ? pixel[0] | pixel[1] << 8 : pixel[1] | pixel[0] << 8;
    colours[0] = both >> 11 << 3 | both >> 13;
    colours[1] = (both >> 5 & 63) << 2 | (both >> 9 & 3);
    colours[2] = (both & 31) << 3 | (both >> 2 & 7);
  } else {
    for (int32_t c = 0; c < 3; ++c) {
      colours[c] = pixel[format < 3 ? 0 : c];
      if (format == 4) {
        int32_t sum = (colours[c] * pixel[3] + 255 * (255 - pixel[3]) + 128) * 128;
        colours[c] = ((sum >> 8) + sum) >> 15;
      }
    }
  }
@{levels}
}

// Resizes one row of a picture to the network's width and adds it to the sums with a weight.
static inline void @{name}_add_row(const uint8_t* row, int32_t width, int32_t format, int64_t weight, int64_t* sums) {
  const int64_t reach = 2 * (int64_t)(width > @{name}_picture_width ? width : (int32_t)@{name}_picture_width);
  for (int32_t x = 0; x < @{name}_picture_width; ++x) {
    const int64_t middle = (2 * (int64_t)x + 1) * width;
    int64_t total = 0, column[@{name}_picture_channels];
    int32_t from = middle > reach ? (int32_t)((middle - reach) / (2 * @{name}_picture_width)) : 0;
    for (int32_t c = 0; c < @{name}_picture_channels; ++c) column[c] = 0;
    for (; from < width; ++from) {
      const int64_t distance = (2 * (int64_t)from + 1) * @{name}_picture_width - middle;
      const int64_t share = reach - (distance < 0 ? -distance : distance);
      int32_t levels[@{name}_picture_channels];
      if (distance >= reach) break;
      if (share <= 0) continue;
      @{name}_levels(row + (int64_t)from * (format & 7), format, levels);
      for (int32_t c = 0; c < @{name}_picture_channels; ++c) column[c] += share * levels[c];
      total += share;
    }
    for (int32_t c = 0; c < @{name}_picture_channels; ++c) {
      sums[x * @{name}_picture_channels + c] += weight * (((column[c] << 16) + total / 2) / total);
    }
  }
}

// Fills `input` with the network's input.
//
// picture    rows of `width` pixels
// format     how a pixel lies in memory: 1 gray, 3 red, green, blue, 4 and alpha, 2 or 10 RGB565 (see _levels above)
// row_bytes  from one row to the next
// sums       scratch memory of @{name}_picture_sums values
//
// Returns 0; -1 if @{sizes}, or if `format` is another number.
static inline int @{name}_from_picture(const uint8_t* picture, int32_t height, int32_t width, int32_t format,
                                       int64_t row_bytes, @{ctype}* input, int64_t* sums) {
@{fit}
  const int64_t reach = 2 * (int64_t)(height > @{name}_picture_height ? height : (int32_t)@{name}_picture_height);
  for (int32_t y = 0; y < @{name}_picture_height; ++y) {
    const int64_t middle = (2 * (int64_t)y + 1) * height;
    int64_t total = 0;
    int32_t from = middle > reach ? (int32_t)((middle - reach) / (2 * @{name}_picture_height)) : 0;
    for (int32_t i = 0; i < @{name}_picture_sums; ++i) sums[i] = 0;
    for (; from < height; ++from) {
      const int64_t distance = (2 * (int64_t)from + 1) * @{name}_picture_height - middle;
      const int64_t weight = reach - (distance < 0 ? -distance : distance);
      if (distance >= reach) break;
      if (weight <= 0) continue;
      @{name}_add_row(picture + from * row_bytes, width, format, weight, sums);
      total += weight;
    }
    for (int32_t i = 0; i < @{name}_picture_sums; ++i) {
      const int32_t level = (int32_t)@{name}_nearest(sums[i], total * 65536);
      input[y * @{name}_picture_sums + i] = @{value};
    }
  }
  return 0;
}

#endif  // @{guard}
""")

PICTURE_CHECK = Template("""\
  {
    static @{ctype} input[@{name}_input_0_size];
    static int64_t sums[@{name}_picture_sums];
    if (@{name}_from_picture(@{name}_picture[0], @{name}_picture_rows, @{name}_picture_columns, 4,
                             sizeof(@{name}_picture[0]), input, sums) != 0) {
      return Fail("the picture was refused");
    }
    if (std::memcmp(input, @{name}_input_0[@{name}_vector_count - 1], sizeof(input)) != 0) {
      return Fail("the input made from the picture differs");
    }
  }
""")

C_SIZES = Template("""\
  if (height < 1 || height > 65535 || width < 1 || width > 65535) return -1;
  if (format != 10 && (format < 1 || format > 4)) return -1;\
""")

C_SAME_SIZE = Template("""\
  if (height != @{name}_picture_height || width != @{name}_picture_width) return -1;
  if (format != 10 && (format < 1 || format > 4)) return -1;\
""")

C_CROP = Template("""\

  // The largest centered part with the network's proportions.
  const int64_t tall = @{name}_nearest((int64_t)width * @{name}_picture_height, @{name}_picture_width);
  const int64_t wide = @{name}_nearest((int64_t)height * @{name}_picture_width, @{name}_picture_height);
  const int32_t kept_height = tall < 1 ? 1 : tall < height ? (int32_t)tall : height;
  const int32_t kept_width = wide < 1 ? 1 : wide < width ? (int32_t)wide : width;
  picture += (height - kept_height) / 2 * row_bytes + (int64_t)((width - kept_width) / 2) * (format & 7);
  height = kept_height;
  width = kept_width;\
""")

C_GREY = """\
  // ITU-R BT.601 luma, before anything is resized.
  levels[0] = (19595 * colours[0] + 38470 * colours[1] + 7471 * colours[2] + 32768) >> 16;"""

C_RGB = """\
  for (int32_t c = 0; c < 3; ++c) levels[c] = colours[c];"""

PICTURE_KT = Template("""\
// Makes the input of @{file} from a picture, as in training: @{words}.
// No Android classes, only whole numbers: the same levels on every machine that runs Kotlin.
package com.example.wavemix

import kotlin.math.abs

object @{class_name}Picture {
    const val HEIGHT = @{height}
    const val WIDTH = @{width}
    private const val CHANNELS = @{channels} // @{channel_words}
@{table}
    /**
     * The network's input.
     *
     * @@param row puts the colors of a row, from the top, into an array of the picture's width: alpha, red, green and
     *     blue as from Bitmap.getPixels (not premultiplied). Transparent parts become white.
     */
    fun input(height: Int, width: Int, row: (Int, IntArray) -> Unit): @{input_array} {
        val levels = levels(height, width, row)
        return @{input_array}(levels.size) { i -> @{value} }
    }

    /** Levels of 0 to 255, HEIGHT rows of WIDTH pixels of CHANNELS values; see [input]. */
    fun levels(height: Int, width: Int, row: (Int, IntArray) -> Unit): IntArray {
@{fit}
        val colours = IntArray(width)
        val levels = IntArray(keptWidth * CHANNELS)
        val line = LongArray(WIDTH * CHANNELS)
        val sums = LongArray(HEIGHT * line.size)
        val totals = LongArray(HEIGHT)
        val reach = 2L * maxOf(keptHeight, HEIGHT)
        for (from in 0 until keptHeight) {
            row((height - keptHeight) / 2 + from, colours)
            for (x in 0 until keptWidth) putLevels(colours[(width - keptWidth) / 2 + x], levels, x * CHANNELS)
            fitRow(levels, line)
            val position = (2L * from + 1) * HEIGHT
            var y = maxOf(0L, (position - reach) / (2L * keptHeight)).toInt()
            while (y < HEIGHT && (2L * y + 1) * keptHeight - position < reach) {
                val weight = reach - abs((2L * y + 1) * keptHeight - position)
                if (weight > 0) {
                    totals[y] += weight
                    for (i in line.indices) sums[y * line.size + i] += weight * line[i]
                }
                y++
            }
        }
        return IntArray(sums.size) { i -> nearest(sums[i], totals[i / line.size] shl 16).toInt() }
    }

    /** Resizes one row of a picture to the network's width; with 16 bits below the level. */
    private fun fitRow(levels: IntArray, line: LongArray) {
        val width = levels.size / CHANNELS
        val reach = 2L * maxOf(width, WIDTH)
        val column = LongArray(CHANNELS)
        for (x in 0 until WIDTH) {
            val middle = (2L * x + 1) * width
            var from = maxOf(0L, (middle - reach) / (2L * WIDTH)).toInt()
            var total = 0L
            column.fill(0)
            while (from < width && (2L * from + 1) * WIDTH - middle < reach) {
                val weight = reach - abs((2L * from + 1) * WIDTH - middle)
                if (weight > 0) {
                    total += weight
                    for (c in 0 until CHANNELS) column[c] += weight * levels[from * CHANNELS + c]
                }
                from++
            }
            for (c in 0 until CHANNELS) line[x * CHANNELS + c] = ((column[c] shl 16) + total / 2) / total
        }
    }

    private fun putLevels(colour: Int, levels: IntArray, at: Int) {
        val alpha = colour ushr 24
        val red = onWhite(colour shr 16 and 0xFF, alpha)
        val green = onWhite(colour shr 8 and 0xFF, alpha)
        val blue = onWhite(colour and 0xFF, alpha)
@{levels}
    }

    private fun onWhite(level: Int, alpha: Int): Int {
        val sum = (level * alpha + 255 * (255 - alpha) + 128) * 128
        return (sum shr 8) + sum shr 15
    }

    /** Quotient of two non-negative numbers, rounded to the nearest whole number; ties go to the even one. */
    private fun nearest(dividend: Long, divisor: Long): Long {
        val quotient = dividend / divisor
        val rest = dividend % divisor
        return if (2 * rest > divisor || (2 * rest == divisor && quotient % 2 == 1L)) quotient + 1 else quotient
    }
}
""")

KT_WHOLE = """\
        require(height in 1..65535 && width in 1..65535) { "A picture has 1 to 65535 pixels a side: $height x $width" }
        val keptHeight = height
        val keptWidth = width"""

KT_SAME_SIZE = """\
        require(height == HEIGHT && width == WIDTH) {
            "The network takes tiles of $HEIGHT x $WIDTH pixels without resizing: $height x $width"
        }
        val keptHeight = height
        val keptWidth = width"""

KT_CROP = """\
        require(height in 1..65535 && width in 1..65535) { "A picture has 1 to 65535 pixels a side: $height x $width" }
        // The largest centered part with the network's proportions.
        val tall = nearest(width.toLong() * HEIGHT, WIDTH.toLong())
        val wide = nearest(height.toLong() * WIDTH, HEIGHT.toLong())
        val keptHeight = minOf(height.toLong(), maxOf(1L, tall)).toInt()
        val keptWidth = minOf(width.toLong(), maxOf(1L, wide)).toInt()"""

KT_GREY = """\
        // ITU-R BT.601 luma, before anything is resized.
        levels[at] = 19595 * red + 38470 * green + 7471 * blue + 32768 shr 16"""

KT_RGB = """\
        levels[at] = red
        levels[at + 1] = green
        levels[at + 2] = blue"""
