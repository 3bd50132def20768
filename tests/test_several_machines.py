"""The scripts for Slurm and Kubernetes, on loopback: two processes end with equal weights, those of one process.

Neither scheduler runs here. The tests start the scripts' own commands with the environment that the scheduler would
set: `slurm.sh` by bash with an `srun` that starts the tasks, and the container of `kubernetes.yaml` for each index.
"""

import importlib.util
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "examples" / "several_machines"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="runs in a checkout")

# By SGD: AdamW turns the rounding of a gradient that is zero (a bias before batch norm) into whole steps.
SETTINGS = (
    "epochs=2",
    "batch_size=64",
    "optimizer=sgd",
    "learning_rate=0.02",
    "model_args.width=8",
    "model_args.depth=1",
)
WORDS = [word for setting in SETTINGS for word in ("--set", setting)]
ALONE = """
import sys
from pathlib import Path
import wavemix_tf as wm
from wavemix_tf.command.arguments import choose_recipe
if sys.argv[2] == "half":  # as a process whose gradient is not averaged with the other's
    from wavemix_tf.training.distribution import Devices
    Devices.share = lambda self, *parts: tuple(part[:32] for part in parts)  # of 64
wm.training.fit(choose_recipe("digits", None, sys.argv[3:]), out=Path(sys.argv[1]), verbose=0)
"""
# What srun does: a task for each number, with Slurm's variables; the first that fails ends the others.
SRUN = """#!{python}
import os, subprocess, sys
words = [word for word in sys.argv[1:] if not word.startswith("--kill-on-bad-exit")]
count = int(os.environ["SLURM_NTASKS"])
tasks = [
    subprocess.Popen(words, env=os.environ | {{"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)}})
    for number in range(count)
]
codes = []
for task in tasks:
    codes.append(task.wait())
    if codes[-1]:
        [other.kill() for other in tasks]
sys.exit(max(map(abs, codes)))
"""


@pytest.fixture(scope="module", autouse=True)
def needs_jax():
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "KERAS_DISTRIBUTION"))}
    return kept | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "TF_CPP_MIN_LOG_LEVEL": "3", **more}


def free_port(low=0):
    """A free TCP port, at least `low`: one that the system chooses, or the first free one."""
    for port in range(low, 65536) if low else [0]:
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return tried.getsockname()[1]
    raise AssertionError("no free port")


def weights(out):
    import keras

    import wavemix_tf  # noqa: F401  (registers the network)

    return keras.saving.load_model(out / "model.keras", compile=False).get_weights()


def far(ours, theirs):
    return max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Weights after the same training in one process; and after one with the first half of every batch."""
    found = []
    for part in ("whole", "half"):
        out = tmp_path_factory.mktemp("alone")
        command = [sys.executable, "-c", ALONE, str(out), part, *SETTINGS]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(weights(out))
    return found


def check(said, out, alone):
    """Two processes trained together: equal weights in both, the weights of one process on the whole batches."""
    ends = re.findall(r"^process (\d) of 2, 2 devices: accuracy ([\d.]+) .*, weights ([0-9a-f]{8})$", said, re.M)
    assert sorted(number for number, _, _ in ends) == ["0", "1"], said[-3000:]
    assert len({(score, checksum) for _, score, checksum in ends}) == 1
    whole, half = alone
    difference, control = far(weights(out), whole), far(half, whole)
    print(f"largest difference of a weight: {difference:.1e}; with half of every batch: {control:.1e}")
    assert difference < 2e-5
    assert control > 2e-3  # what this check would see if each process kept its own gradient


def test_slurm(tmp_path, alone):
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(SRUN.format(python=sys.executable))
    srun.chmod(0o755)
    # JAX takes port 61,440 + job % 4,096 of the first node.
    job = free_port(61_440) - 61_440
    slurm = {"SLURM_JOB_ID": str(job), "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "127.0.0.1"}
    path = {"PATH": f"{srun.parent}{os.pathsep}{os.environ['PATH']}", "PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", FOLDER / "slurm.sh", "digits", "--out", tmp_path / "run", *WORDS],
        env=environment(**slurm, **path, SLURM_STEP_NUM_NODES="1"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check(done.stdout, tmp_path / "run", alone)


def read_yaml():
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))


def test_the_parts_of_the_yaml_agree():
    service, job = read_yaml()
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(values["KERAS_DISTRIBUTION_NUM_PROCESSES"])
    # A pod's host name is the job's name and its index.
    assert re.fullmatch(
        rf"{job['metadata']['name']}-0\.{pod['subdomain']}:\d+", values["KERAS_DISTRIBUTION_JOB_ADDRESSES"]
    )
    assert (ROOT / container["command"][1].removeprefix("/src/")).is_file()
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_kubernetes(tmp_path, alone):
    job = read_yaml()[1]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    python, script = container["command"]
    assert python == "python"
    port = free_port()
    pods = []
    for index in range(job["completions"]):
        fields = {"metadata.annotations['batch.kubernetes.io/job-completion-index']": str(index)}
        variables = {
            entry["name"]: entry["value"] if "value" in entry else fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
            for entry in container["env"]
        }
        variables["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = f"127.0.0.1:{port}"  # in place of the pods' DNS
        command = [sys.executable, ROOT / script.removeprefix("/src/"), "digits", "--out", tmp_path / "run", *WORDS]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        pods.append(subprocess.Popen(command, env=environment(**variables), **pipes))
    try:
        said = [pod.communicate(timeout=600) for pod in pods]
    finally:
        for pod in pods:
            pod.kill()
            pod.wait()
    assert [pod.returncode for pod in pods] == [0, 0], "\n".join(error[-3000:] for _, error in said)
    check("".join(output for output, _ in said), tmp_path / "run", alone)
