import wavemix_tf as wm
reveal_type(wm.tflite.export)
reveal_type(wm.tflite.quantize)
reveal_type(wm.training.fit)
reveal_type(wm.tflite.Artifact)
