"""Further stubs with which a whole app of an Android project compiles and runs on a JVM: package -> source.

The views keep what they are given. The camera delivers the frames that ``Camera.frames`` holds.
"""

SOURCES = {
    "android": """
object Manifest { object permission { const val CAMERA = "android.permission.CAMERA" } }
class R { object layout { const val simple_spinner_dropdown_item = 1 } }
""",
    "android.content.pm": """
object PackageManager { const val PERMISSION_GRANTED = 0 }
""",
    "android.net": """
class Uri(val file: java.io.File?) { override fun toString() = "content://$file" }
""",
    "android.os": """
class Bundle
""",
    "android.util": """
object Log {
    fun i(tag: String, text: String) = 0
    fun w(tag: String, text: String, failure: Throwable) = 0
    fun e(tag: String, text: String, failure: Throwable) = 0
}
""",
    "android.view": """
open class View {
    var visibility = VISIBLE
    private var listener: ((View) -> Unit)? = null
    fun setOnClickListener(listener: (View) -> Unit) { this.listener = listener }
    fun performClick() = listener!!(this)
    companion object {
        const val VISIBLE = 0
        const val GONE = 8
    }
}
""",
    "android.widget": """
import android.view.View
open class TextView : View() { @Volatile var text: CharSequence = "" }
class Button : TextView()
class ImageView : View() {
    var picture: android.graphics.Bitmap? = null
    fun setImageBitmap(picture: android.graphics.Bitmap?) { this.picture = picture }
}
class ArrayAdapter<T>(context: android.content.Context, resource: Int, val items: List<T>)
abstract class AdapterView<T> : View() {
    interface OnItemSelectedListener {
        fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long)
        fun onNothingSelected(parent: AdapterView<*>?)
    }
    var onItemSelectedListener: OnItemSelectedListener? = null
}
class Spinner : AdapterView<ArrayAdapter<*>>() {
    var adapter: ArrayAdapter<*>? = null
    var selected = 0
    fun setSelection(position: Int) { selected = position }
    fun choose(position: Int) {
        selected = position
        onItemSelectedListener!!.onItemSelected(this, this, position, 0L)
    }
}
""",
    "androidx.lifecycle": """
interface LifecycleOwner
""",
    "androidx.activity.result": """
class ActivityResultLauncher<I>(private val answer: (I) -> Unit) { fun launch(input: I) = answer(input) }
class PickVisualMediaRequest private constructor() {
    class Builder {
        fun setMediaType(
            mediaType: androidx.activity.result.contract.ActivityResultContracts.PickVisualMedia.VisualMediaType
        ) = this
        fun build() = PickVisualMediaRequest()
    }
}
""",
    "androidx.activity.result.contract": """
abstract class ActivityResultContract<I, O> { abstract fun answer(input: I): O }
class ActivityResultContracts {
    class RequestPermission : ActivityResultContract<String, Boolean>() {
        override fun answer(input: String): Boolean {
            androidx.core.content.ContextCompat.granted = grants
            return grants
        }
        companion object { var grants = true }
    }
    class PickVisualMedia :
        ActivityResultContract<androidx.activity.result.PickVisualMediaRequest, android.net.Uri?>() {
        interface VisualMediaType
        object ImageOnly : VisualMediaType
        override fun answer(input: androidx.activity.result.PickVisualMediaRequest) = chosen
        companion object { var chosen: android.net.Uri? = null }
    }
}
""",
    "androidx.activity": """
import androidx.activity.result.ActivityResultLauncher
import androidx.activity.result.contract.ActivityResultContract
class ContentResolver {
    fun openInputStream(uri: android.net.Uri): java.io.InputStream? = uri.file?.inputStream()
}
open class ComponentActivity :
    android.content.Context(android.content.res.AssetManager(java.io.File(System.getProperty("assets")))),
    androidx.lifecycle.LifecycleOwner {
    private var views = mapOf<Int, android.view.View>()
    val contentResolver = ContentResolver()
    open fun onCreate(savedInstanceState: android.os.Bundle?) {}
    open fun onDestroy() {}
    fun setContentView(layout: Int) { views = com.example.wavemix.inflate(layout) }
    @Suppress("UNCHECKED_CAST") fun <T : android.view.View> findViewById(id: Int): T = views.getValue(id) as T
    fun getString(id: Int): String = com.example.wavemix.strings.getValue(id)
    fun runOnUiThread(work: () -> Unit) = synchronized(this) { work() }
    fun <I, O> registerForActivityResult(contract: ActivityResultContract<I, O>, use: (O) -> Unit) =
        ActivityResultLauncher<I> { input -> use(contract.answer(input)) }
}
""",
    "androidx.core.content": """
object ContextCompat {
    var granted = false
    fun checkSelfPermission(context: android.content.Context, permission: String) = if (granted) 0 else -1
    fun getMainExecutor(context: android.content.Context) = java.util.concurrent.Executor { it.run() }
}
""",
    "com.google.common.util.concurrent": """
class ListenableFuture<T>(private val value: () -> T) {
    fun addListener(listener: Runnable, executor: java.util.concurrent.Executor) = executor.execute(listener)
    fun get(): T = value()
}
""",
    "androidx.camera.core": """
import java.util.concurrent.Executor
class CameraSelector { companion object { val DEFAULT_BACK_CAMERA = CameraSelector() } }
open class UseCase
class Preview : UseCase() {
    interface SurfaceProvider
    fun setSurfaceProvider(provider: SurfaceProvider?) {}
    class Builder { fun build() = Preview() }
}
class Rect(val left: Int, val top: Int, val right: Int, val bottom: Int) {
    fun width() = right - left
    fun height() = bottom - top
}
interface ImageInfo { val rotationDegrees: Int }
interface ImageProxy : AutoCloseable {
    interface PlaneProxy {
        val buffer: java.nio.ByteBuffer
        val rowStride: Int
        val pixelStride: Int
    }
    val planes: Array<PlaneProxy>
    val cropRect: Rect
    val imageInfo: ImageInfo
}
class ImageAnalysis : UseCase() {
    class Builder {
        private var strategy = -1
        private var format = 1
        fun setBackpressureStrategy(strategy: Int): Builder { this.strategy = strategy; return this }
        fun setOutputImageFormat(format: Int): Builder { this.format = format; return this }
        fun build(): ImageAnalysis {
            check(strategy == STRATEGY_KEEP_ONLY_LATEST && format == OUTPUT_IMAGE_FORMAT_RGBA_8888)
            return ImageAnalysis()
        }
    }
    private var analyze: ((ImageProxy) -> Unit)? = null
    private var executor: Executor? = null
    fun setAnalyzer(executor: Executor, analyzer: (ImageProxy) -> Unit) {
        this.executor = executor
        analyze = analyzer
    }
    fun deliver(image: ImageProxy) = executor!!.execute { analyze!!(image) }
    companion object {
        const val STRATEGY_KEEP_ONLY_LATEST = 0
        const val OUTPUT_IMAGE_FORMAT_RGBA_8888 = 2
    }
}
""",
    "androidx.camera.lifecycle": """
import androidx.camera.core.*
class ProcessCameraProvider {
    fun unbindAll() { bound = listOf() }
    fun bindToLifecycle(owner: androidx.lifecycle.LifecycleOwner, selector: CameraSelector, vararg useCases: UseCase) {
        bound = useCases.toList()
    }
    companion object {
        var present = true
        var bound = listOf<UseCase>()
        fun getInstance(context: android.content.Context) =
            com.google.common.util.concurrent.ListenableFuture<ProcessCameraProvider> {
                check(present) { "no camera" }
                ProcessCameraProvider()
            }
    }
}
""",
    "androidx.camera.view": """
class PreviewView : android.view.View() {
    val surfaceProvider = object : androidx.camera.core.Preview.SurfaceProvider {}
}
""",
}

# Drives the app as a person would, and prints what the screen shows.
DRIVER = r"""
package com.example.wavemix
import androidx.camera.core.*
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.activity.result.contract.ActivityResultContracts.*
import com.google.ai.edge.litert.*
import java.io.File
import java.nio.ByteBuffer

inline fun <T : AutoCloseable, R> T.use(block: (T) -> R): R = try { block(this) } finally { close() }

class Frame(file: File, override val rotationDegrees: Int) : ImageProxy, ImageInfo, ImageProxy.PlaneProxy {
    private val image = javax.imageio.ImageIO.read(file)
    override val rowStride = 4 * (image.width + 5) + 4
    override val pixelStride = 4
    override val cropRect = Rect(2, 1, 2 + image.width, 1 + image.height)
    override val imageInfo get() = this
    override val planes get() = arrayOf<ImageProxy.PlaneProxy>(this)
    override val buffer: ByteBuffer
        get() {
            val bytes = ByteBuffer.allocateDirect(rowStride * (image.height + 2))
            for (y in 0 until image.height) for (x in 0 until image.width) {
                val color = image.getRGB(x, y)
                val at = (y + 1) * rowStride + (x + 2) * 4
                bytes.put(at, (color shr 16).toByte()).put(at + 1, (color shr 8).toByte()).put(at + 2, color.toByte())
                bytes.put(at + 3, -1)
            }
            return bytes
        }
    override fun close() { open-- }
    init { open++ }
    companion object { @Volatile var open = 0 }
}

/** Waits until the worker has done what it was given. */
fun MainActivity.settle() {
    val worker = MainActivity::class.java.getDeclaredField("worker").also { it.isAccessible = true }.get(this)
    for (i in 0..1) (worker as java.util.concurrent.ExecutorService).submit {}.get()
}
fun MainActivity.text(id: Int) = findViewById<android.widget.TextView>(id).text.toString()
fun MainActivity.places() = findViewById<android.widget.Spinner>(R.id.places)

fun main(words: Array<String>) {
    val frames = words.map { File(it) }
    val activity = MainActivity()
    RequestPermission.grants = false
    activity.onCreate(null)
    println(activity.text(R.id.answer))
    println(activity.places().adapter!!.items.joinToString() + "; " + activity.places().selected)
    RequestPermission.grants = true
    activity.findViewById<android.widget.Button>(R.id.camera).performClick()
    val analysis = ProcessCameraProvider.bound.filterIsInstance<ImageAnalysis>().single()
    check(ProcessCameraProvider.bound.any { it is Preview })
    for ((present, wanted) in listOf(
        setOf(Accelerator.CPU) to Place.NPU,
        setOf(Accelerator.CPU, Accelerator.GPU) to Place.NPU,
        setOf(Accelerator.CPU, Accelerator.GPU, Accelerator.NPU) to Place.NPU,
        setOf(Accelerator.CPU, Accelerator.GPU) to Place.CPU,
        setOf(Accelerator.NPU) to Place.GPU
    )) {
        CompiledModel.present = present
        activity.places().choose(wanted.ordinal)
        activity.settle()
        println("STATUS " + activity.text(R.id.status).replace("\n", " | "))
    }
    CompiledModel.present = setOf(Accelerator.CPU, Accelerator.GPU)
    CompiledModel.breaks = Accelerator.GPU
    activity.places().choose(Place.GPU.ordinal)
    activity.settle()
    println("STATUS " + activity.text(R.id.status).replace("\n", " | "))
    CompiledModel.breaks = Accelerator.NONE
    CompiledModel.unlinked = Accelerator.GPU
    for (flips in listOf(
        mapOf(),
        mapOf(Accelerator.GPU to 64),
        mapOf(Accelerator.GPU to 1),
        mapOf(Accelerator.GPU to 48, Accelerator.CPU to 64)
    )) {
        CompiledModel.flips = flips
        activity.places().choose(Place.GPU.ordinal)
        activity.settle()
        println("STATUS " + activity.text(R.id.status).replace("\n", " | "))
        CompiledModel.unlinked = Accelerator.NONE
    }
    CompiledModel.flips = mapOf()
    activity.places().choose(Place.CPU.ordinal)
    for (frame in frames.drop(1)) {
        analysis.deliver(Frame(frame, frame.nameWithoutExtension.toInt()))
        activity.settle()
        println(activity.text(R.id.answer))
    }
    println("TIME " + Regex("[0-9]+[.][0-9]{2} ms").containsMatchIn(activity.text(R.id.status)))
    PickVisualMedia.chosen = android.net.Uri(frames[0])
    activity.findViewById<android.widget.Button>(R.id.picture).performClick()
    activity.settle()
    println(activity.text(R.id.answer))
    check(ProcessCameraProvider.bound.isEmpty())
    check(activity.findViewById<android.widget.ImageView>(R.id.shown).picture != null)
    PickVisualMedia.chosen = android.net.Uri(null)
    activity.findViewById<android.widget.Button>(R.id.picture).performClick()
    activity.settle()
    println(activity.text(R.id.status))
    ProcessCameraProvider.present = false
    activity.findViewById<android.widget.Button>(R.id.camera).performClick()
    println(activity.text(R.id.status))
    androidx.test.platform.app.InstrumentationRegistry.context = activity
    PlacesTest().theCpuComputesTheTestVectors()
    PlacesTest().thePlacesAfterARefusedOneAreTried()
    activity.settle()
    activity.onDestroy()
    java.lang.Thread.sleep(200)
    println("OPEN ${JniHandle.open} ${Frame.open}")
    activity.places().choose(Place.CPU.ordinal)
    analysis.deliver(Frame(frames[0], 0))
    activity.findViewById<android.widget.Button>(R.id.picture).performClick()
    java.lang.Thread.sleep(200)
    println("LATE ${JniHandle.open}")
}
"""
