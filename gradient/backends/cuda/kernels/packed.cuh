// Packed formats (gradient/dtypes/packed): how a warp reads 256 weights of a row.
//
// Blocks are read where they lie, as a GGUF file has them: nothing is repacked, and nothing is kept
// twice. 32 lanes read neighbouring bytes, each those of eight weights: four from FORMAT::first on and
// four from FORMAT::second on. Blocks of 18, 34 and 210 bytes lie at even addresses, so that they
// are read by 2 bytes; memory sees whole sectors in either case.
#pragma once
#include "numbers.cuh"

typedef unsigned char Byte;

// The parts of a packed matrix (rows, columns). `group`: weights that share a scale, where that is
// not fixed by the format; `scales` and `zeros` are null where blocks have all; `table`: what nf4's
// codes stand for, in shared memory, which lanes read at once wherever each of them reads.
struct Packed {
    const Byte* codes;
    const void* scales;
    const Byte* zeros;
    Int columns, group;
    const float* table;
};

__device__ inline float half_at(const void* at) {
    return float(*static_cast<const __half*>(at));
}
// Four bytes at an even address, the first lowest.
__device__ inline unsigned four_bytes(const Byte* at) {
    const unsigned short* pairs = reinterpret_cast<const unsigned short*>(at);
    return pairs[0] | unsigned(pairs[1]) << 16;
}
__device__ inline unsigned word_at(const Byte* at) { return *reinterpret_cast<const unsigned*>(at); }
__device__ inline int byte_of(unsigned word, int i) { return word >> 8 * i & 255; }

// scale * q, blocks of 34 bytes: scale, 32 signed bytes
struct q8_0 {
    static __device__ int first(int lane) { return 8 * lane; }
    static __device__ int second(int lane) { return 8 * lane + 4; }
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8]) {
        const Byte* block = w.codes + (row * (w.columns / 32) + step * 8 + lane / 4) * 34;
        const float scale = half_at(block);
        const Byte* codes = block + 2 + 8 * (lane % 4);
        const unsigned words[2] = {four_bytes(codes), four_bytes(codes + 4)};
#pragma unroll
        for (int i = 0; i < 8; i++)
            values[i] = scale * float(static_cast<signed char>(byte_of(words[i / 4], i % 4)));
    }
};

// scale * (q - 8), blocks of 18 bytes: scale, 16 bytes with weights i and i + 16
struct q4_0 {
    static __device__ int first(int lane) { return 32 * (lane / 4) + 4 * (lane % 4); }
    static __device__ int second(int lane) { return first(lane) + 16; }
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8]) {
        const Byte* block = w.codes + (row * (w.columns / 32) + step * 8 + lane / 4) * 18;
        const float scale = half_at(block);
        const unsigned codes = four_bytes(block + 2 + 4 * (lane % 4));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            values[i] = scale * float((byte_of(codes, i) & 15) - 8);
            values[4 + i] = scale * float((byte_of(codes, i) >> 4) - 8);
        }
    }
};

// The scale and the minimum, of 6 bits, of sub-block j of Q4_K and Q5_K: 12 bytes, of which the
// first four of each lie in the low bits of bytes 0-3 and 4-7.
__device__ inline void scale_and_minimum(const Byte* twelve, int j, float& scale, float& minimum) {
    const int i = j % 4;
    const unsigned first = twelve[i], second = twelve[4 + i], third = twelve[8 + i];
    const unsigned s = j < 4 ? first & 63 : (third & 15) | (first >> 2 & 48);
    const unsigned m = j < 4 ? second & 63 : third >> 4 | (second >> 2 & 48);
    scale *= float(s), minimum *= float(m);
}

// (d scale) q - (dmin minimum), blocks of BYTES: d, dmin, 12 bytes of scales and minimums, for Q5_K
// 32 bytes of fifth bits, and 128 bytes of codes, of which each 32 hold two sub-blocks of 32 weights.
template <int BYTES> struct AffineBlocks {
    static __device__ int first(int lane) { return 64 * (lane / 8) + 4 * (lane % 8); }
    static __device__ int second(int lane) { return first(lane) + 32; }
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8]) {
        const Byte* block = w.codes + (row * (w.columns / 256) + step) * BYTES;
        const unsigned codes = word_at(block + BYTES - 128 + 4 * lane);
        const unsigned fifth = BYTES == 176 ? word_at(block + 16 + 4 * (lane % 8)) : 0;
#pragma unroll
        for (int part = 0; part < 2; part++) {
            const int j = 2 * (lane / 8) + part;
            float scale = half_at(block), minimum = half_at(block + 2);
            scale_and_minimum(block + 4, j, scale, minimum);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int code = (byte_of(codes, i) >> 4 * part & 15) | (byte_of(fifth, i) >> j & 1) << 4;
                values[4 * part + i] = scale * float(code) - minimum;
            }
        }
    }
};
typedef AffineBlocks<144> q4_k;
typedef AffineBlocks<176> q5_k;

// (d scale) (q - 32), blocks of 210 bytes: 128 bytes of low halves, 64 of high pairs of bits, 16
// scales of signed bytes, d
struct q6_k {
    static __device__ int first(int lane) { return 128 * (lane / 16) + 4 * (lane % 16); }
    static __device__ int second(int lane) { return first(lane) + 64; }
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8]) {
        const Byte* block = w.codes + (row * (w.columns / 256) + step) * 210;
        const unsigned low = four_bytes(block + 4 * lane);
        const unsigned high = four_bytes(block + 128 + 32 * (lane / 16) + 4 * (lane % 8));
        const float d = half_at(block + 208);
#pragma unroll
        for (int part = 0; part < 2; part++) {
            const int at = part ? second(lane) : first(lane);
            const float scale = d * float(static_cast<signed char>(block[192 + at / 16]));
            const int field = 4 * part + 2 * (lane % 16 / 8);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int code = (byte_of(low, i) >> 4 * part & 15) | (byte_of(high, i) >> field & 3) << 4;
                values[4 * part + i] = scale * float(code - 32);
            }
        }
    }
};

// scale * q, a scale for each row; rows of any length
struct int8_channel {
    static __device__ int first(int lane) { return 8 * lane; }
    static __device__ int second(int lane) { return 8 * lane + 4; }
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8]) {
        const float scale = static_cast<const float*>(w.scales)[row];
        const Int at = step * 256 + 8 * lane;
        const Byte* codes = w.codes + row * w.columns + at;
        const bool whole = w.columns % 4 == 0;  // rows begin at whole words, and end at one
        unsigned words[2] = {0, 0};
#pragma unroll
        for (int part = 0; part < 2; part++) {
            if (whole) {
                if (at + 4 * part < w.columns) words[part] = word_at(codes + 4 * part);
            } else {
                for (int i = 0; i < 4 && at + 4 * part + i < w.columns; i++)
                    words[part] |= unsigned(codes[4 * part + i]) << 8 * i;
            }
        }
#pragma unroll
        for (int i = 0; i < 8; i++)
            values[i] = scale * float(static_cast<signed char>(byte_of(words[i / 4], i % 4)));
    }
};

// scale * (q - zero), for each `group` of neighbours; weight 2 i in the low half of byte i
struct int4_group {
    static __device__ int first(int lane) { return 8 * lane; }
    static __device__ int second(int lane) { return 8 * lane + 4; }
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8]) {
        const Int at = step * 256 + 8 * lane, group = (row * w.columns + at) / w.group;
        const unsigned codes = word_at(w.codes + (row * w.columns + at) / 2);
        const float scale = half_at(static_cast<const __half*>(w.scales) + group);
        const float zero = float(w.zeros[group]);
#pragma unroll
        for (int i = 0; i < 8; i++) values[i] = scale * (float(codes >> 4 * i & 15) - zero);
    }
};

// absmax * table[q], an absmax for each 64; codes as int4_group's
struct nf4 {
    static __device__ int first(int lane) { return 8 * lane; }
    static __device__ int second(int lane) { return 8 * lane + 4; }
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8]) {
        const Int at = row * w.columns + step * 256 + 8 * lane;
        const unsigned codes = word_at(w.codes + at / 2);
        const float largest = half_at(static_cast<const __half*>(w.scales) + at / 64);
#pragma unroll
        for (int i = 0; i < 8; i++) values[i] = largest * w.table[codes >> 4 * i & 15];
    }
};
