"""A search in a separate process, which tests kill: python search_process.py OUT MAX_TRIALS [SECONDS_A_TRIAL]."""

import sys
import time

import keras
from search_support import RECIPE, patterns

from wavemix_tf.training import search


class Slow(keras.callbacks.Callback):
    """Gives a test the time to kill the process in the middle of a trial."""

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(float(sys.argv[3]) / 2 if len(sys.argv) > 3 else 0.0)


if __name__ == "__main__":
    search(
        RECIPE,
        tuner="random",
        max_trials=int(sys.argv[2]),
        epochs=2,
        budget={"parameters": 7000},
        data=patterns(),
        out=sys.argv[1],
        callbacks=lambda: [Slow()],
    )
