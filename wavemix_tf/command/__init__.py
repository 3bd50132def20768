"""Behind the verbs of ``cli.py``: their arguments, their steps, and what they show. Joins core, training and tflite."""
