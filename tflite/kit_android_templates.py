"""The texts of a deployment kit for Android, see ``kit_templates``."""

from __future__ import annotations

from .kit_templates import Template

KOTLIN = Template("""\
// @{class_name}: @{file} with LiteRT's CompiledModel API (com.google.ai.edge.litert @{version}).
// Change the package to your own. README.md, beside the folder of this file, has the Gradle lines and the assets.
package com.example.wavemix

@{imports}

/**
 * @{device}.
 *
 * Create it, run it and close it on one thread, and not on the main one. The first inference is slower than the others.
 */
class @{class_name}(context: Context) : AutoCloseable {
@{environment}    private val options = CompiledModel.Options(Accelerator.@{accelerator})
    private val model = CompiledModel.create(context.assets, "@{file}", options@{env_argument})
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()
    val labels: List<String> =
        context.assets.open("@{labels}").bufferedReader().useLines { lines -> lines.toList() }
@{preprocessing}
    /** Runs the model on what its input takes: @{input_words}. */
    fun run(input: @{input_array}): @{output_array} {
        inputs[0].@{write}(input)
        model.run(inputs, outputs)
        return outputs[0].@{read}()
    }

@{postprocessing}
    /** Largest difference from the kit's test vectors, in @{unit}; 0: none differs. */
    fun checkVectors(assets: AssetManager): Float {
        val input = assets.open("test_vectors/input_0.bin").readBytes()
        val expected = assets.open("test_vectors/expected_0.bin").readBytes()
        val inputBytes = input.size / VECTORS
        val outputBytes = expected.size / VECTORS
        var largest = 0f
        for (vector in 0 until VECTORS) {
            val found = run(@{input_from_bytes})
            val wanted = @{output_from_bytes}
            for (i in wanted.indices) largest = maxOf(largest, abs(@{found_value} - @{wanted_value}))
        }
        return largest
    }

    override fun close() {
        (inputs + outputs).forEach { it.close() }
        model.close()
@{close_environment}    }

    companion object {
        private const val VECTORS = @{count}
@{floats}    }
}
""")

KOTLIN_FLOATS = Template("""\

        private fun floats(raw: ByteArray): FloatArray {
            val values = ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
            return FloatArray(values.remaining()).also { values.get(it) }
        }
""")

KOTLIN_IMAGE = Template("""\

    /** Classifies an image of any size: every output with its label, largest first. */
    fun classify(image: Bitmap): List<Pair<String, Float>> =
        labels.zip(values(run(pixels(image))).toList()).sortedByDescending { (_, value) -> value }
""")

KOTLIN_PIXELS = Template("""\

    /** @{height} x @{width}, @{channel_words}; each value is @{meaning}. */
    fun pixels(image: Bitmap): @{input_array} {
        var scaled = image
        // Halved first: one bilinear step from a large image skips most of its pixels, which training did not do.
        while (scaled.width >= 2 * @{width} && scaled.height >= 2 * @{height}) {
            scaled = Bitmap.createScaledBitmap(scaled, scaled.width / 2, scaled.height / 2, true)
        }
        scaled = Bitmap.createScaledBitmap(scaled, @{width}, @{height}, true)
        val colours = IntArray(@{width} * @{height})
        scaled.getPixels(colours, 0, @{width}, 0, 0, @{width}, @{height})
        val input = @{input_array}(colours.size * @{channels})
        for (i in colours.indices) {
            val red = colours[i] shr 16 and 0xFF
            val green = colours[i] shr 8 and 0xFF
            val blue = colours[i] and 0xFF
@{writes}
        }
        return input
    }
""")

KOTLIN_VALUES = Template("""\
    /** The output as real numbers: @{output_formula}. */
    fun values(output: @{output_array}): FloatArray =
        @{values_body}
""")

ANDROID_SECTION = Template("""\
## Android

In the app's `build.gradle.kts` (LiteRT @{version} needs minSdk 24):

```kotlin
android {
    androidResources { noCompress += "tflite" }
}
dependencies {
@{dependencies}
}
```

Copy `@{file}`, `@{labels}` and the folder `test_vectors` into `app/src/main/assets/`, and
`android/@{class_name}.kt` into your sources. Then, on a background thread:

```kotlin
@{class_name}(context).use { model ->
@{usage}
}
```
@{accelerator_words}
Written for the API of LiteRT @{version}; it was not compiled where this kit was made, and no phone was run.
""")
