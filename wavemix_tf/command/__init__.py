"""The verbs of the command, their arguments, their steps, and what they show. Joins core, training and tflite."""
