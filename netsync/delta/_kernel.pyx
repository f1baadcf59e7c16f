# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled kernel: the loops of the delta that touch every byte, and nothing else.

What each function means is written in its twin, ``netsync.delta.pure``; results are equal for
every input, and one contract suite holds both to that. Here is only what speed adds.

A window's state is ``a | b << 32`` with ``a`` the sum of its bytes and ``b`` the sum of all its
prefix sums, both modulo 2**32; its weak checksum is the upper 40 bits of ``state * MIX``. The
search asks three questions of a window, each rarer and dearer than the one before: a bitmap of
4 to 8 bits a block, small enough for the second-level cache; a Bloom filter of 32 to 64 bits a
block; and the sorted table. The first is answered without a branch, for BATCH windows at a
time, because a mispredicted branch costs more than rolling ten bytes.

Strong checksums are xxh3_128 once more, since one call of Python's for each block of 4 KiB costs
several times what hashing it does. What is 240 bytes or less goes to that library.

Every size is checked before a loop without the GIL begins; table contents can be anything.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from xxhash import xxh3_128_digest

NAME = "compiled"
WEAK_SIZE = 5
STRONG_SIZE = 7
CANDIDATES_MAX = 16
BLOCKS_MAX = 1 << 24
UNIT = 4096
TAG_SIZE = 32
KEY_SIZE = 4288

cdef enum:
    WEAK_BYTES = 5
    STRONG_BYTES = 7
    GIL_BYTES = 1 << 18  # hashed sooner than the GIL is given away and got back
    SHORT = 240  # bytes up to which xxh3_128 is another function
    WEAK_BITS = 40
    WEAK_SHIFT = 24  # from the mixed state to the weak checksum
    NUMBER_BITS = 24  # block numbers in a sorted key, below the weak checksum
    CANDIDATES = 16
    LANES = 16  # byte columns summed side by side: what compilers turn into vector adds
    BATCH = 64  # windows per branch-free round: their survivors fill eight cache lines
    FILTER_BITS_MIN = 17  # log2 bits: 16 KiB, free to keep in any first-level cache

cdef uint64_t MIX = 0x9E3779B97F4A7C15ULL  # odd, 2**64 / golden ratio: spreads a and b upwards
cdef uint64_t NUMBER_MASK = (1 << NUMBER_BITS) - 1


cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>
    #if defined(__x86_64__) && defined(__GNUC__)
    #include <immintrin.h>

    /* Adds rows of 32 bytes to a and b and returns how many bytes it took. A row's part of b is
       its bytes times 32, 31, ... 1, and 32 times the sum of all rows before it. The products
       of a row fit 16 bits in pairs (255 * (32 + 31) < 2**15), the rest is modulo 2**32. */
    __attribute__((target("avx2")))
    static size_t netsync_sum_rows(const uint8_t *p, size_t n, uint32_t *a, uint32_t *b) {
        const __m256i weights = _mm256_setr_epi8(
            32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17,
            16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1);
        const __m256i ones = _mm256_set1_epi16(1), zero = _mm256_setzero_si256();
        __m256i sums = zero, before = zero, weighted = zero;
        size_t rows = n / 32, i;
        uint32_t part[8], earlier = 0, within = 0, total = 0;
        for (i = 0; i < rows; i++) {
            __m256i row = _mm256_loadu_si256((const __m256i *)(p + 32 * i));
            before = _mm256_add_epi32(before, sums);
            sums = _mm256_add_epi32(sums, _mm256_sad_epu8(row, zero));
            weighted = _mm256_add_epi32(
                weighted, _mm256_madd_epi16(_mm256_maddubs_epi16(row, weights), ones));
        }
        _mm256_storeu_si256((__m256i *)part, sums);
        for (i = 0; i < 8; i++) total += part[i];
        _mm256_storeu_si256((__m256i *)part, before);
        for (i = 0; i < 8; i++) earlier += part[i];
        _mm256_storeu_si256((__m256i *)part, weighted);
        for (i = 0; i < 8; i++) within += part[i];
        *a = total;
        *b = 32 * earlier + within;
        return 32 * rows;
    }
    static int netsync_has_rows(void) { return __builtin_cpu_supports("avx2"); }
    #else
    static size_t netsync_sum_rows(const uint8_t *p, size_t n, uint32_t *a, uint32_t *b) {
        (void)p; (void)n; *a = *b = 0;
        return 0;
    }
    static int netsync_has_rows(void) { return 0; }
    #endif
    """
    size_t netsync_sum_rows(const uint8_t* p, size_t n, uint32_t* a, uint32_t* b) nogil
    int netsync_has_rows() nogil


cdef extern from *:
    """
    #include <string.h>
    #define NETSYNC_UNIT 4096

    static inline uint32_t netsync_word(const uint8_t *p) {
        return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    }

    /* What unit_tags means is in the twin; here it is done with as many lanes as there are. */
    static void netsync_unit_plain(const uint8_t *data, const uint8_t *key, uint64_t tag[4]) {
        int at, row;
        for (at = 0; at < NETSYNC_UNIT; at += 8)
            for (row = 0; row < 4; row++) {
                const uint8_t *k = key + at + 64 * row;
                tag[row] += (uint64_t)(uint32_t)(netsync_word(data + at) + netsync_word(k))
                    * (uint32_t)(netsync_word(data + at + 4) + netsync_word(k + 4));
            }
    }

    #if defined(__x86_64__) && defined(__GNUC__)
    __attribute__((target("avx2")))
    static void netsync_unit_avx2(const uint8_t *data, const uint8_t *key, uint64_t tag[4]) {
        __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(),
                           _mm256_setzero_si256(), _mm256_setzero_si256()};
        uint64_t part[4];
        int at, row;
        for (at = 0; at < NETSYNC_UNIT; at += 32) {
            __m256i words = _mm256_loadu_si256((const __m256i *)(data + at));
            for (row = 0; row < 4; row++) {
                __m256i sum = _mm256_add_epi32(
                    words, _mm256_loadu_si256((const __m256i *)(key + at + 64 * row)));
                sums[row] = _mm256_add_epi64(
                    sums[row], _mm256_mul_epu32(sum, _mm256_srli_epi64(sum, 32)));
            }
        }
        for (row = 0; row < 4; row++) {
            _mm256_storeu_si256((__m256i *)part, sums[row]);
            tag[row] += part[0] + part[1] + part[2] + part[3];
        }
    }

    __attribute__((target("avx512f")))
    static void netsync_unit_avx512(const uint8_t *data, const uint8_t *key, uint64_t tag[4]) {
        __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(),
                           _mm512_setzero_si512(), _mm512_setzero_si512()};
        int at, row;
        for (at = 0; at < NETSYNC_UNIT; at += 64) {
            __m512i words = _mm512_loadu_si512(data + at);
            for (row = 0; row < 4; row++) {
                __m512i sum = _mm512_add_epi32(words, _mm512_loadu_si512(key + at + 64 * row));
                sums[row] = _mm512_add_epi64(
                    sums[row], _mm512_mul_epu32(sum, _mm512_srli_epi64(sum, 32)));
            }
        }
        for (row = 0; row < 4; row++) tag[row] += _mm512_reduce_add_epi64(sums[row]);
    }

    static void netsync_unit(const uint8_t *data, const uint8_t *key, uint64_t tag[4]) {
        if (__builtin_cpu_supports("avx512f")) netsync_unit_avx512(data, key, tag);
        else if (__builtin_cpu_supports("avx2")) netsync_unit_avx2(data, key, tag);
        else netsync_unit_plain(data, key, tag);
    }
    #else
    static void netsync_unit(const uint8_t *data, const uint8_t *key, uint64_t tag[4]) {
        netsync_unit_plain(data, key, tag);
    }
    #endif

    /* Writes 32 bytes for each unit of data; the last one may be short. */
    static void netsync_tags(const uint8_t *data, size_t n, const uint8_t *key, uint8_t *out) {
        uint8_t last[NETSYNC_UNIT];
        size_t at;
        int i;
        for (at = 0; at < n; at += NETSYNC_UNIT, out += 32) {
            uint64_t tag[4] = {0, 0, 0, 0};
            const uint8_t *unit = data + at;
            if (n - at < NETSYNC_UNIT) {
                memset(last, 0, sizeof(last));
                memcpy(last, unit, n - at);
                unit = last;
            }
            netsync_unit(unit, key, tag);
            for (i = 0; i < 32; i++) out[i] = (uint8_t)(tag[i / 8] >> (8 * (i % 8)));
        }
    }
    """
    void netsync_tags(const uint8_t* data, size_t n, const uint8_t* key, uint8_t* out) nogil

cdef extern from *:
    """
    #define NETSYNC_STRIPE 64
    #define NETSYNC_BLOCK 1024 /* sixteen stripes, then the sums are scrambled */
    #define NETSYNC_SECRET 192

    static const uint64_t netsync_secret[NETSYNC_SECRET / 8] = {
        0xbe4ba423396cfeb8ULL, 0x1cad21f72c81017cULL, 0xdb979083e96dd4deULL,
        0x1f67b3b7a4a44072ULL, 0x78e5c0cc4ee679cbULL, 0x2172ffcc7dd05a82ULL,
        0x8e2443f7744608b8ULL, 0x4c263a81e69035e0ULL, 0xcb00c391bb52283cULL,
        0xa32e531b8b65d088ULL, 0x4ef90da297486471ULL, 0xd8acdea946ef1938ULL,
        0x3f349ce33f76faa8ULL, 0x1d4f0bc7c7bbdcf9ULL, 0x3159b4cd4be0518aULL,
        0x647378d9c97e9fc8ULL, 0xc3ebd33483acc5eaULL, 0xeb6313faffa081c5ULL,
        0x49daf0b751dd0d17ULL, 0x9e68d429265516d3ULL, 0xfca1477d58be162bULL,
        0xce31d07ad1b8f88fULL, 0x280416958f3acb45ULL, 0x7e404bbbcafbd7afULL
    };

    static inline uint64_t netsync_long(const uint8_t *p) {
        return netsync_word(p) | (uint64_t)netsync_word(p + 4) << 32;
    }

    /* Returns the product of a and b, its upper half folded onto the lower one. */
    static uint64_t netsync_folded(uint64_t a, uint64_t b) {
        uint64_t low = (a & 0xffffffff) * (b & 0xffffffff), high = (a >> 32) * (b >> 32);
        uint64_t left = (a >> 32) * (b & 0xffffffff), right = (a & 0xffffffff) * (b >> 32);
        uint64_t middle = (low >> 32) + (left & 0xffffffff) + right;
        high += (left >> 32) + (middle >> 32);
        return (middle << 32 | (low & 0xffffffff)) ^ high;
    }

    /* Takes n stripes, the secret moving on by 8 bytes with each. */
    static void netsync_stripes_plain(
            const uint8_t *p, size_t n, const uint8_t *secret, uint64_t sums[8]) {
        int lane;
        for (; n; n--, p += NETSYNC_STRIPE, secret += 8)
            for (lane = 0; lane < 8; lane++) {
                uint64_t word = netsync_long(p + 8 * lane);
                uint64_t mixed = word ^ netsync_long(secret + 8 * lane);
                sums[lane ^ 1] += word;
                sums[lane] += (mixed & 0xffffffff) * (mixed >> 32);
            }
    }

    #if defined(__x86_64__) && defined(__GNUC__)
    __attribute__((target("avx2")))
    static void netsync_stripes_avx2(
            const uint8_t *p, size_t n, const uint8_t *secret, uint64_t sums[8]) {
        __m256i half[2];
        int side;
        for (side = 0; side < 2; side++)
            half[side] = _mm256_loadu_si256((const __m256i *)(sums + 4 * side));
        for (; n; n--, p += NETSYNC_STRIPE, secret += 8)
            for (side = 0; side < 2; side++) {
                __m256i words = _mm256_loadu_si256((const __m256i *)(p + 32 * side));
                __m256i mixed = _mm256_xor_si256(
                    words, _mm256_loadu_si256((const __m256i *)(secret + 32 * side)));
                half[side] = _mm256_add_epi64(half[side], _mm256_shuffle_epi32(words, 0x4e));
                half[side] = _mm256_add_epi64(
                    half[side], _mm256_mul_epu32(mixed, _mm256_srli_epi64(mixed, 32)));
            }
        for (side = 0; side < 2; side++)
            _mm256_storeu_si256((__m256i *)(sums + 4 * side), half[side]);
    }

    __attribute__((target("avx512f")))
    static void netsync_stripes_avx512(
            const uint8_t *p, size_t n, const uint8_t *secret, uint64_t sums[8]) {
        __m512i all = _mm512_loadu_si512(sums);
        for (; n; n--, p += NETSYNC_STRIPE, secret += 8) {
            __m512i words = _mm512_loadu_si512(p);
            __m512i mixed = _mm512_xor_si512(words, _mm512_loadu_si512(secret));
            all = _mm512_add_epi64(all, _mm512_shuffle_epi32(words, 0x4e));
            all = _mm512_add_epi64(all, _mm512_mul_epu32(mixed, _mm512_srli_epi64(mixed, 32)));
        }
        _mm512_storeu_si512(sums, all);
    }
    #endif

    static void netsync_stripes(
            const uint8_t *p, size_t n, const uint8_t *secret, uint64_t sums[8]) {
    #if defined(__x86_64__) && defined(__GNUC__)
        if (__builtin_cpu_supports("avx512f")) {
            netsync_stripes_avx512(p, n, secret, sums);
            return;
        }
        if (__builtin_cpu_supports("avx2")) {
            netsync_stripes_avx2(p, n, secret, sums);
            return;
        }
    #endif
        netsync_stripes_plain(p, n, secret, sums);
    }

    /* Takes n blocks of sixteen stripes, scrambling the sums after each. */
    static void netsync_blocks_plain(
            const uint8_t *p, size_t n, const uint8_t *secret, uint64_t sums[8]) {
        const uint8_t *end = secret + NETSYNC_SECRET - NETSYNC_STRIPE;
        int lane;
        for (; n; n--, p += NETSYNC_BLOCK) {
            netsync_stripes(p, NETSYNC_BLOCK / NETSYNC_STRIPE, secret, sums);
            for (lane = 0; lane < 8; lane++)
                sums[lane] = 0x9e3779b1ULL
                    * (sums[lane] ^ sums[lane] >> 47 ^ netsync_long(end + 8 * lane));
        }
    }

    #if defined(__x86_64__) && defined(__GNUC__)
    /* The same, with the sums in a register from the first block to the last. */
    __attribute__((target("avx512f")))
    static void netsync_blocks_avx512(
            const uint8_t *p, size_t n, const uint8_t *secret, uint64_t sums[8]) {
        const __m512i end = _mm512_loadu_si512(secret + NETSYNC_SECRET - NETSYNC_STRIPE);
        const __m512i prime = _mm512_set1_epi64(0x9e3779b1);
        __m512i all = _mm512_loadu_si512(sums), high;
        int stripe;
        for (; n; n--) {
            for (stripe = 0; stripe < NETSYNC_BLOCK / NETSYNC_STRIPE; stripe++) {
                __m512i words = _mm512_loadu_si512(p), mixed;
                p += NETSYNC_STRIPE;
                mixed = _mm512_xor_si512(words, _mm512_loadu_si512(secret + 8 * stripe));
                all = _mm512_add_epi64(all, _mm512_shuffle_epi32(words, 0x4e));
                all = _mm512_add_epi64(all, _mm512_mul_epu32(mixed, _mm512_srli_epi64(mixed, 32)));
            }
            all = _mm512_xor_si512(all, _mm512_xor_si512(_mm512_srli_epi64(all, 47), end));
            high = _mm512_mul_epu32(_mm512_srli_epi64(all, 32), prime);
            all = _mm512_add_epi64(_mm512_mul_epu32(all, prime), _mm512_slli_epi64(high, 32));
        }
        _mm512_storeu_si512(sums, all);
    }
    #endif

    static void netsync_blocks(
            const uint8_t *p, size_t n, const uint8_t *secret, uint64_t sums[8]) {
    #if defined(__x86_64__) && defined(__GNUC__)
        if (__builtin_cpu_supports("avx512f")) {
            netsync_blocks_avx512(p, n, secret, sums);
            return;
        }
    #endif
        netsync_blocks_plain(p, n, secret, sums);
    }

    static void netsync_seeded(uint64_t seed, uint8_t *secret) {
        int at;
        for (at = 0; at < NETSYNC_SECRET; at++) {
            uint64_t word = netsync_secret[at / 8] + (at / 8 % 2 ? 0 - seed : seed);
            secret[at] = (uint8_t)(word >> (8 * (at % 8)));
        }
    }

    /* Returns the upper half of xxh3_128 of more than 240 bytes. */
    static uint64_t netsync_strong(const uint8_t *p, size_t n, const uint8_t *secret) {
        const uint8_t *end = secret + NETSYNC_SECRET - NETSYNC_STRIPE;
        uint64_t sums[8] = {
            0xc2b2ae3dULL, 0x9e3779b185ebca87ULL, 0xc2b2ae3d27d4eb4fULL, 0x165667b19e3779f9ULL,
            0x85ebca77c2b2ae63ULL, 0x85ebca77ULL, 0x27d4eb2f165667c5ULL, 0x9e3779b1ULL};
        uint64_t result = ~(n * 0xc2b2ae3d27d4eb4fULL);
        size_t blocks = (n - 1) / NETSYNC_BLOCK;
        int lane;
        netsync_blocks(p, blocks, secret, sums);
        p += blocks * NETSYNC_BLOCK;
        n -= blocks * NETSYNC_BLOCK;
        netsync_stripes(p, (n - 1) / NETSYNC_STRIPE, secret, sums);
        netsync_stripes(p + n - NETSYNC_STRIPE, 1, end - 7, sums);
        for (lane = 0; lane < 8; lane += 2)
            result += netsync_folded(
                sums[lane] ^ netsync_long(end - 11 + 8 * lane),
                sums[lane + 1] ^ netsync_long(end - 3 + 8 * lane));
        result = (result ^ result >> 37) * 0x165667919e3779f9ULL;
        return result ^ result >> 32;
    }
    """
    enum: NETSYNC_SECRET
    void netsync_seeded(uint64_t seed, uint8_t* secret) nogil
    uint64_t netsync_strong(const uint8_t* p, size_t n, const uint8_t* secret) nogil


cdef bint HAS_ROWS = netsync_has_rows()


cdef uint64_t window_state(const uint8_t* p, size_t n) noexcept nogil:
    """Compute a window's state from its bytes: with AVX2, else LANES columns at a time."""
    cdef uint32_t a = 0, b = 0
    cdef size_t i, taken
    if not HAS_ROWS:
        return portable_state(p, n)
    taken = netsync_sum_rows(p, n, &a, &b)
    for i in range(taken, n):
        a += p[i]
        b += a
    return a | (<uint64_t>b << 32)


cdef uint64_t portable_state(const uint8_t* p, size_t n) noexcept nogil:
    cdef uint32_t sums[LANES]
    cdef uint32_t prefixes[LANES]
    cdef uint32_t a = 0, b = 0
    cdef size_t row, i, rows = n // LANES
    cdef int lane
    memset(sums, 0, sizeof(sums))
    memset(prefixes, 0, sizeof(prefixes))
    for row in range(rows):
        for lane in range(LANES):
            prefixes[lane] += sums[lane]
            sums[lane] += p[lane]
        p += LANES
    for lane in range(LANES):
        a += sums[lane]
        b += LANES * prefixes[lane] + <uint32_t>(LANES - lane) * sums[lane]
    for i in range(n - rows * LANES):
        a += p[i]
        b += a
    return a | (<uint64_t>b << 32)


cdef inline uint64_t rolled(uint64_t state, uint32_t n, uint32_t old, uint32_t new) noexcept nogil:
    """Move a window of n bytes one byte on: drop ``old``, take ``new``."""
    cdef uint32_t a = <uint32_t>state + new - old
    cdef uint32_t b = <uint32_t>(state >> 32) + a - n * old
    return a | (<uint64_t>b << 32)


cdef inline uint64_t read_weak(const uint8_t* p) noexcept nogil:
    return (
        <uint64_t>p[0] | (<uint64_t>p[1] << 8) | (<uint64_t>p[2] << 16)
        | (<uint64_t>p[3] << 24) | (<uint64_t>p[4] << 32)
    )


cdef inline int bits_for(uint64_t count) noexcept nogil:
    """Return the log2 of the smallest power of two not below count."""
    cdef int bits = 0
    while (<uint64_t>1 << bits) < count:
        bits += 1
    return bits


def weak_sums(data, Py_ssize_t block_size):
    cdef Py_buffer view
    cdef Py_ssize_t at, length, blocks, i
    cdef uint64_t weak
    cdef bytes result
    cdef uint8_t* out
    cdef const uint8_t* p
    if block_size < 1:
        raise ValueError("block size must be at least 1 byte")
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        blocks = view.len // block_size + (view.len % block_size != 0)
        # Blocks may be one byte, so the product is checked before it can wrap.
        if blocks > (<Py_ssize_t>1 << 48):
            raise ValueError("data too long")
        result = bytes(blocks * WEAK_BYTES)
        out = <uint8_t*><char*>result  # ours alone until returned
        p = <const uint8_t*>view.buf
        with nogil:
            for at in range(blocks):
                length = min(block_size, view.len - at * block_size)
                weak = (window_state(p + at * block_size, length) * MIX) >> WEAK_SHIFT
                for i in range(WEAK_BYTES):
                    out[at * WEAK_BYTES + i] = <uint8_t>(weak >> (8 * i))
    finally:
        PyBuffer_Release(&view)
    return result


cdef void write_strong(
    const uint8_t* p, Py_ssize_t n, const uint8_t* secret, uint8_t* out
) noexcept nogil:
    """Write a strong checksum: the first bytes of a digest, whose upper half comes first."""
    cdef uint64_t upper = netsync_strong(p, n, secret)
    cdef int i
    for i in range(STRONG_BYTES):
        out[i] = <uint8_t>(upper >> (56 - 8 * i))


cdef void write_all(
    const uint8_t* p, Py_ssize_t n, Py_ssize_t block_size, const uint8_t* secret, uint8_t* out
) noexcept nogil:
    """Write the strong checksums of all blocks but a last one that is too short."""
    while n >= block_size:
        write_strong(p, block_size, secret, out)
        p += block_size
        n -= block_size
        out += STRONG_BYTES
    if n > SHORT:
        write_strong(p, n, secret, out)


cdef Py_ssize_t count_equal(
    const uint8_t* p, Py_ssize_t blocks, Py_ssize_t block_size, const uint8_t* secret,
    const uint8_t* expected, Py_ssize_t stride
) noexcept nogil:
    """Count blocks up to the first whose strong checksum is not the expected one."""
    cdef uint8_t[STRONG_BYTES] strong
    cdef Py_ssize_t count
    for count in range(blocks):
        write_strong(p + count * block_size, block_size, secret, strong)
        if memcmp(strong, expected + count * stride, STRONG_BYTES) != 0:
            return count
    return blocks


def strong_sums(data, Py_ssize_t block_size, seed):
    cdef Py_buffer view
    cdef Py_ssize_t length, blocks
    cdef uint64_t number = seed
    cdef bytes result
    cdef uint8_t* out
    cdef uint8_t[NETSYNC_SECRET] secret
    if block_size <= SHORT:
        raise ValueError(f"blocks must be longer than {SHORT} bytes")
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        blocks = view.len // block_size
        length = view.len % block_size
        result = bytes((blocks + (length > 0)) * STRONG_BYTES)
        out = <uint8_t*><char*>result  # ours alone until returned
        netsync_seeded(number, secret)
        if view.len < GIL_BYTES:
            write_all(<const uint8_t*>view.buf, view.len, block_size, secret, out)
        else:
            with nogil:
                write_all(<const uint8_t*>view.buf, view.len, block_size, secret, out)
        if 0 < length <= SHORT:
            last = xxh3_128_digest(memoryview(data)[view.len - length :], number)
            memcpy(out + blocks * STRONG_BYTES, <const char*>last, STRONG_BYTES)
    finally:
        PyBuffer_Release(&view)
    return result


def count_repeated(
    data, Py_ssize_t block_size, seed, const uint8_t[::1] entries not None, Py_ssize_t place,
    Py_ssize_t stride,
):
    cdef Py_buffer view
    cdef Py_ssize_t count, most, room
    cdef uint64_t number = seed
    cdef const uint8_t* first
    cdef uint8_t[NETSYNC_SECRET] secret
    if block_size <= SHORT:
        raise ValueError(f"blocks must be longer than {SHORT} bytes")
    if place < 0 or stride < STRONG_BYTES:
        raise ValueError("checksums lie before the entries or in each other")
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        most = view.len // block_size
        room = entries.shape[0] - STRONG_BYTES  # nothing is added up that may not fit a number
        if most and (room < place or (room - place) // stride < most - 1):
            raise ValueError("there are fewer entries than blocks")
        if not most:
            return 0
        netsync_seeded(number, secret)
        first = &entries[place]
        if view.len < GIL_BYTES:
            count = count_equal(<const uint8_t*>view.buf, most, block_size, secret, first, stride)
        else:
            with nogil:
                count = count_equal(
                    <const uint8_t*>view.buf, most, block_size, secret, first, stride
                )
    finally:
        PyBuffer_Release(&view)
    return count


def unit_tags(data, const uint8_t[::1] key not None):
    cdef Py_buffer view
    cdef bytes result
    cdef uint8_t* out
    if key.shape[0] != KEY_SIZE:
        raise ValueError(f"a key has {KEY_SIZE} bytes")
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        result = bytes((view.len // UNIT + (view.len % UNIT != 0)) * TAG_SIZE)
        out = <uint8_t*><char*>result  # ours alone until returned
        with nogil:
            netsync_tags(<const uint8_t*>view.buf, view.len, &key[0], out)
    finally:
        PyBuffer_Release(&view)
    return result


@cython.final  # its methods become plain calls, which the compiler can inline
cdef class WeakTable:
    cdef uint64_t* keys  # weak << NUMBER_BITS | number, sorted
    cdef uint32_t* starts  # first key of each bucket of the weak's top bits, and the end
    cdef uint64_t* coarse
    cdef uint64_t* fine
    cdef uint32_t count
    cdef int bucket_shift, coarse_shift, fine_shift

    def __cinit__(self, entries, Py_ssize_t stride):
        cdef Py_buffer view
        if stride < WEAK_BYTES:
            raise ValueError("entry too short for its weak checksum")
        PyObject_GetBuffer(entries, &view, PyBUF_SIMPLE)
        try:
            if view.len % stride:
                raise ValueError("entries end in the middle of one")
            if view.len // stride > BLOCKS_MAX:
                raise ValueError("too many blocks for one table")
            self.count = <uint32_t>(view.len // stride)
            self._allocate()
            with nogil:
                self._load(<const uint8_t*>view.buf, stride)
                self._sort()
                self._index()
        finally:
            PyBuffer_Release(&view)

    def __dealloc__(self):
        free(self.keys)
        free(self.starts)
        free(self.coarse)
        free(self.fine)

    def __len__(self):
        return self.count

    cdef int _allocate(self) except -1:
        cdef int buckets = max(1, bits_for(self.count))
        cdef int coarse = max(<int>FILTER_BITS_MIN, bits_for(<uint64_t>self.count * 4))
        cdef int fine = max(<int>FILTER_BITS_MIN, bits_for(<uint64_t>self.count * 32))
        self.bucket_shift = WEAK_BITS - buckets
        self.coarse_shift = 64 - (coarse - 6)  # a filter word holds 2**6 bits
        self.fine_shift = 64 - (fine - 6)
        self.keys = <uint64_t*>malloc((<size_t>self.count + 1) * sizeof(uint64_t))
        self.starts = <uint32_t*>calloc((<size_t>1 << buckets) + 1, sizeof(uint32_t))
        self.coarse = <uint64_t*>calloc(<size_t>1 << (coarse - 6), sizeof(uint64_t))
        self.fine = <uint64_t*>calloc(<size_t>1 << (fine - 6), sizeof(uint64_t))
        if not (self.keys and self.starts and self.coarse and self.fine):
            raise MemoryError
        return 0

    cdef void _load(self, const uint8_t* entries, size_t stride) noexcept nogil:
        cdef uint32_t number
        cdef uint64_t weak, mixed, one = 1
        for number in range(self.count):
            weak = read_weak(entries + number * stride)
            mixed = weak << WEAK_SHIFT
            self.keys[number] = weak << NUMBER_BITS | number
            self.coarse[mixed >> self.coarse_shift] |= one << (weak & 63)
            self.fine[mixed >> self.fine_shift] |= (
                one << (weak >> 6 & 63) | one << (weak >> 12 & 63)
            )

    cdef int _sort(self) except -1 nogil:
        """Sort keys by weak checksum, a byte a pass: linear whatever a peer put in them."""
        cdef uint64_t* source = self.keys
        cdef uint64_t* target = <uint64_t*>malloc((<size_t>self.count + 1) * sizeof(uint64_t))
        cdef uint32_t places[257]
        cdef uint32_t i
        cdef int shift, digit
        if target == NULL:
            with gil:
                raise MemoryError
        for shift in range(NUMBER_BITS, NUMBER_BITS + WEAK_BITS, 8):
            memset(places, 0, sizeof(places))
            for i in range(self.count):
                places[(source[i] >> shift & 255) + 1] += 1
            for digit in range(256):
                places[digit + 1] += places[digit]
            for i in range(self.count):
                digit = source[i] >> shift & 255
                target[places[digit]] = source[i]
                places[digit] += 1
            source, target = target, source
        self.keys = source  # its partner's last copy is stale
        free(target)
        return 0

    cdef void _index(self) noexcept nogil:
        cdef uint32_t i
        cdef uint64_t bucket, buckets = <uint64_t>1 << (WEAK_BITS - self.bucket_shift)
        for i in range(self.count):
            self.starts[(self.keys[i] >> NUMBER_BITS >> self.bucket_shift) + 1] += 1
        for bucket in range(buckets):
            self.starts[bucket + 1] += self.starts[bucket]

    cdef uint32_t _lower_bound(self, uint64_t weak, uint64_t number) noexcept nogil:
        """Find the first key not below (weak, number); at most 24 steps in the worst bucket."""
        cdef uint64_t key = weak << NUMBER_BITS | number
        cdef uint32_t low = self.starts[weak >> self.bucket_shift]
        cdef uint32_t high = self.starts[(weak >> self.bucket_shift) + 1]
        cdef uint32_t middle
        while low < high:
            middle = low + (high - low) // 2
            if self.keys[middle] < key:
                low = middle + 1
            else:
                high = middle
        return low

    cdef bint _holds(self, uint64_t mixed) noexcept nogil:
        cdef uint64_t weak = mixed >> WEAK_SHIFT
        cdef uint64_t word = self.fine[mixed >> self.fine_shift]
        cdef uint32_t i
        if not (word >> (weak >> 6 & 63) & word >> (weak >> 12 & 63) & 1):
            return False
        i = self._lower_bound(weak, 0)
        return i < self.count and self.keys[i] >> NUMBER_BITS == weak

    def candidates(self, state, Py_ssize_t first=0):
        cdef uint64_t weak = (<uint64_t>(state & 0xFFFFFFFFFFFFFFFF) * MIX) >> WEAK_SHIFT
        cdef uint32_t i
        cdef list found = []
        first = max(first, 0)
        if first >= self.count:
            return found
        i = self._lower_bound(weak, first)
        while i < self.count and self.keys[i] >> NUMBER_BITS == weak and len(found) < CANDIDATES:
            found.append(self.keys[i] & NUMBER_MASK)
            i += 1
        return found

    def find(self, data, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t block_size, state=None):
        cdef Py_buffer view
        cdef const uint8_t* p
        cdef uint64_t value = 0
        cdef bint resumed = state is not None
        if block_size < 1:
            raise ValueError("block size must be at least 1 byte")
        if start < (1 if resumed else 0):
            raise ValueError("search starts before the data")
        if resumed:
            value = state & 0xFFFFFFFFFFFFFFFF
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            stop = min(stop, view.len - block_size)
            if start > stop or self.count == 0:
                return -1, state
            p = <const uint8_t*>view.buf
            with nogil:
                if resumed:
                    value = rolled(
                        value, <uint32_t>block_size, p[start - 1], p[start + block_size - 1]
                    )
                else:
                    value = window_state(p + start, block_size)
                start = self._search(p, start, stop, block_size, &value)
        finally:
            PyBuffer_Release(&view)
        return start, value

    cdef Py_ssize_t _search(
        self, const uint8_t* p, Py_ssize_t at, Py_ssize_t stop, Py_ssize_t n, uint64_t* state
    ) noexcept nogil:
        """Roll from ``at``, whose state is given, to a hit or to ``stop``; leave its state."""
        cdef uint64_t value = state[0], after
        cdef Py_ssize_t quiet = 0
        while True:
            if quiet == 0:
                while at + BATCH <= stop:
                    after = value
                    if self._any(p + at, n, &after):
                        break
                    value = after
                    at += BATCH
                quiet = BATCH
            quiet -= 1
            if self._holds(value * MIX):
                state[0] = value
                return at
            if at == stop:
                state[0] = value
                return -1
            value = rolled(value, <uint32_t>n, p[at], p[at + n])
            at += 1

    cdef bint _any(self, const uint8_t* p, Py_ssize_t n, uint64_t* state) noexcept nogil:
        """Tell whether any of BATCH windows from ``p`` is in the table; roll past them all."""
        cdef uint64_t survivors[BATCH]
        cdef uint64_t mixed, word
        cdef uint64_t* coarse = self.coarse
        cdef int shift = self.coarse_shift, j
        cdef unsigned int kept = 0, i
        cdef uint32_t a = <uint32_t>state[0], b = <uint32_t>(state[0] >> 32), old
        cdef uint32_t size = <uint32_t>n
        for j in range(BATCH):
            mixed = (a | (<uint64_t>b << 32)) * MIX
            survivors[kept] = mixed
            word = coarse[mixed >> shift]
            kept += word >> (mixed >> WEAK_SHIFT & 63) & 1
            old = p[j]
            a += <uint32_t>p[n + j] - old
            b += a - size * old
        state[0] = a | (<uint64_t>b << 32)
        for i in range(kept):
            if self._holds(survivors[i]):
                return True
        return False
