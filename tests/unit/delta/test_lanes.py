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
from collections.abc import Iterator, Sequence
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
void stripes_{0}(const uint8_t *data, size_t n, const uint8_t *secret, uint64_t sums[8]) {{
    netsync_stripes_{0}(data, n, secret, sums);
}}
"""
BLOCKS: Final = """
void blocks_{0}(const uint8_t *data, size_t n, const uint8_t *secret, uint64_t sums[8]) {{
    netsync_blocks_{0}(data, n, secret, sums);
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
    wide.append(BLOCKS.format("avx512"))
    narrow = CALL.format("plain", "1") + BLOCKS.format("plain")
    plain = "#else\n" + "".join(f"int has_{name}(void) {{ return 0; }}\n" for name in LANES[1:])
    source = [*parts, narrow, "#if defined(__x86_64__)", *wide, plain, "#endif"]
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


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("count", [0, 1, 2, 16])
def test_each_lane_sums_stripes_alike(lanes: ctypes.CDLL, lane: str, count: int) -> None:
    if not getattr(lanes, f"has_{lane}")():
        pytest.skip(f"this processor has no {lane}")
    secret = random.Random(4).randbytes(192)
    for data in (random.Random(count).randbytes(1024), b"\xff" * 1024):
        sums = (ctypes.c_uint64 * 8)(*range(8))
        getattr(lanes, f"stripes_{lane}")(data, ctypes.c_size_t(count), secret, sums)
        assert list(sums) == stripes(data, count, secret, range(8))


@pytest.mark.parametrize("lane", ["plain", "avx512"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_each_lane_sums_blocks_alike(lanes: ctypes.CDLL, lane: str, count: int) -> None:
    if not getattr(lanes, f"has_{lane}")():
        pytest.skip(f"this processor has no {lane}")
    secret = random.Random(4).randbytes(192)
    for data in (random.Random(count).randbytes(3 * 1024), b"\xff" * 3 * 1024):
        sums = (ctypes.c_uint64 * 8)(*range(8))
        getattr(lanes, f"blocks_{lane}")(data, ctypes.c_size_t(count), secret, sums)
        assert list(sums) == blocks(data, count, secret)


def blocks(data: bytes, count: int, secret: bytes) -> list[int]:
    """State in the plainest words what xxh3 does with each block of sixteen stripes."""
    sums = list(range(8))
    for block in range(count):
        sums = stripes(data[block * 1024 :], 16, secret, sums)
        for lane in range(8):
            key = int.from_bytes(secret[128 + lane * 8 :][:8], "little")
            sums[lane] = (sums[lane] ^ sums[lane] >> 47 ^ key) * 0x9E3779B1 % 2**64
    return sums


def stripes(data: bytes, count: int, secret: bytes, before: Sequence[int]) -> list[int]:
    """State in the plainest words what xxh3 does with each stripe."""
    sums = list(before)
    for stripe in range(count):
        for lane in range(8):
            word = int.from_bytes(data[stripe * 64 + lane * 8 :][:8], "little")
            mixed = word ^ int.from_bytes(secret[stripe * 8 + lane * 8 :][:8], "little")
            sums[lane ^ 1] += word
            sums[lane] += (mixed & 0xFFFFFFFF) * (mixed >> 32)
    return [each % 2**64 for each in sums]
