"""Stubs of Android, LiteRT and JUnit with which a kit's Kotlin compiles and runs on a JVM: package -> source.

``CompiledModel`` computes nothing: it returns the outputs of the kit's vectors, and throws for any other input.
"""

SOURCES = {
    "android.content": """
open class Context(val assets: android.content.res.AssetManager)
""",
    "android.content.res": """
class AssetManager(private val folder: java.io.File) {
    fun open(name: String): java.io.InputStream = java.io.File(folder, name).inputStream()
}
""",
    "android.os": """
class Build { object VERSION { @JvmField var SDK_INT = 34 } }
""",
    "android.graphics": """
class Bitmap(val width: Int, val height: Int, val config: Config, private val colours: IntArray) {
    enum class Config { ARGB_8888, RGB_565, HARDWARE }
    fun getPixels(into: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {
        check(config != Config.HARDWARE) { "unable to getPixels(), pixel access is not supported on Config#HARDWARE" }
        for (row in 0 until height) for (column in 0 until width)
            into[offset + row * stride + column] = colours[(y + row) * this.width + x + column]
    }
    fun copy(config: Config, mutable: Boolean): Bitmap? = Bitmap(width, height, config, colours.copyOf())
    fun recycle() {}
    companion object {
        fun createBitmap(
            source: Bitmap, x: Int, y: Int, width: Int, height: Int, matrix: Matrix, filter: Boolean
        ): Bitmap {
            val ends = listOf(matrix.map(width, height))
            val (wide, high) = Pair(Math.abs(ends[0].first), Math.abs(ends[0].second))
            val turned = IntArray(wide * high)
            for (row in 0 until height) for (column in 0 until width) {
                // Centres of pixels, in halves; what lands at negative places is moved back.
                val (toX, toY) = matrix.map(2 * column + 1, 2 * row + 1)
                val left = if (ends[0].first < 0) 2 * wide else 0
                val top = if (ends[0].second < 0) 2 * high else 0
                turned[(toY + top) / 2 * wide + (toX + left) / 2] = source.colours[row * width + column]
            }
            return Bitmap(wide, high, source.config, turned)
        }
    }
}
class Matrix {
    private var rows = intArrayOf(1, 0, 0, 1)
    fun setScale(x: Float, y: Float) { rows = intArrayOf(x.toInt(), 0, 0, y.toInt()) }
    fun setRotate(degrees: Float) { // clockwise: y points down
        rows = when (degrees) {
            90f -> intArrayOf(0, -1, 1, 0)
            -90f -> intArrayOf(0, 1, -1, 0)
            180f -> intArrayOf(-1, 0, 0, -1)
            else -> throw IllegalArgumentException("$degrees")
        }
    }
    fun postScale(x: Float, y: Float) {
        rows = intArrayOf(x.toInt() * rows[0], x.toInt() * rows[1], y.toInt() * rows[2], y.toInt() * rows[3])
    }
    fun map(x: Int, y: Int) = Pair(rows[0] * x + rows[1] * y, rows[2] * x + rows[3] * y)
}
object BitmapFactory {
    fun decodeByteArray(data: ByteArray, offset: Int, length: Int): Bitmap? {
        val image = javax.imageio.ImageIO.read(java.io.ByteArrayInputStream(data, offset, length)) ?: return null
        val colours = image.getRGB(0, 0, image.width, image.height, null, 0, image.width)
        return Bitmap(image.width, image.height, Bitmap.Config.ARGB_8888, colours)
    }
}
class ImageDecoder {
    class Source(val data: java.nio.ByteBuffer)
    class ImageInfo
    var allocator = 0
    var isUnpremultipliedRequired = false
    companion object {
        const val ALLOCATOR_SOFTWARE = 1
        fun createSource(data: java.nio.ByteBuffer) = Source(data)
        fun decodeBitmap(source: Source, listener: (ImageDecoder, ImageInfo, Source) -> Unit): Bitmap {
            val decoder = ImageDecoder()
            listener(decoder, ImageInfo(), source)
            check(decoder.isUnpremultipliedRequired)
            val image = BitmapFactory.decodeByteArray(source.data.array(), 0, source.data.array().size)!!
            if (decoder.allocator == ALLOCATOR_SOFTWARE) return image
            val colours = IntArray(image.width * image.height)
            image.getPixels(colours, 0, image.width, 0, 0, image.width, image.height)
            return Bitmap(image.width, image.height, Bitmap.Config.HARDWARE, colours)
        }
    }
}
""",
    "android.media": """
class ExifInterface(stream: java.io.InputStream) {
    fun getAttributeInt(tag: String, otherwise: Int): Int = orientation
    companion object {
        var orientation = 1
        const val TAG_ORIENTATION = "Orientation"
        const val ORIENTATION_NORMAL = 1
        const val ORIENTATION_FLIP_HORIZONTAL = 2
        const val ORIENTATION_ROTATE_180 = 3
        const val ORIENTATION_FLIP_VERTICAL = 4
        const val ORIENTATION_TRANSPOSE = 5
        const val ORIENTATION_ROTATE_90 = 6
        const val ORIENTATION_TRANSVERSE = 7
        const val ORIENTATION_ROTATE_270 = 8
    }
}
""",
    "com.google.ai.edge.litert": """
import java.nio.ByteBuffer
import java.nio.ByteOrder
enum class Accelerator { NONE, CPU, GPU, NPU }
abstract class JniHandle : AutoCloseable {
    init { open++ }
    override fun close() { open-- }
    companion object { var open = 0 }
}
interface NpuAcceleratorProvider
class BuiltinNpuAcceleratorProvider(context: android.content.Context) : NpuAcceleratorProvider
class Environment private constructor() : JniHandle() {
    companion object {
        fun create(
            context: android.content.Context,
            npuAcceleratorProvider: NpuAcceleratorProvider,
            options: Map<String, String> = mapOf(),
            enableCompilerCache: Boolean = true
        ) = Environment()
    }
}
class LiteRtException(message: String) : Exception(message)
class TensorBuffer : JniHandle() {
    var raw = ByteArray(0)
    fun writeInt8(values: ByteArray) { raw = values.copyOf() }
    fun readInt8(): ByteArray = raw.copyOf()
    fun writeFloat(values: FloatArray) {
        val bytes = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
        values.forEach { bytes.putFloat(it) }
        raw = bytes.array()
    }
    fun readFloat(): FloatArray {
        val bytes = ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN)
        return FloatArray(raw.size / 4) { bytes.getFloat() }
    }
}
class CompiledModel private constructor(
    private val inputs: ByteArray, private val outputs: ByteArray, private val broken: Boolean, private val flipped: Int
) : JniHandle() {
    class Options(val accelerators: Set<Accelerator>)
    fun createInputBuffers() = listOf(TensorBuffer())
    fun createOutputBuffers() = listOf(TensorBuffer())
    fun run(given: List<TensorBuffer>, found: List<TensorBuffer>) {
        if (broken) throw LiteRtException("Failed to run")
        val size = given[0].raw.size
        val vectors = inputs.size / size
        val row = { vector: Int -> inputs.copyOfRange(vector * size, (vector + 1) * size) }
        val vector = (0 until vectors).first { row(it).contentEquals(given[0].raw) }
        val each = outputs.size / vectors
        found[0].raw = outputs.copyOfRange(vector * each, (vector + 1) * each)
        found[0].raw[0] = (found[0].raw[0].toInt() xor flipped).toByte()
    }
    companion object {
        /** The form of LiteRT's own message. */
        const val REFUSED = "ERROR: [litert_compiled_model.h:1]\\n└ Some ops are not accelerated."
        /** As the runtime of a device with these accelerators, which run every op. */
        var present = setOf(Accelerator.CPU, Accelerator.GPU)
        /** An accelerator that opens a file and does not run it. */
        var breaks = Accelerator.NONE
        /** An accelerator without its library. */
        var unlinked = Accelerator.NONE
        /** Accelerator -> the bits of the first output value that it computes wrongly. */
        var flips = mapOf<Accelerator, Int>()
        fun create(
            assetManager: android.content.res.AssetManager,
            assetName: String,
            options: Options,
            optionalEnv: Environment? = null
        ): CompiledModel {
            // LiteRT adds the CPU to the NPU alone.
            val alone = options.accelerators == setOf(Accelerator.NPU)
            val allowed = if (alone) setOf(Accelerator.NPU, Accelerator.CPU) else options.accelerators
            if (allowed.none { it in present }) throw LiteRtException(REFUSED)
            if (unlinked != Accelerator.NONE && unlinked in allowed) throw UnsatisfiedLinkError("dlopen failed: x.so")
            val (assets, file) = Pair(assetManager, assetName)
            assets.open(file).close()
            val folder = "test_vectors/" + file.removeSuffix(".tflite")
            val (given, found) = listOf("input_0.bin", "expected_0.bin").map { assets.open("$folder/$it").readBytes() }
            val flipped = flips.filterKeys { it in allowed }.values.sum()
            return CompiledModel(given, found, breaks != Accelerator.NONE && breaks in allowed, flipped)
        }
    }
}
""",
    "org.junit": """
annotation class Test
object Assert {
    fun assertTrue(message: String, condition: Boolean) { if (!condition) throw AssertionError(message) }
}
""",
    "org.junit.runner": """
annotation class RunWith(val value: kotlin.reflect.KClass<*>)
""",
    "androidx.test.ext.junit.runners": """
class AndroidJUnit4
""",
    "androidx.test.platform.app": """
class Instrumentation(val targetContext: android.content.Context)
object InstrumentationRegistry {
    lateinit var context: android.content.Context
    fun getInstrumentation() = Instrumentation(context)
}
""",
}
