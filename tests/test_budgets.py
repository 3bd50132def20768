"""Valid values of --budget, and the errors for all others."""

import subprocess
import sys

import pytest

from wavemix_tf.command.budgets import parse_budget


@pytest.mark.parametrize(
    ("text", "target", "limits"),
    [
        ("mcu:64KB-ram,100KB-flash", "mcu", {"arena_bytes": 65536.0, "flash_bytes": 102400.0}),
        ("mcu:64KiB-ram", "mcu", {"arena_bytes": 65536.0}),
        ("mcu: 900B-ram , 0.5MB-flash", "mcu", {"arena_bytes": 900.0, "flash_bytes": 524288.0}),
        ("ethos-u55:500k-cycles", "ethos-u55", {"npu_cycles": 500_000.0}),
        (
            "ethos-u85:1.5M-cycles,1MiB-ram,2MB-flash",
            "ethos-u85",
            {"npu_cycles": 1.5e6, "sram_bytes": 2.0**20, "flash_bytes": 2.0**21},
        ),
        ("android-cpu:5ms", "android-cpu", {"latency_ms": 5.0}),
        ("android-cpu:0.25ms-latency,3M-macs", "android-cpu", {"latency_ms": 0.25, "macs": 3e6}),
        ("12k-parameters", None, {"parameters": 12_000.0}),
        ("12000-parameters", None, {"parameters": 12_000.0}),
        ("30KB-weights,8KB-activations", None, {"int8_bytes": 30720.0, "int8_activation_bytes": 8192.0}),
    ],
)
def test_budgets(text, target, limits):
    assert parse_budget(text) == (target, limits)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("esp32:64KB-ram", r"target of a budget must be one of android-cpu, ethos-u55, .*, mcu, c\."),
        ("edge-tpu:64KB-flash", r"target of a budget must be one of android-cpu"),
        (":64KB-ram", r"target of a budget must be one of android-cpu"),
        ("mcu:5ms", r"for target mcu takes the kinds ram, flash, parameters, .*; not 'latency'"),
        ("android-cpu:64KB-ram", r"for target android-cpu takes the kinds latency, parameters.*; not 'ram'"),
        ("mcu:9k-cycles", r"for target mcu takes the kinds ram, flash, .*; not 'cycles'"),
        ("mcu:64KB", r"needs a kind, e.g. 64KB-KIND: ram, flash, parameters, macs, weights, activations"),
        ("12k", r"needs a kind, e.g. 12k-KIND: parameters, macs, weights, activations"),
        ("64KB-ram", r"ram needs a target, as in mcu:64KB-ram"),
        ("5ms", r"latency needs a target"),
        ("mcu:64KB-rom", r"takes the kinds ram, flash, .*; not 'rom'"),
        ("12k-layers", r"without a target takes the kinds parameters, .*; not 'layers'"),
        ("mcu:64k-ram", r"ram takes the units B, KB, KiB, MB, MiB; not k"),
        ("mcu:64-ram", r"ram takes the units B, KB, KiB, MB, MiB; not none"),
        ("mcu:64kb-ram", r"ram takes the units B, KB, KiB, MB, MiB; not kb"),
        ("12KB-parameters", r"parameters takes the units none, k, M; not KB"),
        ("android-cpu:5-latency", r"latency takes the units ms; not none"),
        ("mcu:0KB-ram", r"must be positive and finite; '0KB-ram' is not"),
        ("mcu:-4KB-ram", r"'-4KB-ram' is not AMOUNT-KIND"),
        ("mcu:" + "9" * 400 + "KB-ram", r"must be positive and finite"),
        ("mcu:64KB-ram,32KB-ram", r"give each kind once; '32KB-ram' repeats one"),
        ("android-cpu:5ms,6ms-latency", r"give each kind once"),
        ("mcu:", r"'' is not AMOUNT-KIND"),
        ("", r"has the form \[TARGET:\]AMOUNT-KIND.*'' is not AMOUNT-KIND"),
        ("mcu:64KB-ram,", r"'' is not AMOUNT-KIND"),
        ("mcu:ram-64KB", r"'ram-64KB' is not AMOUNT-KIND"),
        ("mcu:64 KB-ram", r"'64 KB-ram' is not AMOUNT-KIND"),
        ("mcu:1e3KB-ram", r"'1e3KB-ram' is not AMOUNT-KIND"),
    ],
)
def test_every_mistake_is_one_line_with_the_rule(text, rule):
    with pytest.raises(ValueError, match=rule) as told:
        parse_budget(text)
    assert "\n" not in str(told.value)
    assert str(told.value).endswith(f"Received: {text!r}")


def test_parsing_loads_no_keras(tmp_path):
    """As the command runs: that it is imported first keeps the packages from loading the layers."""
    code = (
        "import sys\n"
        "import wavemix_tf.cli\n"
        "from wavemix_tf.command.budgets import parse_budget\n"
        "parse_budget('mcu:64KB-ram')\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
