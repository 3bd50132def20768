if __name__ != "wavemix_tf.training":
    # The same file under two names would register every Keras class twice, and the last one would win in silence.
    raise ImportError(
        "This folder is installed as wavemix_tf.training: run `pip install -e .`, then `import wavemix_tf.training`."
    )
