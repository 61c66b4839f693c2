// A row of 16-bit floats as integers for the tensor cores' products of 8-bit integers.
//
// A block of 32 numbers is divided by a power of two, so that the largest has 14 bits, and rounded:
//
//     x = scale (128 high + low)        high from -128 to 127, low from 0 to 127
//
// So numbers down to 2^-6 of the largest keep all bits of bfloat16 (2^-3: of float16), and the error
// of a smaller one is at most 2^-14 of the largest. (8-bit activations, as llama.cpp has them, err by
// 2^-8 of it.) Scales are at least 2^-113, so in blocks below 2^-100, which only bfloat16 has, errors
// are up to 2^-114. A block with an infinity or NaN has NaN as its scale, and so have its products.
#pragma once
#include "rows.cuh"

constexpr int BLOCK = 32, STEP = 256;  // numbers with one scale; numbers that a warp arranges at a time
constexpr int DIGITS = STEP / 2, SCALES = 8, SUMS = 8;  // words per step
constexpr int WORDS = DIGITS + SCALES + SUMS;

// A step in shared memory: of each block 8 words of high digits and 8 of low ones, with four numbers
// each; then scales, then the blocks' sums. The B of an mma has the high digits of a block in one
// column, the low ones in the next, and zeros in others, so lanes of other columns read zeros.
struct Digits {
    // Words: of a block; from its high digits to its low ones; from its first 16 numbers to the others;
    // and how many a lane may read from the begin of its column on.
    static constexpr int OF_BLOCK = 16, LOW = 8, HALF = 4, MOST_READ = 100;
    const unsigned* step;
    const unsigned* column[2];  // what a lane has of B begins here: in the step, or zeros
    __device__ const float* scales() const { return reinterpret_cast<const float*>(step + DIGITS); }
    __device__ float scale(int block) const { return scales()[block]; }
    __device__ float sum(int block) const { return scales()[SCALES + block]; }
};

// 16 digits, four to a word.
__device__ inline uint4 digits_at(const unsigned* at) { return *reinterpret_cast<const uint4*>(at); }

template <class T> __device__ float number_of(unsigned bits) {
    const unsigned short half = bits;
    return float(reinterpret_cast<const T&>(half));
}

// Writes eight numbers of a step, from 8 lane on, zeros if not `valid`. All lanes of a warp call this
// together; four of them have a block. A word has four numbers in order, or, BY_PAIRS, four even
// ones of eight; the odd ones are in the second half. Scales are divided by 2^SHIFT.
template <bool BY_PAIRS, bool WITH_SUMS, int SHIFT, class T>
__device__ void put_digits(unsigned* words, const Pack<T, 8>& numbers, bool valid) {
    const int lane = threadIdx.x % 32, q = lane % 4;
    const unsigned* const pairs = reinterpret_cast<const unsigned*>(&numbers);
    unsigned x[4], largest = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        x[i] = valid ? pairs[i] : 0;
        largest = __vmaxu2(largest, x[i] & 0x7fff7fffu);  // NaN's bits are above infinity's
    }
    largest = max(largest & 0xffffu, largest >> 16);
    largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
    // Exponents, as of floats; at least 2^-100.
    const unsigned exponent = max(__float_as_uint(number_of<T>(largest)) & 0x7f800000u, 27u << 23);
    const float factor = __uint_as_float((254u + 13 << 23) - exponent);
    const float scale = __uint_as_float(exponent == 0x7f800000u ? 0x7fffffffu : exponent - (13u + SHIFT << 23));
    // The bits of the float x factor + 1.5 * 2^23 are those of 1.5 * 2^23 plus the integer.
    unsigned integers[8], digits[2][2], sum = 0;
#pragma unroll
    for (int k = 0; k < 8; k++)
        integers[k] = __float_as_uint(__fmaf_rn(number_of<T>(x[k / 2] >> k % 2 * 16), factor, 12582912.0f));
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int at = BY_PAIRS ? i : 4 * i, step = BY_PAIRS ? 2 : 1;
        const unsigned first = __byte_perm(integers[at], integers[at + step], 0x5410);
        const unsigned second = __byte_perm(integers[at + 2 * step], integers[at + 3 * step], 0x5410);
        digits[0][i] = __byte_perm(first << 1, second << 1, 0x7531);
        digits[1][i] = __byte_perm(first, second, 0x6420) & 0x7f7f7f7fu;
    }
    unsigned* const to = words + lane / 4 * Digits::OF_BLOCK + (BY_PAIRS ? q : 2 * q);
#pragma unroll
    for (int low = 0; low < 2; low++) {
        if (BY_PAIRS)
            to[Digits::LOW * low] = digits[low][0], to[Digits::LOW * low + Digits::HALF] = digits[low][1];
        else
            *reinterpret_cast<uint2*>(to + Digits::LOW * low) = {digits[low][0], digits[low][1]};
    }
    if (WITH_SUMS) {
#pragma unroll
        for (int k = 0; k < 8; k++) sum += integers[k] - 0x4b400000u;
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    }
    if (q) return;
    words[DIGITS + lane / 4] = __float_as_uint(scale);
    if (WITH_SUMS) words[DIGITS + SCALES + lane / 4] = __float_as_uint(scale * float(int(sum)));
}
