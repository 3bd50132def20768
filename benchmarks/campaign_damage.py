"""Damaged or hostile inputs: each must be read, if still possible, or refused in one line that names it."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from campaign_kills import TINY
from campaign_process import Commands, Ended
from PIL import Image

COUNT = 2000
SHARES = {"images": 30, "recipes": 20, "tflite": 22, "checkpoints": 8, "state": 16, "names": 4}  # percent
KINDS = tuple(SHARES)
CASE_LIMIT_S = 120
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
LONGEST_LINE = 1100  # characters
# Error classes whose messages are meant for users; any other error escaped from a library.
USER_ERRORS = (
    "ValueError",
    "FileNotFoundError",
    "FileExistsError",
    "ExportError",
    "RuntimeFailureError",
    "UnsupportedOpError",
)


def campaign(
    commands: Commands, work: Path, count: int, seed: int, kinds: Sequence[str], until: float
) -> tuple[list[list[Any]], list[str]]:
    """Run ``count`` cases, divided among the kinds; return (table, faults)."""
    total = sum(SHARES[kind] for kind in kinds)
    run, unfinished = _runs(commands, work)
    table = [["kind", "inputs", "still read", "refused by name", "wrong"]]
    faults: list[str] = []
    for kind in kinds:
        wanted = round(count * SHARES[kind] / total)
        if kind in ("images", "recipes", "tflite", "checkpoints"):
            counts, wrong = _in_batches(commands, kind, work, run, wanted, seed, until)
        else:
            cases = _state_cases(run, unfinished) if kind == "state" else _name_cases()
            counts, wrong = _with_the_command(commands, kind, work, cases, wanted, seed, until)
        faults += wrong
        tried = counts["read"] + counts["refused"] + counts["wrong"]
        table.append([kind, tried, counts["read"], counts["refused"], len(wrong)])
        skipped = f", {counts['skipped']} could not be created here" if counts["skipped"] else ""
        print(f"{kind}: {tried} inputs, {len(wrong)} wrong{skipped}", flush=True)
    return table, faults


def _runs(commands: Commands, work: Path) -> tuple[Path, Path]:
    """Make a finished run with an int8 file, and a run that was stopped after its first epochs."""
    run, unfinished = work / "run", work / "unfinished"
    words = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    ended = commands.run(["run", "digits", "--out", run, *words, "--set", "epochs=2"], work / "run.log")
    if ended.code:
        raise SystemExit(f"The run to damage failed: {ended.last_line}")
    history = unfinished / "history.csv"
    words += ["--set", "epochs=200"]
    commands.run(["fit", "digits", "--out", unfinished, *words], work / "unfinished.log", lambda _: history.is_file())
    return run, unfinished


def damaged(content: bytes, rng: random.Random) -> bytes:
    """``content`` with one typical fault of files: truncated, overwritten, shortened, or replaced."""
    size = max(len(content), 1)
    manner = rng.randrange(7)
    if manner == 0:
        return content[: rng.randrange(size)]
    if manner == 1:
        return content[: rng.choice((0, 1, 4, 16, 40, 100))]
    array = bytearray(content)
    if manner == 2:  # single bits
        for _ in range(rng.randint(1, 8)):
            if array:
                array[rng.randrange(len(array))] ^= 1 << rng.randrange(8)
    elif manner == 3:  # a block of zeros, as after a power cut
        start = rng.randrange(size)
        length = rng.randint(1, 512)
        array[start : start + length] = bytes(len(array[start : start + length]))
    elif manner == 4:  # random bytes
        start = rng.randrange(size)
        part = rng.randbytes(rng.randint(1, 64))
        array[start : start + len(part)] = part
    elif manner == 5:  # bytes missing in the middle
        start = rng.randrange(size)
        del array[start : start + rng.randint(1, 256)]
    else:
        return rng.choice((b"", b"\x00" * 64, b"<html>404</html>", "text – kein Bild\n".encode(), b"\xff" * 300))
    return bytes(array)


# --- cases without a separate process: many share a fork; the next fork starts after the case that ended the last ---


def _in_batches(
    commands: Commands, kind: str, work: Path, run: Path, count: int, seed: int, until: float
) -> tuple[Counter[str], list[str]]:
    """Run cases 0 to ``count``; a crash or a hanging case ends one fork, not the others."""
    record = work / f"{kind}.jsonl"
    check: Callable[[Path, Path, random.Random], None] = _CHECKS[kind]
    folder = work / kind
    folder.mkdir()

    def cases(first: int) -> int:
        warnings.simplefilter("ignore")
        with record.open("a", encoding="utf-8") as file:
            for number in range(first, count):
                if time.monotonic() > until:
                    break
                rng = random.Random(f"{seed} {kind} {number}")
                signal.alarm(CASE_LIMIT_S)
                print(json.dumps({"case": number, "begun": True}), file=file, flush=True)
                found = _verdict(lambda: check(folder, run, rng))  # noqa: B023 - called here
                signal.alarm(0)
                print(json.dumps({"case": number, **found}), file=file, flush=True)
        return 0

    counts: Counter[str] = Counter()
    faults: list[str] = []
    first = 0
    while first < count and time.monotonic() < until:
        ended = commands.call(lambda: cases(first), work / f"{kind}.log")  # noqa: B023 - called here
        lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
        last = lines[-1] if lines else {"case": first - 1, "begun": True}
        if last.get("begun"):  # the process ended in this case
            what = "hung" if ended.code == -signal.SIGALRM else f"ended the process with {ended.code}"
            with record.open("a", encoding="utf-8") as file:
                print(json.dumps({"case": last["case"], "verdict": "wrong", "text": what}), file=file)
        first = last["case"] + 1
        if ended.code == 0:
            break
    for line in map(json.loads, record.read_text(encoding="utf-8").splitlines()):
        if "verdict" in line:
            counts[line["verdict"]] += 1
            if line["verdict"] == "wrong":
                faults.append(f"{kind} {line['case']}: {line['text']}")
    return counts, faults


def _verdict(call: Callable[[], None]) -> dict[str, str]:
    try:
        call()
    except _SkippedError as skip:
        return {"verdict": "skipped", "text": str(skip)}
    except Exception as error:
        text = str(error)
        if type(error).__name__ not in USER_ERRORS:
            return {"verdict": "wrong", "text": f"{type(error).__name__}: {text[:300]}"}
        if not text or len(text.splitlines()) > 1 or len(text) > LONGEST_LINE:
            return {"verdict": "wrong", "text": f"not one line: {text[:300]!r}"}
        if "allow_pickle" in text:
            return {"verdict": "wrong", "text": f"advises pickles: {text[:300]}"}
        return {"verdict": "refused", "text": text}
    return {"verdict": "read", "text": ""}


class _SkippedError(Exception):
    """The case cannot be created here."""


def _check_image(folder: Path, run: Path, rng: random.Random) -> None:
    from wavemix_tf.training.images import fit_image, read_header, read_image

    size = (rng.randint(1, 40), rng.randint(1, 40))
    mode = rng.choice(("RGB", "L", "RGBA", "P", "1", "I;16"))
    picture = Image.fromarray(np.random.default_rng(rng.randrange(1 << 30)).integers(0, 255, (*size, 3), np.uint8))
    content = io.BytesIO()
    try:
        picture.convert(mode).save(content, format=rng.choice(FORMATS))
    except (OSError, ValueError):  # not every format has every mode
        picture.save(content, format="PNG")
    path = folder / f"picture{rng.choice(('.png', '.jpg', '.bmp', '.gif', '.webp', '.PNG'))}"
    path.write_bytes(damaged(content.getvalue(), rng))
    try:
        read_header(str(path))
        channels = rng.choice((1, 3))
        image = fit_image(read_image(str(path), channels), (8, 8, channels))
        assert np.asarray(image).shape == (8, 8, channels)
    except ValueError as error:
        if path.name not in str(error):
            raise RuntimeError(f"the file is not named: {error}") from None
        raise


def _check_recipe(folder: Path, run: Path, rng: random.Random) -> None:
    from wavemix_tf.training import Recipe

    content = (run / "recipe.json").read_bytes()
    if rng.random() < 0.5:
        content = damaged(content, rng)
    else:  # still JSON, with other values
        fields = json.loads(content)
        for name in rng.sample(sorted(fields), rng.randint(1, 3)):
            fields[name] = rng.choice((
                None, True, -1, 0, 1e308, float("nan"), 10**40, "", "x", "\x1b[31m", [], [1, 2], {}, {"a": {}},
                [[8, 8, 1]], [8, 8, 1], "0",
            ))  # fmt: skip
        content = json.dumps(fields).encode()
    path = folder / "recipe.json"
    path.write_bytes(content)
    recipe = Recipe.from_json(path)
    assert Recipe.from_json(recipe.to_json()) == recipe


def _check_tflite(folder: Path, run: Path, rng: random.Random) -> None:
    from wavemix_tf.tflite.exporting.artifact import Artifact
    from wavemix_tf.tflite.runtimes.litert import invoke, make_interpreter

    path = rng.choice(sorted((run / "exports").glob("*.tflite")))
    content = damaged(path.read_bytes(), rng)
    copy = folder / path.name
    copy.write_bytes(content)
    for beside in (run / "exports").glob(f"{path.stem}.*"):
        if beside != path and beside.is_file():
            shutil.copy(beside, folder)
    with contextlib.suppress(ValueError, OSError):  # refused because it is not the file of its card
        Artifact.load(copy)
    interpreter = make_interpreter(content, reference=rng.random() < 0.5)
    invoke(interpreter)


def _check_checkpoint(folder: Path, run: Path, rng: random.Random) -> None:
    try:
        import torch
    except ImportError:
        raise _SkippedError("PyTorch is not installed") from None
    import wavemix_tf as wm

    model = wm.WaveMixClassifier(num_classes=4, image_shape=(8, 8, 3), width=8, depth=1)
    state = {key: torch.from_numpy(np.array(array)) for key, array in wm.export_torch_weights(model).items()}
    wrapped: Any = rng.choice((state, {"state_dict": state, "epoch": 3}, {f"module.{k}": v for k, v in state.items()}))
    path = folder / "checkpoint.pth"
    torch.save(wrapped, path)
    path.write_bytes(damaged(path.read_bytes(), rng))
    try:
        wm.load_torch_weights(model, path)
    except ValueError as error:
        if path.name not in str(error) and "key" not in str(error) and "shape" not in str(error):
            raise RuntimeError(f"neither file nor key is named: {error}") from None
        raise


_CHECKS = {
    "images": _check_image,
    "recipes": _check_recipe,
    "tflite": _check_tflite,
    "checkpoints": _check_checkpoint,
}


# --- cases of the command ---

Case = Callable[[Path, random.Random], tuple[list[object], str | None]]


def _with_the_command(
    commands: Commands, kind: str, work: Path, make: Iterator[Case], count: int, seed: int, until: float
) -> tuple[Counter[str], list[str]]:
    """Run cases; each prepares a folder, and returns the arguments and the name that an error message must contain."""
    counts: Counter[str] = Counter()
    faults: list[str] = []
    for number, case in enumerate(make):
        if number >= count or time.monotonic() > until:
            break
        folder = work / f"{kind}_{number}"
        folder.mkdir()
        rng = random.Random(f"{seed} {kind} {number}")
        words, name = case(folder, rng)
        log = work / f"{kind}.log"
        ended = commands.run(words, log, cwd=folder)
        wrong = _wrong(ended, name)
        if wrong:
            faults.append(f"{kind} {number}, {name}: {' '.join(map(repr, map(str, words)))}: {wrong}")
            shutil.copy(log, work / f"{kind}_{number}.log")
        counts["wrong" if wrong else "refused" if ended.code else "read"] += 1
        shutil.rmtree(folder)
        if number % 20 == 19:
            print(f"{kind}: {number + 1} of {count}, {len(faults)} wrong", flush=True)
    return counts, faults


def _wrong(ended: Ended, name: str | None) -> str | None:
    """The fault in how the command ended; None if there is none."""
    if ended.hung:
        return "it hung"
    if ended.code < 0:
        return f"a signal ended it: {-ended.code}"
    if "Traceback" in ended.text or "Escaped:" in ended.text or "(--debug shows where)" in ended.text:
        return f"an error of a library: {ended.last_line[:300]}"
    if "allow_pickle" in ended.text:
        return f"it advises pickles: {ended.last_line[:300]}"
    if ended.code not in (0, 1, 2):
        return f"exit code {ended.code}: {ended.last_line[:300]}"
    if ended.code and name is not None and name not in ended.text:
        return f"the file is not named: {ended.last_line[:300]}"
    return None


def _state_cases(run: Path, unfinished: Path) -> Iterator[Case]:
    """Cases in which a state file of a run is damaged and a verb that reads it is called."""
    settings = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    again = {
        "run": ["run", "digits", *settings, "--set", "epochs=2"],
        "fit": ["fit", "digits", *settings, "--set", "epochs=2"],
        "resume": ["fit", "digits", *settings, "--set", "epochs=3"],
        "export": ["export", "--target", "android-cpu", "--dtype", "float32", "--overwrite"],
        "verify": ["verify", "--test-images", "40"],
        "quantize": ["quantize"],
        "benchmark": ["benchmark", "--runs", "2"],
    }
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and _is_state(path.relative_to(run))]
    targets = [(run, path, verb) for path in files for verb in _readers(path.relative_to(run).as_posix())]
    targets += [
        (unfinished, unfinished / name, "resume") for name in ("checkpoint.npz", "recipe.json") for _ in range(4)
    ]
    while True:
        for source, path, verb in targets:

            def case(
                folder: Path, rng: random.Random, source: Path = source, path: Path = path, verb: str = verb
            ) -> tuple[list[object], str | None]:
                copy = folder / "copy"
                shutil.copytree(source, copy)
                victim = copy / path.relative_to(source)
                victim.write_bytes(damaged(victim.read_bytes(), rng))
                words = list(again[verb])
                if source is unfinished:
                    recipe = copy / "recipe.json"
                    with contextlib.suppress(ValueError):  # a readable recipe would otherwise train for minutes
                        recipe.write_text(recipe.read_text().replace('"epochs": 200', '"epochs": 3'))
                return [*words, "--out", copy], path.name

            yield case


def _is_state(name: Path) -> bool:
    text = name.as_posix()
    return "tensorboard" not in text and "_kit/" not in text and name.suffix not in (".html", ".md", ".png")


def _readers(name: str) -> tuple[str, ...]:
    if name.startswith("exports/"):
        return ("verify", "export", "benchmark")
    if name.startswith("qat"):
        return ("run", "export", "verify")
    if name == "recipe.json":
        return ("run", "export", "verify", "quantize")
    if name in ("model.keras", "training.json", "history.csv"):
        return ("run", "fit", "export", "quantize")
    return ("run", "export")


HOSTILE = (
    "a[/b]", "[red]x", "[/]", "a b", "-x", "--help", "'quoted'", '"double"', "semi;colon", "dollar$HOME", "back`tick`",
    "per%cent", "new\nline", "tab\there", "\x1b[31mred", "bell\x07", "naïve", "日本語", "emoji🙂", "\u202eRTL",
    "a" * 200, "a.b.c", "..hidden", "*star*", "q?mark", "a|b", "a<b>c", "a&b", "{brace}", "a=b", "#hash", "~tilde",
    "a\\b", "a,b", "100%", "trailing ", " leading", "UPPER", "con", "a:b", "$(touch x)", "__init__",
    "a'b\"c", "\udc80raw",
)  # fmt: skip


def _name_cases() -> Iterator[Case]:
    """Cases of a run folder, class or image whose name is special to a shell, a terminal, Rich or Markdown."""
    settings = [
        word
        for key, value in {**TINY, "epochs": 1, "warmup_epochs": 0, "batch_size": 8}.items()
        for word in ("--set", f"{key}={value}")
    ]
    while True:
        for place in ("out", "class", "image"):
            for name in HOSTILE:

                def case(
                    folder: Path, rng: random.Random, place: str = place, name: str = name
                ) -> tuple[list[object], str | None]:
                    classes = ("first", name if place == "class" else "second")
                    for label, each in enumerate(classes):
                        (folder / "data" / each).mkdir(parents=True)
                        for number in range(60):
                            file = name if place == "image" and number == 7 else str(number)
                            picture = Image.new("L", (8, 8), 40 + 100 * label + number)
                            picture.save(folder / "data" / each / f"{file}.png", format="PNG")
                    out = f"./{name}" if place == "out" else "run"
                    return ["fit", "--data", folder / "data", *settings, "--out", out], None

                yield case
