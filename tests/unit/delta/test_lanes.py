"""The lanes of the compiled kernel: each, not only those that this processor has chosen.

Two hosts of different processors must agree on a digest, and one that is old must not find out
first. The C code is taken out of ``_kernel.pyx`` and compiled by itself.
"""

from __future__ import annotations

import ctypes
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from netsync.delta import pure

KERNEL: Final = Path(pure.__file__).with_name("_kernel.pyx")
LANES: Final = ("plain", "avx2", "avx512")
KEY: Final = random.Random(3).randbytes(pure.KEY_SIZE)
CALL: Final = """
int has_{0}(void) {{ return {1}; }}
void tag_{0}(const uint8_t *data, const uint8_t *key, uint64_t tag[4]) {{
    netsync_unit_{0}(data, key, tag);
}}
"""


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ctypes.CDLL]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "the kernel was compiled with one"
    base = tmp_path_factory.mktemp("lanes")
    parts = re.findall(
        r'^cdef extern from \*:\n    """\n(.*?)\n    """', KERNEL.read_text(), re.S | re.M
    )
    wide = [
        CALL.format(f"avx{n}", f'__builtin_cpu_supports("avx{n}{f}")')
        for n, f in ((2, ""), (512, "f"))
    ]
    plain = "#else\n" + "".join(f"int has_{name}(void) {{ return 0; }}\n" for name in LANES[1:])
    source = [*parts, CALL.format("plain", "1"), "#if defined(__x86_64__)", *wide, plain, "#endif"]
    (base / "lanes.c").write_text("\n".join(source))
    words = [compiler, "-O3", "-shared", "-fPIC", "-w", "-o", "lanes.so", "lanes.c"]
    subprocess.run(words, check=True, cwd=base)
    return ctypes.CDLL(str(base / "lanes.so"))


@pytest.mark.parametrize("lane", LANES)
def test_each_lane_makes_the_same_tags(lanes: ctypes.CDLL, lane: str) -> None:
    if not getattr(lanes, f"has_{lane}")():
        pytest.skip(f"this processor has no {lane}")
    units = [random.Random(n).randbytes(pure.UNIT) for n in range(20)]
    for unit in (*units, bytes(pure.UNIT), b"\xff" * pure.UNIT):
        tag = (ctypes.c_uint64 * 4)()
        getattr(lanes, f"tag_{lane}")(unit, KEY, tag)
        assert b"".join(each.to_bytes(8, "little") for each in tag) == pure.unit_tags(unit, KEY)
