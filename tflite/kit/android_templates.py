"""The texts of a deployment kit for Android; see ``templates``."""

from __future__ import annotations

from .templates import Template

KOTLIN = Template("""\
// @{class_name}: @{file} with LiteRT's CompiledModel API (com.google.ai.edge.litert @{version}).
// Change the package to your own. README.md says which Gradle lines and assets it needs.
package com.example.wavemix

@{imports}

/**
 * @{device}.
 *
 * Create, run and close it on one thread, not on the main thread. The first inference is slower than the others.
 *
 * @@param accelerators what LiteRT may run it on. Without the CPU among them, LiteRT throws if they cannot run every
 *     op; with it, LiteRT does not say which ops the CPU ran.
 */
class @{class_name}(context: Context, accelerators: Set<Accelerator> = setOf(@{accelerators})) : AutoCloseable {
@{labels}    private val environment: Environment? = // with the libraries of the NPU's vendor
        if (Accelerator.NPU !in accelerators) null
        else Environment.create(context, BuiltinNpuAcceleratorProvider(context))
    private val model = orClose(environment) {
        CompiledModel.create(context.assets, "@{file}", CompiledModel.Options(accelerators), environment)
    }
    private val inputs = orClose(model, environment) { model.createInputBuffers() }
    private val outputs = orClose(model, environment) { model.createOutputBuffers() }
@{pictures}
    /** Runs the model on its input: @{input_words}. */
    fun run(input: @{input_array}): @{output_array} {
        inputs[0].@{write}(input)
        model.run(inputs, outputs)
        return outputs[0].@{read}()
    }

@{postprocessing}
    /** Largest difference from the kit's test vectors, in @{unit}; 0: none differs. */
    fun checkVectors(assets: AssetManager): Float {
        val input = assets.open("test_vectors/@{name}/input_0.bin").readBytes()
        val expected = assets.open("test_vectors/@{name}/expected_0.bin").readBytes()
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
        environment?.close()
    }

    companion object {
        private const val VECTORS = @{count}

        /** What [make] returns; if it throws, [opened] is closed. */
        private fun <T> orClose(vararg opened: AutoCloseable?, make: () -> T): T =
            try {
                make()
            } catch (failure: Throwable) {
                opened.forEach { it?.close() }
                throw failure
            }
@{decoding}@{floats}    }
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
    fun classify(image: Bitmap): List<Pair<String, Float>> = ranked(values(run(pixels(image))))

    /** Scores, one a class, with the labels, largest first. */
    fun ranked(scores: FloatArray): List<Pair<String, Float>> =
        labels.zip(scores.toList()).sortedByDescending { (_, score) -> score }

    /** Share of each class, 0 to 1: @{shares}. */
    fun shares(output: @{output_array}): FloatArray @{shares_body}
""")

KOTLIN_SOFTMAX = """\
{
        val scores = values(output)
        val largest = scores.fold(scores[0]) { one, other -> maxOf(one, other) }
        val powers = FloatArray(scores.size) { i -> exp(scores[i] - largest) }
        val sum = powers.sum()
        return FloatArray(powers.size) { i -> powers[i] / sum }
    }"""

KOTLIN_LABELS = Template("""\
    val labels: List<String> =
        context.assets.open("@{labels}").bufferedReader().useLines { lines -> lines.toList() }
""")

KOTLIN_PICTURES = Template("""\

    /** The model's input from a picture of any size: @{words}; each value is @{meaning}. */
    fun pixels(image: Bitmap): @{input_array} {
        // The pixels of a HARDWARE bitmap, as from ImageDecoder and image loaders, are on the GPU: copied first.
        val plain = Bitmap.Config.ARGB_8888
        val readable = if (image.config == plain) image else image.copy(plain, false)
        requireNotNull(readable) { "the bitmap's pixels cannot be read: ${image.config}" }
        val input = @{class_name}Picture.input(image.height, image.width) { y, colours ->
            readable.getPixels(colours, 0, image.width, 0, y, image.width, 1)
        }
        if (readable !== image) readable.recycle()
        return input
    }

    /**
     * Largest difference of the inputs made from the kit's PNG files from those of the vectors, in the input's own
     * unit; 0: none differs.
     */
    fun checkPictures(assets: AssetManager): Float {
        val input = assets.open("test_vectors/@{name}/input_0.bin").readBytes()
        val inputBytes = input.size / VECTORS
        var largest = 0f
        for (vector in 0 until VECTORS) {
            val made = pixels(decode(assets.open("test_vectors/@{name}/picture_$vector.png").readBytes()))
            val wanted = @{input_from_bytes}
            for (i in wanted.indices) largest = maxOf(largest, abs(@{found_value} - @{wanted_value}))
        }
        return largest
    }
""")

KOTLIN_DECODING = """\

        /** The picture of an image file, upright by its EXIF orientation. */
        fun decode(encoded: ByteArray): Bitmap {
            if (Build.VERSION.SDK_INT >= 28) {
                return ImageDecoder.decodeBitmap(ImageDecoder.createSource(ByteBuffer.wrap(encoded))) { decoder, _, _ ->
                    decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE
                    decoder.isUnpremultipliedRequired = true // colors as stored, whatever their alpha
                }
            }
            val image = requireNotNull(BitmapFactory.decodeByteArray(encoded, 0, encoded.size)) { "no image" }
            val upright = Matrix()
            val exif = ExifInterface(ByteArrayInputStream(encoded))
            when (exif.getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL)) {
                ExifInterface.ORIENTATION_FLIP_HORIZONTAL -> upright.setScale(-1f, 1f)
                ExifInterface.ORIENTATION_ROTATE_180 -> upright.setRotate(180f)
                ExifInterface.ORIENTATION_FLIP_VERTICAL -> upright.setScale(1f, -1f)
                ExifInterface.ORIENTATION_TRANSPOSE -> {
                    upright.setRotate(90f)
                    upright.postScale(-1f, 1f)
                }
                ExifInterface.ORIENTATION_ROTATE_90 -> upright.setRotate(90f)
                ExifInterface.ORIENTATION_TRANSVERSE -> {
                    upright.setRotate(-90f)
                    upright.postScale(-1f, 1f)
                }
                ExifInterface.ORIENTATION_ROTATE_270 -> upright.setRotate(-90f)
                else -> return image
            }
            return Bitmap.createBitmap(image, 0, 0, image.width, image.height, upright, false)
        }
"""

KOTLIN_TEST = Template("""\
// An instrumented test of @{class_name} on a phone: app/src/androidTest/java, with androidx.test.ext:junit.
package com.example.wavemix

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith

@@RunWith(AndroidJUnit4::class)
class @{class_name}Test {
    private val context = InstrumentationRegistry.getInstrumentation().targetContext

    @@Test
    fun theModelComputesWhatItComputedWhereItWasMade() {
        val difference = @{class_name}(context).use { it.checkVectors(context.assets) }
        assertTrue("an output is off by $difference", difference <= @{tolerance})
    }
@{pictures}}
""")

KOTLIN_PICTURE_TEST = Template("""\

    @@Test
    fun aPictureBecomesTheInputThatTrainingMakesOfIt() {
        val difference = @{class_name}(context).use { it.checkPictures(context.assets) }
        assertTrue("an input differs by more than a level: $difference", difference <= @{level})
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

Copy `@{file}`@{labels} and the folder `test_vectors` into `app/src/main/assets/` (its content is in a folder `@{name}`,
so that several kits can share the assets) and @{sources} into your sources. `android/@{class_name}Test.kt`, in
`app/src/androidTest/java`, checks the path from the pictures to the outputs on the phone (dependencies
`androidx.test.ext:junit` and `androidx.test:runner`). Then, on a background thread:

```kotlin
@{class_name}(context).use { model ->
@{usage}
}
```
@{accelerator_words}
Written for the API of LiteRT @{version}; it was not compiled when this kit was made, and not run on a phone.
""")
