"""The Kotlin of an Android project, beside the kit's own classes; see ``..templates``."""

from __future__ import annotations

from ..templates import Template

CAMERA_FRAME = Template("""\
package com.example.wavemix

import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * The upright picture in a frame of a camera. No Android classes; nothing is copied or resized.
 *
 * @@param pixels red, green, blue and alpha of every pixel, rows from the top
 * @@param rowBytes from one row to the next
 * @@param pixelBytes from one pixel to the next
 * @@param left column at which the picture begins
 * @@param top row at which the picture begins
 * @@param columns width of the picture before it is turned
 * @@param rows height of the picture before it is turned
 * @@param degrees 0, 90, 180 or 270: how far to turn it clockwise
 */
class CameraFrame(
    pixels: ByteBuffer,
    private val rowBytes: Int,
    private val pixelBytes: Int,
    private val left: Int,
    private val top: Int,
    private val columns: Int,
    private val rows: Int,
    private val degrees: Int
) {
    private val pixels = pixels.duplicate().order(ByteOrder.BIG_ENDIAN)
    val height = if (degrees % 180 == 0) rows else columns
    val width = if (degrees % 180 == 0) columns else rows

    init {
        require(degrees in listOf(0, 90, 180, 270)) { "A frame is turned by 0, 90, 180 or 270 degrees: $degrees" }
    }

    /** Puts row [y] of the upright picture into an array of its width: alpha, red, green, blue, as Bitmap.getPixels. */
    fun row(y: Int, into: IntArray) {
        val step = when (degrees) {
            0 -> pixelBytes
            90 -> -rowBytes
            180 -> -pixelBytes
            else -> rowBytes
        }
        var place = when (degrees) { // of the row's first pixel
            0 -> place(0, y)
            90 -> place(y, rows - 1)
            180 -> place(columns - 1, rows - 1 - y)
            else -> place(columns - 1 - y, 0)
        }
        for (x in 0 until width) {
            val colors = pixels.getInt(place)
            into[x] = (colors ushr 8) or (colors shl 24)
            place += step
        }
    }

    private fun place(column: Int, row: Int) = (top + row) * rowBytes + (left + column) * pixelBytes
}
""")

RECOGNIZER = Template("""\
package com.example.wavemix

import android.content.Context
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import java.util.Locale

/**
 * Where the network runs. The CPU is among the accelerators of none but itself, so LiteRT throws unless the place runs
 * every op: where a [Recognizer] has opened, all of the network runs.
 */
enum class Place(val title: String, val accelerators: Set<Accelerator>) {
    NPU("NPU", setOf(Accelerator.NPU, Accelerator.NONE)), // with NONE: LiteRT adds the CPU to the NPU alone
    GPU("GPU", setOf(Accelerator.GPU)),
    CPU("CPU", setOf(Accelerator.CPU))
}

/** The best classes with their shares, and the times of one picture. */
class Answer(val best: List<Pair<String, Float>>, val inputMs: Double, val networkMs: Double) {
    val lines: String
        get() = best.joinToString("\\n") { (label, share) -> "%5.1f %%  %s".format(Locale.ROOT, 100 * share, label) }
}

/**
 * The network at the first place that runs it.
 *
 * Open, use and close it on one thread, not on the main thread.
 *
 * @@property place where it runs
 * @@property refused the earlier places, with the reasons: LiteRT's, or outputs that are not those of the test vectors
 * @@property difference the largest difference from the test vectors at this place, in @{unit}
 */
class Recognizer private constructor(
    private val model: @{class_name},
    val place: Place,
    val refused: Map<Place, String>,
    val difference: Float
) : AutoCloseable {
    private val times = DoubleArray(TIMES)
    private var count = 0

    /** Whether the outputs are those of the test vectors: false only at [Place.CPU], after which there is no place. */
    val passed = difference <= allowed(place) // false for NaN, too

    fun recognize(picture: Bitmap): Answer = answer { model.pixels(picture) }

    fun recognize(frame: CameraFrame): Answer =
        answer { @{class_name}Picture.input(frame.height, frame.width) { y, colors -> frame.row(y, colors) } }

    private fun answer(input: () -> @{input_array}): Answer {
        val start = System.nanoTime()
        val made = input()
        val before = System.nanoTime()
        val output = model.run(made)
        val after = System.nanoTime()
        times[count++ % TIMES] = (after - before) / 1e6
        return Answer(model.ranked(model.shares(output)).take(BEST), (before - start) / 1e6, times[(count - 1) % TIMES])
    }

    /** The place, the median time of the last pictures, the self-test, and why earlier places were refused. */
    fun status(): String {
        val latest = times.copyOf(minOf(count, TIMES)).sorted()
        val time = if (latest.isEmpty()) "" else ", %.2f ms".format(Locale.ROOT, latest[latest.size / 2])
        val found = "largest difference $difference (@{unit})"
        val test = if (passed) "Self-test: passed, $found" else "Self-test: FAILED, $found; allowed: ${allowed(place)}"
        val reasons = refused.map { (place, reason) -> "${place.title} refused: $reason" }
        return (listOf("${place.title}, every op$time", test) + reasons).joinToString("\\n")
    }

    override fun close() = model.close()

    companion object {
        private const val BEST = 5 // classes in an answer
        private const val TIMES = 31 // pictures of the median
        private const val TOLERANCE = @{tolerance} // of the test vectors, in @{unit}
        private const val ACCELERATOR_TOLERANCE = @{accelerator_tolerance} // they round in their own way

        private fun allowed(place: Place) = if (place == Place.CPU) TOLERANCE else ACCELERATOR_TOLERANCE

        /**
         * The network at [wanted], or at the first place after it that runs it and computes the test vectors.
         *
         * The CPU is the last place: it is taken even if its outputs differ; see [passed].
         *
         * @@throws IllegalStateException if there is none
         */
        fun open(context: Context, wanted: Place): Recognizer {
            val refused = linkedMapOf<Place, String>()
            for (place in Place.values().filter { it >= wanted }) {
                var model: @{class_name}? = null
                try {
                    model = @{class_name}(context, place.accelerators)
                    val opened = Recognizer(model, place, refused, model.checkVectors(context.assets))
                    check(opened.passed || place == Place.CPU) {
                        "An output is off by ${opened.difference} (@{unit}); allowed: ${allowed(place)}"
                    }
                    return opened
                } catch (failure: Exception) {
                    model?.close()
                    refused[place] = reason(failure)
                } catch (failure: LinkageError) { // a library of the accelerator is missing or does not fit
                    model?.close()
                    refused[place] = reason(failure)
                }
            }
            throw IllegalStateException("The network runs nowhere on this device: $refused")
        }

        /** In one line. LiteRT's messages have several: places in its source, then the reason. */
        private fun reason(failure: Throwable): String {
            val text = failure.message.orEmpty().lines().joinToString(" ") { it.trim() }
            return if (text.isBlank()) failure.javaClass.simpleName else text
        }
    }
}
""")

MAIN_ACTIVITY = Template("""\
package com.example.wavemix

import android.Manifest
import android.content.pm.PackageManager
import android.graphics.Bitmap
import android.net.Uri
import android.os.Bundle
import android.util.Log
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.ImageView
import android.widget.Spinner
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.PickVisualMediaRequest
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.core.Preview
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.camera.view.PreviewView
import androidx.core.content.ContextCompat
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.ThreadPoolExecutor
import java.util.concurrent.TimeUnit

/** Classifies what the camera sees, or a picture, and shows where the network ran and how long it took. */
class MainActivity : ComponentActivity() {
    // The only thread that touches the recognizer. After onDestroy it ignores what still comes.
    private val worker = ThreadPoolExecutor(
        1, 1, 0, TimeUnit.SECONDS, LinkedBlockingQueue<Runnable>(), ThreadPoolExecutor.DiscardPolicy()
    )
    private var recognizer: Recognizer? = null
    private var picture: Bitmap? = null // instead of the camera; only on the worker, too

    private val askForCamera = registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
        if (granted) startCamera() else showAnswer(getString(R.string.no_camera))
    }
    private val pickPicture = registerForActivityResult(ActivityResultContracts.PickVisualMedia()) { uri ->
        if (uri != null) usePicture(uri)
    }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.activity_main)
        findViewById<Button>(R.id.camera).setOnClickListener { useCamera() }
        findViewById<Button>(R.id.picture).setOnClickListener {
            val images = ActivityResultContracts.PickVisualMedia.ImageOnly
            pickPicture.launch(PickVisualMediaRequest.Builder().setMediaType(images).build())
        }
        val places = findViewById<Spinner>(R.id.places)
        val titles = Place.values().map { it.title }
        places.adapter = ArrayAdapter(this, android.R.layout.simple_spinner_dropdown_item, titles)
        places.setSelection(Place.@{accelerator}.ordinal)
        places.onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
            override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) =
                open(Place.values()[position])

            override fun onNothingSelected(parent: AdapterView<*>?) = Unit
        }
        useCamera()
    }

    override fun onDestroy() {
        super.onDestroy()
        onWorker {
            recognizer?.close()
            recognizer = null
        }
        worker.shutdown()
    }

    private fun open(wanted: Place) = onWorker {
        recognizer?.close()
        recognizer = null
        val opened = Recognizer.open(this, wanted)
        recognizer = opened
        Log.i(TAG, opened.status())
        showStatus(opened.status())
        picture?.let { show(opened, opened.recognize(it)) }
    }

    private fun useCamera() {
        if (ContextCompat.checkSelfPermission(this, Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED) {
            startCamera()
        } else {
            askForCamera.launch(Manifest.permission.CAMERA)
        }
    }

    private fun startCamera() {
        val main = ContextCompat.getMainExecutor(this)
        val coming = ProcessCameraProvider.getInstance(this)
        coming.addListener(Runnable {
            try {
                val preview = Preview.Builder().build()
                preview.setSurfaceProvider(findViewById<PreviewView>(R.id.preview).surfaceProvider)
                val frames = ImageAnalysis.Builder()
                    .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
                    .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
                    .build()
                frames.setAnalyzer(worker) { image -> useFrame(image) }
                val cameras = coming.get()
                cameras.unbindAll()
                cameras.bindToLifecycle(this, CameraSelector.DEFAULT_BACK_CAMERA, preview, frames)
                onWorker { picture = null }
                showPicture(null)
            } catch (failure: Exception) { // no camera, or another app has it
                showFailure(failure)
            }
        }, main)
    }

    private fun useFrame(image: ImageProxy) {
        try {
            val plane = image.planes[0]
            val part = image.cropRect
            val frame = CameraFrame(
                plane.buffer,
                plane.rowStride,
                plane.pixelStride,
                part.left,
                part.top,
                part.width(),
                part.height(),
                image.imageInfo.rotationDegrees
            )
            recognizer?.let { show(it, it.recognize(frame)) }
        } catch (failure: Exception) {
            showFailure(failure)
        } catch (failure: LinkageError) {
            showFailure(failure)
        } finally {
            image.close() // the camera waits for it
        }
    }

    private fun usePicture(uri: Uri) {
        val coming = ProcessCameraProvider.getInstance(this)
        coming.addListener(Runnable {
            try {
                coming.get().unbindAll()
            } catch (failure: Exception) { // a device without a camera
                Log.w(TAG, "no camera", failure)
            }
            onWorker {
                val stream = requireNotNull(contentResolver.openInputStream(uri)) { "The picture cannot be read: $uri" }
                val decoded = @{class_name}.decode(stream.use { it.readBytes() })
                picture = decoded
                showPicture(decoded)
                recognizer?.let { show(it, it.recognize(decoded)) }
            }
        }, ContextCompat.getMainExecutor(this))
    }

    private fun onWorker(work: () -> Unit) = worker.execute {
        try {
            work()
        } catch (failure: Exception) {
            showFailure(failure)
        } catch (failure: LinkageError) {
            showFailure(failure)
        }
    }

    private fun show(used: Recognizer, answer: Answer) {
        showStatus(used.status())
        showAnswer(answer.lines)
    }

    private fun showFailure(failure: Throwable) {
        Log.e(TAG, "failed", failure)
        showStatus(failure.message ?: failure.javaClass.simpleName)
    }

    private fun showStatus(text: String) = runOnUiThread { findViewById<TextView>(R.id.status).text = text }

    private fun showAnswer(text: String) = runOnUiThread { findViewById<TextView>(R.id.answer).text = text }

    /** Covers the camera's preview with a picture; null: shows the preview. */
    private fun showPicture(picture: Bitmap?) = runOnUiThread {
        val shown = findViewById<ImageView>(R.id.shown)
        shown.setImageBitmap(picture)
        shown.visibility = if (picture == null) View.GONE else View.VISIBLE
    }

    private companion object {
        const val TAG = "wavemix"
    }
}
""")

PLACES_TEST = Template("""\
// Which places of the phone run the network, and how far their outputs are from the test vectors.
package com.example.wavemix

import android.util.Log
import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith

@@RunWith(AndroidJUnit4::class)
class PlacesTest {
    private val context = InstrumentationRegistry.getInstrumentation().targetContext

    @@Test
    fun thePlacesAfterARefusedOneAreTried() {
        for (wanted in Place.values()) {
            Recognizer.open(context, wanted).use {
                Log.i("wavemix", "wanted ${wanted.title}: ${it.status()}")
                val earlier = Place.values().filter { one -> one >= wanted && one < it.place }
                assertTrue("$earlier: ${it.refused}", it.refused.keys.toList() == earlier)
            }
        }
    }

    @@Test
    fun theCpuComputesTheTestVectors() {
        Recognizer.open(context, Place.CPU).use {
            assertTrue(it.status(), it.passed)
        }
    }
}
""")
