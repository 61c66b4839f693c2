// Tiles of 16 rows by 256 packed weights as operands of tensor cores (packed_row_products.cu).
//
// With g = lane / 4 and t = lane % 4, a lane loads rows g and g + 8 of a tile, 16 bytes at a time.
// `load` keeps them as words; `add` multiplies them and adds to the two rows' totals. In an mma,
// the four lanes t have A's columns 2 t, 2 t + 1, 2 t + 8 and 2 t + 9, in any order that matches
// the rows of B. Of a step's eight blocks, B has the x of a lane's codes in the column of their
// block, and zeros in the other columns. So D[row, n] is the sum of block n, and lane t has n = 2 t
// and 2 t + 1.
//
// Instructions of a warp per tile for bfloat16 (float16), including loads, as compiled for sm_90a;
// and their time at one per cycle and scheduler, relative to the time in which an H100's memory
// delivers the tile:
//
//     Q4_0   304 (371), 0.49 (0.60)     Q5_K  601 (634), 0.80 (0.84)     int8_channel  530 (697), 0.48 (0.64)
//     Q8_0   550 (717), 0.47 (0.61)     Q6_K  542 (558), 0.60 (0.62)     int4_group    384 (430), 0.64 (0.72)
//     Q4_K   403 (464), 0.65 (0.75)
//
// (few_rows.cuh takes 2,280 for as many weights of Q6_K.) So memory is the bound for all formats.
#pragma once
#include "decoding.cuh"
#include "packed.cuh"

// The eight 4-bit codes of a word as numbers of T, each code + OFFSET: p[0] has the low halves of
// bytes 0 and 2, p[1] their high halves, p[2] the low halves of bytes 1 and 3, p[3] their high
// halves. MORE high bits per code are in the same byte of `high`: from bit 0 on for low halves,
// from bit APART on for high ones.
template <class T> struct Codes;
template <> struct Codes<__nv_bfloat16> {
    static constexpr float OFFSET = 128;  // the last mantissa bits of 128 + code are those of the code
    template <int MORE = 0, int APART = 0> static __device__ void pairs(unsigned word, unsigned (&p)[4], unsigned high = 0) {
        constexpr unsigned MASK = 0x00010001u * ((1 << MORE) - 1);
#pragma unroll
        for (int i = 0; i < 4; i++)
            p[i] = (word >> 4 * i & 0x000f000fu) | (high >> (i % 2 * APART + i / 2 * 8) & MASK) << 4 | 0x43004300u;
    }
};
template <> struct Codes<__half> {
    // 1024 + code or 1024 + 16 code, from which the offset is subtracted: float16 is exact here.
    static constexpr float OFFSET = 0;
    template <int MORE = 0, int APART = 0> static __device__ void pairs(unsigned word, unsigned (&p)[4], unsigned high = 0) {
        constexpr unsigned MASK = 0x00010001u * ((1 << MORE) - 1);
        const unsigned minus_1024 = 0xe400e400u, minus_64 = 0xd400d400u, sixteenth = 0x2c002c00u;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const unsigned mask = i % 2 ? 0x00f000f0u : 0x000f000fu;
            const unsigned bits = (high >> (i % 2 * APART + i / 2 * 8) & MASK) << (i % 2 ? 8 : 4);
            const unsigned large = (word >> (i < 2 ? 0 : 8) & mask) | bits | 0x64006400u;
            const __half2 of = reinterpret_cast<const __half2&>(large);
            const __half2 made = i % 2 ? __hfma2(of, reinterpret_cast<const __half2&>(sixteenth),
                                                 reinterpret_cast<const __half2&>(minus_64))
                                       : __hadd2(of, reinterpret_cast<const __half2&>(minus_1024));
            p[i] = reinterpret_cast<const unsigned&>(made);
        }
    }
};

// What a lane reads from the rows of a tile: the parts of their format, as in `Packed`.
struct Rows {
    const void *codes[2], *scales[2], *zeros[2];
    int row[2];
    int group;  // log2 of the blocks of 32 per scale, if the format does not fix it
};

// A step's numbers of x: 16 words per block of 32; word 4 i + j has the numbers that belong to p[j]
// of the i-th four bytes. If byte i of a block holds weights i and i + 16, those are numbers 0 and
// 2, 16 and 18, 1 and 3, 17 and 19 from 4 i on; if it holds 2 i and 2 i + 1 (IN_ORDER), j and j + 4
// from 8 i on. Also the sums of each 16 numbers.
struct Numbers {
    const unsigned *words, *zeros;
    const float* sums;
    // The numbers of a block for lanes of its column of B; zeros for others.
    __device__ const unsigned* of_block(int block, int column) const {
        return int(threadIdx.x % 32 / 4) == column ? words + 16 * block : zeros;
    }
    __device__ const unsigned* of_block(int n) const { return of_block(n, n); }
    __device__ float2 of_sums(int first) const { return *reinterpret_cast<const float2*>(sums + first); }
    // The sums of blocks 2 t and 2 t + 1.
    __device__ float2 of_blocks() const {
        const float4 of = *reinterpret_cast<const float4*>(sums + 4 * (threadIdx.x % 4));
        return {of.x + of.y, of.z + of.w};
    }
};

__device__ inline unsigned word_of(const uint4& of, int i) { return i == 0 ? of.x : i == 1 ? of.y : i == 2 ? of.z : of.w; }

// The scales of blocks 2 t and 2 t + 1 of a step; rows have an even number of blocks. Past the end,
// the last two are read, and their sums are zeros. (Selecting zeros here instead would wait for the
// load.)
__device__ inline unsigned scales_of_pair(const void* scales, Int row, int step, int blocks) {
    const int at = min(int(step * 8 + 2 * (threadIdx.x % 4)), blocks - 2);
    return *reinterpret_cast<const unsigned*>(static_cast<const __half*>(scales) + row * blocks + at);
}
__device__ inline float scale_of(const unsigned& pair, int i) {
    return float(reinterpret_cast<const __half*>(&pair)[i]);
}

// totals += scales D, for the rows and columns of D that the lane has.
__device__ inline void add_scaled(const unsigned (&scales)[2], const float (&d)[4], float (&totals)[2]) {
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int i = 0; i < 2; i++) totals[half] += scale_of(scales[half], i) * d[2 * half + i];
}

// 4-bit codes: lane t has blocks t and t + 4 of both rows.
struct HalfCodes {
    uint4 of[2][2];
    // Past the end, the last block is read, and multiplied by zeros.
    __device__ void load(const Rows& rows, int step, int blocks) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint4* const codes = static_cast<const uint4*>(rows.codes[half]) + Int(rows.row[half]) * blocks;
#pragma unroll
            for (int i = 0; i < 2; i++)
                of[half][i] = load_once(codes + min(int(step * 8 + threadIdx.x % 4 + 4 * i), blocks - 1));
        }
    }
    // In two sums, as each product of tensor cores waits for the sum that it adds to.
    template <class T> __device__ void multiply(const Numbers& x, float (&d)[4]) const {
        float e[4] = {};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const unsigned* const numbers = x.of_block(threadIdx.x % 4 + 4 * i);
#pragma unroll
            for (int word = 0; word < 4; word++) {
                const uint4 b = *reinterpret_cast<const uint4*>(numbers + 4 * word);
                unsigned p[4], q[4];
                Codes<T>::pairs(word_of(of[0][i], word), p);
                Codes<T>::pairs(word_of(of[1][i], word), q);
                const unsigned first[4] = {p[0], q[0], p[1], q[1]}, second[4] = {p[2], q[2], p[3], q[3]};
                mma_m16n8k16<T>(d, first, {b.x, b.y});
                mma_m16n8k16<T>(e, second, {b.z, b.w});
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) d[i] += e[i];
    }
};

// scale * (q - 8), as planes: codes; scale.
struct q4_0_tile {
    static constexpr bool IN_ORDER = false;
    static constexpr int DEPTH = AFTER_HOPPER ? 1 : 2;  // tiles in flight; even one gives 64 KB per multiprocessor
    static constexpr int WARPS = 16;  // at most, per block: a multiprocessor has registers for two blocks
    struct Load {
        HalfCodes codes;
        unsigned scales[2];
    };
    static __device__ void load(Load& held, const Rows& rows, int step, int blocks) {
        held.codes.load(rows, step, blocks);
#pragma unroll
        for (int half = 0; half < 2; half++)
            held.scales[half] = scales_of_pair(rows.scales[half], rows.row[half], step, blocks);
    }
    template <class T> static __device__ void add(const Load& held, const Numbers& x, float (&totals)[2]) {
        const float zero = -(Codes<T>::OFFSET + 8);
        const float2 sums = x.of_blocks();
        float d[4] = {zero * sums.x, zero * sums.y, zero * sums.x, zero * sums.y};
        held.codes.template multiply<T>(x, d);
        add_scaled(held.scales, d, totals);
    }
};

// scale * (q - zero), a scale and a zero per 2^group blocks; weights 2 i and 2 i + 1 in byte i.
struct int4_group_tile {
    static constexpr bool IN_ORDER = true;
    static constexpr int DEPTH = 1, WARPS = 16;
    struct Load {
        HalfCodes codes;
        unsigned short scales[2][2];  // of blocks 2 t and 2 t + 1
        Byte zeros[2][2];
    };
    static __device__ void load(Load& held, const Rows& rows, int step, int blocks) {
        held.codes.load(rows, step, blocks);
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const int block = min(int(step * 8 + 2 * (threadIdx.x % 4) + i), blocks - 1);
                const Int at = Int(rows.row[half]) * (blocks >> rows.group) + (block >> rows.group);
                held.scales[half][i] = static_cast<const unsigned short*>(rows.scales[half])[at];
                held.zeros[half][i] = static_cast<const Byte*>(rows.zeros[half])[at];
            }
    }
    template <class T> static __device__ void add(const Load& held, const Numbers& x, float (&totals)[2]) {
        const float2 sums = x.of_blocks();
        float d[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            d[i] = -(Codes<T>::OFFSET + float(held.zeros[i / 2][i % 2])) * (i % 2 ? sums.y : sums.x);
        held.codes.template multiply<T>(x, d);
#pragma unroll
        for (int i = 0; i < 4; i++)
            totals[i / 2] += float(reinterpret_cast<const __half&>(held.scales[i / 2][i % 2])) * d[i];
    }
};

// scale * q, as planes: 32 signed bytes; a scale per block or, OF_ROW, per row. A code is 16 h + l
// - 128 for two halves, which are multiplied separately. Lane t has blocks t and t + 4.
template <bool OF_ROW> struct int8_tile {
    static constexpr bool IN_ORDER = false;
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
            held.scales[half] = OF_ROW ? static_cast<const unsigned*>(rows.scales[half])[rows.row[half]]
                                       : scales_of_pair(rows.scales[half], rows.row[half], step, blocks);
        }
    }
    template <class T> static __device__ void add(const Load& held, const Numbers& x, float (&totals)[2]) {
        const float zero = -Codes<T>::OFFSET, signs = zero - 8;
        const float2 sums = x.of_blocks();
        float low[4] = {zero * sums.x, zero * sums.y, zero * sums.x, zero * sums.y};
        float high[4] = {signs * sums.x, signs * sums.y, signs * sums.x, signs * sums.y};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const unsigned* const numbers = x.of_block(threadIdx.x % 4 + 4 * i);
#pragma unroll
            for (int word = 0; word < 4; word++) {
                const uint4 b = *reinterpret_cast<const uint4*>(numbers + 4 * word);
                unsigned p[2][4], q[2][4];  // the first and the last 16 weights
#pragma unroll
                for (int k = 0; k < 2; k++) {
                    Codes<T>::pairs(word_of(held.codes[0][i][k], word) ^ 0x80808080u, p[k]);
                    Codes<T>::pairs(word_of(held.codes[1][i][k], word) ^ 0x80808080u, q[k]);
                }
#pragma unroll
                for (int k = 0; k < 4; k += 2) {  // bytes 0 and 2, then 1 and 3
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
        if constexpr (OF_ROW) {
#pragma unroll
            for (int half = 0; half < 2; half++)
                totals[half] += __uint_as_float(held.scales[half]) * (low[2 * half] + low[2 * half + 1]);
        } else {
            add_scaled(held.scales, low, totals);
        }
    }
};
typedef int8_tile<false> q8_0_tile;
typedef int8_tile<true> int8_channel_tile;

// (d scale) q - (dmin minimum), blocks of BYTES as in `AffineBlocks` of packed.cuh. In each 16
// bytes of codes, the low halves belong to one of eight parts of 32 weights, the high halves to the
// next. Lane t has the first (t even) or last 16 weights of parts 2 (t / 2) and the next, and of
// the parts four later.
template <int BYTES> struct affine_tile {
    static constexpr bool IN_ORDER = false, HAS_FIFTH = BYTES == 176;
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
        const float2 sums = x.of_blocks();
        float d[4] = {zero * sums.x, zero * sums.y, zero * sums.x, zero * sums.y};
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
                Codes<T>::template pairs<HAS_FIFTH, 1>(word_of(held.codes[0][i], word), p, bits[0] >> part);
                Codes<T>::template pairs<HAS_FIFTH, 1>(word_of(held.codes[1][i], word), q, bits[1] >> part);
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
                totals[half] += scale * d[2 * half + i] - minimum * (i ? sums.y : sums.x);
            }
    }
};
typedef affine_tile<144> q4_k_tile;
typedef affine_tile<176> q5_k_tile;

// (d scale) (q - 32), as planes: 128 bytes of low halves; 16 scales of signed bytes, d; 64 bytes of
// pairs of high bits. In each 16 bytes of codes, the low halves are 16 weights with a scale, the
// high halves those 64 positions later: two separate products, in the same column of two D. Lane t
// has the 16 bytes t and t + 4.
struct q6_k_tile {
    static constexpr bool IN_ORDER = false;
    static constexpr int DEPTH = 1, WARPS = 8;
    struct Load {
        uint4 codes[2][2], high[2][2];
        unsigned short scales[2][2], d[2];
    };
    // The first of the 16 parts in lane t's columns 2 t and 2 t + 1: for low halves; for high
    // halves, 4 later.
    static __device__ int first_part() { return threadIdx.x % 4 / 2 * 8 + threadIdx.x % 2 * 2; }
    static __device__ void load(Load& held, const Rows& rows, int step, int blocks) {
        const int t = threadIdx.x % 4, steps = blocks / 8;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const Int block = Int(rows.row[half]) * steps + min(step, steps - 1);
            const Byte* const scales = static_cast<const Byte*>(rows.scales[half]) + block * 18;
            held.d[half] = *reinterpret_cast<const unsigned short*>(scales + 16);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                held.scales[half][i] = *reinterpret_cast<const unsigned short*>(scales + first_part() + 4 * i);
                held.codes[half][i] = load_once(static_cast<const uint4*>(rows.codes[half]) + block * 8 + t + 4 * i);
                held.high[half][i] = load_once(static_cast<const uint4*>(rows.zeros[half]) + block * 4 + t % 2 + 2 * i);
            }
        }
    }
    template <class T> static __device__ void add(const Load& held, const Numbers& x, float (&totals)[2]) {
        const int t = threadIdx.x % 4;
        const float zero = -(Codes<T>::OFFSET + 32);
        const float2 first = x.of_sums(first_part()), second = x.of_sums(first_part() + 4);
        float low[4] = {zero * first.x, zero * first.y, zero * first.x, zero * first.y};
        float high[4] = {zero * second.x, zero * second.y, zero * second.x, zero * second.y};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const unsigned* const of_low = x.of_block(t / 2 + 4 * i, t + 4 * i) + t % 2;
            const unsigned* const of_high = x.of_block(t / 2 + 4 * i + 2, t + 4 * i) + t % 2;
#pragma unroll
            for (int word = 0; word < 4; word++) {
                unsigned p[4], q[4];
                Codes<T>::template pairs<2, 4>(word_of(held.codes[0][i], word), p,
                                               word_of(held.high[0][i], word) >> t / 2 * 2);
                Codes<T>::template pairs<2, 4>(word_of(held.codes[1][i], word), q,
                                               word_of(held.high[1][i], word) >> t / 2 * 2);
                const unsigned lows[4] = {p[0], q[0], p[2], q[2]}, highs[4] = {p[1], q[1], p[3], q[3]};
                mma_m16n8k16<T>(low, lows, {of_low[4 * word], of_low[4 * word + 2]});
                mma_m16n8k16<T>(high, highs, {of_high[4 * word], of_high[4 * word + 2]});
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = 0;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                sum += float(static_cast<signed char>(held.scales[half][0] >> 8 * i)) * low[2 * half + i];
                sum += float(static_cast<signed char>(held.scales[half][1] >> 8 * i)) * high[2 * half + i];
            }
            totals[half] += float(reinterpret_cast<const __half&>(held.d[half])) * sum;
        }
    }
};
