"""mypy on the package as it is installed, and on the calls of a user (``tests/typed_calls.py``).

    .venv/bin/python .ci/check_types.py [options of mypy]

The messages name the files of the checkout.
"""

import os
import re
import subprocess
import sys

from installed_layout import ROOT, link_installed_layout

# mypy searches the current folder first, so it must run where `wavemix_tf` contains `training` and `tflite`.
folder = link_installed_layout()
options = [f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={ROOT / '.mypy_cache'}", *sys.argv[1:]]
calls = os.path.relpath(ROOT / "tests" / "typed_calls.py", folder)
command = [sys.executable, "-m", "mypy", *options, "wavemix_tf", calls]
result = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
messages = re.sub(r"^wavemix_tf/(?=(?:training|tflite)/)", "", result.stdout, flags=re.MULTILINE)
print(messages.replace(calls, "tests/typed_calls.py"), end="")
sys.exit(result.returncode)
