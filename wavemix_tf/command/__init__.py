"""The verbs of the command with their arguments, steps and output. Combines the core, training and tflite."""
