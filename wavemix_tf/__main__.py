"""``python -m wavemix_tf``: the command ``wavemix-tf``, for when its script is not on the path."""

from .cli import script

if __name__ == "__main__":
    script()
