// Tiles of 16 rows by 256 packed weights as factors of tensor cores (packed_row_products.cu).
//
// With g = lane / 4 and t = lane % 4, a lane loads 16 bytes at a time of the rows g and g + 8 of a tile:
// `load`, whose loads stay words until `add` multiplies them and adds to the two rows' totals. In a mma
// the four lanes t have A's columns 2 t, 2 t + 1, 2 t + 8 and 2 t + 9, in any order that B's rows share: B
// has the x that belongs to a lane's codes in the column of their block, of eight in a step, and zeros
// beside, so that D[row, n] is the sum of block n, of which lane t has n = 2 t and 2 t + 1.
#pragma once
#include "decoding.cuh"
#include "packed.cuh"

// The eight codes of four bits of a word as numbers of T, each code + OFFSET: p[0] has the low halves of
// bytes 0 and 2, p[1] their high ones, p[2] the low halves of bytes 1 and 3, p[3] their high ones. A fifth
// bit is bit 0 of a byte of `fifth` for the byte's low half, bit 1 for its high one.
template <class T> struct Codes;
template <> struct Codes<__nv_bfloat16> {
    static constexpr float OFFSET = 128;  // whose bits end where a code's begin
    static __device__ void pairs(unsigned word, unsigned (&p)[4], unsigned fifth = 0) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            p[i] = (word >> 4 * i & 0x000f000fu) | (fifth >> (i % 2 + i / 2 * 8) & 0x00010001u) << 4 | 0x43004300u;
    }
};
template <> struct Codes<__half> {
    // 1024 + code or 1024 + 16 code, less that at once: float16 has more bits than sums could lose.
    static constexpr float OFFSET = 0;
    static __device__ void pairs(unsigned word, unsigned (&p)[4], unsigned fifth = 0) {
        const unsigned minus_1024 = 0xe400e400u, minus_64 = 0xd400d400u, sixteenth = 0x2c002c00u;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const unsigned mask = i % 2 ? 0x00f000f0u : 0x000f000fu;
            const unsigned bits = (fifth >> (i % 2 + i / 2 * 8) & 0x00010001u) << (i % 2 ? 8 : 4);
            const unsigned large = (word >> (i < 2 ? 0 : 8) & mask) | bits | 0x64006400u;
            const __half2 of = reinterpret_cast<const __half2&>(large);
            const __half2 made = i % 2 ? __hfma2(of, reinterpret_cast<const __half2&>(sixteenth),
                                                 reinterpret_cast<const __half2&>(minus_64))
                                       : __hadd2(of, reinterpret_cast<const __half2&>(minus_1024));
            p[i] = reinterpret_cast<const unsigned&>(made);
        }
    }
};

// What a lane reads of the rows of a tile.
struct Rows {
    const void *codes[2], *scales[2];
    int row[2];
};

// A step's numbers of x: of each block of 32 16 words, of which word 4 i + j has what belongs to p[j] of
// its i-th four bytes, where byte i of a block holds weights i and i + 16: numbers 0 and 2, 16 and 18, 1 and
// 3, 17 and 19 from 4 i on; and the sums of blocks 2 t and 2 t + 1.
struct Numbers {
    const unsigned *words, *zeros;
    float2 sums;
    // Those of a block as its column of B has them.
    __device__ const unsigned* of_block(int n) const {
        const int g = threadIdx.x % 32 / 4;
        return g == n ? words + 16 * g : zeros;
    }
};

__device__ inline unsigned word_of(const uint4& of, int i) { return i == 0 ? of.x : i == 1 ? of.y : i == 2 ? of.z : of.w; }

// The scales of blocks 2 t and 2 t + 1 of a step, of which rows have an even number; of those that a row
// does not have the last two, whose sums are zeros. (To put zeros in their place here were to wait for them.)
__device__ inline unsigned scales_of_pair(const void* scales, Int row, int step, int blocks) {
    const int at = min(int(step * 8 + 2 * (threadIdx.x % 4)), blocks - 2);
    return *reinterpret_cast<const unsigned*>(static_cast<const __half*>(scales) + row * blocks + at);
}
__device__ inline float scale_of(const unsigned& pair, int i) {
    return float(reinterpret_cast<const __half*>(&pair)[i]);
}

// totals += scales D, of D's rows and columns that the lane has.
__device__ inline void add_scaled(const unsigned (&scales)[2], const float (&d)[4], float (&totals)[2]) {
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int i = 0; i < 2; i++) totals[half] += scale_of(scales[half], i) * d[2 * half + i];
}

// scale * (q - 8), taken apart: codes; scale. Lane t has blocks t and t + 4.
struct q4_0_tile {
    static constexpr int DEPTH = 2, WARPS = 16;  // tiles on their way; the most warps of a block, of which
                                                 // a multiprocessor has registers for two
    struct Load {
        uint4 codes[2][2];
        unsigned scales[2];
    };
    // Of blocks that the rows do not have the last one is read, and is multiplied by zeros.
    static __device__ void load(Load& held, const Rows& rows, int step, int blocks) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint4* const codes = static_cast<const uint4*>(rows.codes[half]) + Int(rows.row[half]) * blocks;
#pragma unroll
            for (int i = 0; i < 2; i++)
                held.codes[half][i] = load_once(codes + min(int(step * 8 + threadIdx.x % 4 + 4 * i), blocks - 1));
            held.scales[half] = scales_of_pair(rows.scales[half], rows.row[half], step, blocks);
        }
    }
    template <class T> static __device__ void add(const Load& held, const Numbers& x, float (&totals)[2]) {
        const float zero = -(Codes<T>::OFFSET + 8);
        float d[4] = {zero * x.sums.x, zero * x.sums.y, zero * x.sums.x, zero * x.sums.y};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const unsigned* const numbers = x.of_block(threadIdx.x % 4 + 4 * i);
#pragma unroll
            for (int word = 0; word < 4; word++) {
                const uint4 b = *reinterpret_cast<const uint4*>(numbers + 4 * word);
                unsigned p[4], q[4];
                Codes<T>::pairs(word_of(held.codes[0][i], word), p);
                Codes<T>::pairs(word_of(held.codes[1][i], word), q);
                const unsigned first[4] = {p[0], q[0], p[1], q[1]}, second[4] = {p[2], q[2], p[3], q[3]};
                mma_m16n8k16<T>(d, first, {b.x, b.y});
                mma_m16n8k16<T>(d, second, {b.z, b.w});
            }
        }
        add_scaled(held.scales, d, totals);
    }
};

// scale * q, taken apart: 32 signed bytes; scale. A code is 16 h + l - 128 of two halves, each of which is
// multiplied for itself. Lane t has blocks t and t + 4.
struct q8_0_tile {
    static constexpr int DEPTH = 1, WARPS = 12;
    struct Load {
        uint4 codes[2][2][2];
        unsigned scales[2];
    };
    static __device__ void load(Load& held, const Rows& rows, int step, int blocks) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint4* const codes = static_cast<const uint4*>(rows.codes[half]) + Int(rows.row[half]) * blocks * 2;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const int block = min(int(step * 8 + threadIdx.x % 4 + 4 * i), blocks - 1);
                held.codes[half][i][0] = load_once(codes + 2 * block);
                held.codes[half][i][1] = load_once(codes + 2 * block + 1);
            }
            held.scales[half] = scales_of_pair(rows.scales[half], rows.row[half], step, blocks);
        }
    }
    template <class T> static __device__ void add(const Load& held, const Numbers& x, float (&totals)[2]) {
        const float zero = -Codes<T>::OFFSET, signs = zero - 8;
        float low[4] = {zero * x.sums.x, zero * x.sums.y, zero * x.sums.x, zero * x.sums.y};
        float high[4] = {signs * x.sums.x, signs * x.sums.y, signs * x.sums.x, signs * x.sums.y};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const unsigned* const numbers = x.of_block(threadIdx.x % 4 + 4 * i);
#pragma unroll
            for (int word = 0; word < 4; word++) {
                const uint4 b = *reinterpret_cast<const uint4*>(numbers + 4 * word);
                unsigned p[2][4], q[2][4];  // of the first and the last 16 weights
#pragma unroll
                for (int k = 0; k < 2; k++) {
                    Codes<T>::pairs(word_of(held.codes[0][i][k], word) ^ 0x80808080u, p[k]);
                    Codes<T>::pairs(word_of(held.codes[1][i][k], word) ^ 0x80808080u, q[k]);
                }
#pragma unroll
                for (int k = 0; k < 4; k += 2) {  // bytes 0 and 2, 1 and 3
                    const unsigned lows[4] = {p[0][k], q[0][k], p[1][k], q[1][k]};
                    const unsigned highs[4] = {p[0][k + 1], q[0][k + 1], p[1][k + 1], q[1][k + 1]};
                    const unsigned right[2] = {k ? b.z : b.x, k ? b.w : b.y};
                    mma_m16n8k16<T>(low, lows, right);
                    mma_m16n8k16<T>(high, highs, right);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) low[i] += 16 * high[i];
        add_scaled(held.scales, low, totals);
    }
};

// (d scale) q - (dmin minimum), blocks of BYTES as `AffineBlocks` of packed.cuh has them. Of each 16 bytes
// of codes the low halves are one of eight parts of 32 weights, the high ones the next; lane t has the
// first (t even) or last 16 weights of parts 2 (t / 2) and the next, and of those four on.
template <int BYTES> struct affine_tile {
    static constexpr bool HAS_FIFTH = BYTES == 176;
    static constexpr int DEPTH = 1, WARPS = HAS_FIFTH ? 12 : 16;
    struct Load {
        uint4 codes[2][2], head[2], fifth[HAS_FIFTH ? 2 : 1];
    };
    static __device__ void load(Load& held, const Rows& rows, int step, int blocks) {
        const int t = threadIdx.x % 4, steps = blocks / 8;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint4* const block = reinterpret_cast<const uint4*>(
                static_cast<const Byte*>(rows.codes[half]) + (Int(rows.row[half]) * steps + min(step, steps - 1)) * BYTES);
            held.head[half] = *block;
            if constexpr (HAS_FIFTH) held.fifth[half] = block[1 + t % 2];
#pragma unroll
            for (int i = 0; i < 2; i++) held.codes[half][i] = load_once(block + (BYTES / 16 - 8) + t + 4 * i);
        }
    }
    template <class T> static __device__ void add(const Load& held, const Numbers& x, float (&totals)[2]) {
        const int t = threadIdx.x % 4;
        const float zero = -Codes<T>::OFFSET;
        float d[4] = {zero * x.sums.x, zero * x.sums.y, zero * x.sums.x, zero * x.sums.y};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int part = t / 2 * 2 + 4 * i;
            const unsigned* const first = x.of_block(part) + t % 2;
            const unsigned* const second = x.of_block(part + 1) + t % 2;
#pragma unroll
            for (int word = 0; word < 4; word++) {
                unsigned p[4], q[4];
                const unsigned bits[2] = {HAS_FIFTH ? word_of(held.fifth[0], word) : 0,
                                          HAS_FIFTH ? word_of(held.fifth[HAS_FIFTH], word) : 0};
                Codes<T>::pairs(word_of(held.codes[0][i], word), p, bits[0] >> part);
                Codes<T>::pairs(word_of(held.codes[1][i], word), q, bits[1] >> part);
                const unsigned low[4] = {p[0], q[0], p[2], q[2]}, high[4] = {p[1], q[1], p[3], q[3]};
                mma_m16n8k16<T>(d, low, {first[4 * word], first[4 * word + 2]});
                mma_m16n8k16<T>(d, high, {second[4 * word], second[4 * word + 2]});
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float scale = scale_of(held.head[half].x, 0), minimum = scale_of(held.head[half].x, 1);
                scale_and_minimum(held.head[half], 2 * t + i, scale, minimum);
                totals[half] += scale * d[2 * half + i] - minimum * (i ? x.sums.y : x.sums.x);
            }
    }
};
typedef affine_tile<144> q4_k_tile;
typedef affine_tile<176> q5_k_tile;
