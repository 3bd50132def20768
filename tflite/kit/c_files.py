"""A deployment kit's part for a program in C: its self-test and what the README says of it."""

from __future__ import annotations

from typing import Any

from ..c_source.generator import c_arena_bytes
from ..file.flatbuffer import FileInfo
from .templates import Template

MAIN_C = Template("""\
/* Runs @{name} on its test vectors and compares every integer with what TensorFlow Lite Micro's reference kernels
 * computed where the file was made. Prints PASS or FAIL; returns 0 or 1. C99.
 */
#include <stdio.h>
#include <string.h>

#include "@{name}.h"
#include "@{name}_vectors.h"

@{buffers}
int main(void) {
  int vector;
  for (vector = 0; vector < @{name}_vector_count; ++vector) {
    @{name}_run(@{arguments});
@{comparisons}  }
  printf("PASS @{name}\\n");
  return 0;
}
""")

COMPARISON = Template("""\
    if (memcmp(@{buffer}, @{name}_expected_@{index}[vector], sizeof(@{buffer})) != 0) {
      printf("FAIL @{name}: output @{index} of vector %d differs\\n", vector);
      return 1;
    }
""")

SECTION = Template("""\
## C without an interpreter

`c/` holds the model as a program: `@{name}.c` and `@{name}.h` need nothing but `<stdint.h>` and `<string.h>`, no heap
and no interpreter. `main.c` runs it on the test vectors (`@{name}_vectors.h`) and prints PASS or FAIL. On a PC:

```
cc -std=c99 -O2 c/@{name}.c c/main.c -o check && ./check
```

In firmware, add `@{name}.c` to the sources and call it:

```
#include "@{name}.h"

@{buffers}
@{name}_run(@{arguments});
```

- **RAM.** `@{upper}_ARENA_BYTES` is @{arena} bytes, a static array, beside inputs and outputs, which lie where you have
  them. To share the memory, compile with `-D@{upper}_ARENA=buffer` and define elsewhere
  `int32_t buffer[@{upper}_ARENA_BYTES / 4]`. The comment at the top of `@{name}.c` shows which feature map lies where,
  and when.
- **Integers.** The program computes the same integers on every processor: those of TensorFlow Lite Micro's reference
  kernels.
- **Threads.** One call at a time: the arena is one.
- **Several networks.** Every symbol that other files see, the header's guard and macros and the names of the files
  begin with `@{name}`. Export the next network with another name (`wavemix-tf export --name NAME`, in Python `name=`)
  and add its files; each has its own arena, or both share one buffer if they do not run at the same time.
- **Flash.** Constants and code of `@{name}.o`, by `arm-none-eabi-size`.
""")


def _names(kind: str, count: int) -> list[str]:
    return [kind] if count == 1 else [f"{kind}_{index}" for index in range(count)]


def _types(info: FileInfo) -> list[tuple[str, str, str]]:
    """(C type, name, size macro's middle) of every input and output."""
    parts = []
    for kind, tensors in (("input", info.inputs), ("output", info.outputs)):
        for name, tensor in zip(_names(kind, len(tensors)), tensors, strict=True):
            parts.append((f"{tensor.dtype}_t", name, name.upper()))
    return parts


def main_c(info: FileInfo, c_name: str) -> str:
    """The self-test."""
    outputs = [part for part in _types(info) if part[1].startswith("output")]
    arguments = [f"{c_name}_input_{index}[vector]" for index in range(len(info.inputs))]
    return MAIN_C.substitute(
        name=c_name,
        buffers="".join(
            f"static {ctype} {name}[{c_name.upper()}_{size}_BYTES / sizeof({ctype})];\n"
            for ctype, name, size in outputs
        ),
        arguments=", ".join([*arguments, *(name for _, name, _ in outputs)]),
        comparisons="".join(
            COMPARISON.substitute(name=c_name, index=index, buffer=name) for index, (_, name, _) in enumerate(outputs)
        ),
    )


def c_section(artifact: Any, info: FileInfo, c_name: str) -> str:
    """README's part."""
    parts, upper = _types(info), c_name.upper()
    return SECTION.substitute(
        name=c_name,
        upper=upper,
        buffers="\n".join(
            f"static {ctype} {name}[{upper}_{size}_BYTES / sizeof({ctype})];" for ctype, name, size in parts
        ),
        arguments=", ".join(name for _, name, _ in parts),
        arena=f"{c_arena_bytes(artifact.content):,}",
    )
