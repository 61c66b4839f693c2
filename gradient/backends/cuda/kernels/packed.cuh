// Packed formats (gradient/dtypes/packed): how a warp reads 256 weights of a row.
//
// The 32 lanes read adjacent bytes, eight weights each: four from FORMAT::first on and four from
// FORMAT::second on. `load` gives numbers and SCALES scales for them: one for all eight, one for
// each four, or none. Blocks whose size is a multiple of 4 are read in the layout of a GGUF file.
// Those of 17, 18, 34 and 210 bytes are repacked as planes (planes.py): `codes` has the codes of
// all blocks, `scales` their scales, `zeros` high bits, so that each lane reads its 4 or 8 bytes of
// codes by one load. Q5_0 and Q3_K are read by 2 bytes. Memory accesses are whole sectors in all
// cases.
#pragma once
#include "rows.cuh"

typedef unsigned char Byte;

// The values of 4-bit codes: a kernel argument by value, so nothing is uploaded and no stream
// waits. Null if not `used`: the format needs none.
struct Codebook {
    float of[16];
    Int used;
    __device__ operator const float*() const { return used ? of : nullptr; }
};

// The parts of a packed matrix (rows, columns), as planes or in the format's own blocks. `group`:
// weights per scale, if the format does not fix it. `scales` and `zeros` are null if blocks contain
// everything. `table`: the values of 4-bit codes, in shared memory, where lanes can read different
// entries at once.
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
// Four bytes at an even address, little-endian.
__device__ inline unsigned four_bytes(const Byte* at) {
    const unsigned short* pairs = reinterpret_cast<const unsigned short*>(at);
    return pairs[0] | unsigned(pairs[1]) << 16;
}
__device__ inline unsigned word_at(const Byte* at) { return *reinterpret_cast<const unsigned*>(at); }
__device__ inline int byte_of(unsigned word, int i) { return word >> 8 * i & 255; }
// code - zero, both from 0 to 255. 2^23 + code is a float whose last bits are those of the code, so
// no integer conversion is needed.
__device__ inline float code_number(unsigned code, int zero) {
    return __uint_as_float(0x4b000000u | code) - float(8388608 + zero);
}

// The index of the block of 32 that four lanes share. It fits 32 bits; a 64-bit product takes four
// instructions.
__device__ inline Int block_of_32(const Packed& w, Int row, Int step, int lane) {
    return unsigned(row) * unsigned(w.columns / 32) + (unsigned(step) * 8 + lane / 4);
}

// Factors for the first and the last four of the eight numbers of `load`: a matrix product applies
// them to sums.
struct Scales {
    float four[2];
    Scales() = default;
    __device__ explicit Scales(float both) : four{both, both} {}
};

// scale * q, as planes: 32 signed bytes; scale
struct q8_0 {
    static constexpr int SCALES = 1;
    static __device__ int first(int lane) { return 8 * lane; }
    static __device__ int second(int lane) { return 8 * lane + 4; }
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        const Int block = block_of_32(w, row, step, lane);
        of = Scales(half_at(static_cast<const __half*>(w.scales) + block));
        const uint2 codes = *reinterpret_cast<const uint2*>(w.codes + block * 32 + 8 * (lane % 4));
        const unsigned words[2] = {codes.x, codes.y};
#pragma unroll
        for (int i = 0; i < 8; i++)
            values[i] = float(static_cast<signed char>(byte_of(words[i / 4], i % 4)));
    }
};

// Blocks of 32 weights whose last 16 bytes hold weights i and i + 16 in the halves of byte i. Four
// lanes read a block, four bytes each.
template <int BYTES> struct HalfBytes {
    static __device__ Int number(const Packed& w, Int row, Int step, int lane) {
        return block_of_32(w, row, step, lane);
    }
    static __device__ int first(int lane) { return 32 * (lane / 4) + 4 * (lane % 4); }
    static __device__ int second(int lane) { return first(lane) + 16; }
    static __device__ const Byte* block(const Packed& w, Int row, Int step, int lane) {
        return w.codes + number(w, row, step, lane) * BYTES;
    }
    // The codes of a block that is stored as planes.
    static __device__ unsigned codes_of(const Packed& w, Int block, int lane) {
        return word_at(w.codes + block * 16 + 4 * (lane % 4));
    }
    static __device__ float scale_of(const Packed& w, Int block) {
        return half_at(static_cast<const __half*>(w.scales) + block);
    }
    // values = of(code), where the fifth bit of code i is the bit of weight i in `high`.
    template <class F>
    static __device__ void each(unsigned codes, unsigned high, int lane, float (&values)[8], F of) {
        high >>= 4 * (lane % 4);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            values[i] = of((byte_of(codes, i) & 15) | (high >> i & 1) << 4);
            values[4 + i] = of(byte_of(codes, i) >> 4 | (high >> (16 + i) & 1) << 4);
        }
    }
};

// scale * (q - 8), as planes: codes; scale
struct q4_0 : HalfBytes<0> {
    static constexpr int SCALES = 1;
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        const Int block = number(w, row, step, lane);
        of = Scales(scale_of(w, block));
        each(codes_of(w, block, lane), 0, lane, values, [](int code) { return code_number(code, 8); });
    }
};

// scale * q + min, blocks of 20 bytes: scale, min, codes
struct q4_1 : HalfBytes<20> {
    static constexpr int SCALES = 0;
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        const Byte* at = block(w, row, step, lane);
        const float scale = half_at(at), minimum = half_at(at + 2);
        each(word_at(at + 4 + 4 * (lane % 4)), 0, lane, values,
             [&](int code) { return scale * float(code) + minimum; });
    }
};

// scale * (q - 16), blocks of 22 bytes: scale, 4 bytes of fifth bits, codes
struct q5_0 : HalfBytes<22> {
    static constexpr int SCALES = 1;
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        const Byte* at = block(w, row, step, lane);
        of = Scales(half_at(at));
        each(four_bytes(at + 6 + 4 * (lane % 4)), four_bytes(at + 2), lane, values,
             [](int code) { return code_number(code, 16); });
    }
};

// scale * q + min, blocks of 24 bytes: scale, min, 4 bytes of fifth bits, codes
struct q5_1 : HalfBytes<24> {
    static constexpr int SCALES = 0;
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        const Byte* at = block(w, row, step, lane);
        const float scale = half_at(at), minimum = half_at(at + 2);
        each(word_at(at + 8 + 4 * (lane % 4)), word_at(at + 4), lane, values,
             [&](int code) { return scale * float(code) + minimum; });
    }
};

// scale * table[q], as planes: codes; scale
struct iq4_nl : HalfBytes<0> {
    static constexpr int SCALES = 1;
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        const Int block = number(w, row, step, lane);
        of = Scales(scale_of(w, block));
        each(codes_of(w, block, lane), 0, lane, values, [&](int code) { return w.table[code]; });
    }
};

// 2^(exponent - 128) * table[q], as planes: codes; exponent
struct mxfp4 : HalfBytes<0> {
    static constexpr int SCALES = 1;
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        const Int block = number(w, row, step, lane);
        // The two smallest exponents give a subnormal number.
        const int exponent = static_cast<const Byte*>(w.scales)[block];
        of = Scales(__int_as_float(exponent < 2 ? (exponent + 1) << 21 : (exponent - 1) << 23));
        each(codes_of(w, block, lane), 0, lane, values, [&](int code) { return w.table[code]; });
    }
};

// (d (multiple - 32)) * table[q], blocks of 136 bytes for 256 weights: d, 2 bytes with the two high
// bits and 4 with the four low bits of the multiples of eight parts, codes; 16 bytes of codes per
// part, as above
struct iq4_xs : HalfBytes<0> {
    static constexpr int SCALES = 1;
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        const Byte* at = w.codes + (row * (w.columns / 256) + step) * 136;
        const int part = lane / 4;
        const unsigned head = word_at(at), low = word_at(at + 4);
        const int multiple = (low >> 4 * part & 15) | (head >> (16 + 2 * part) & 3) << 4;
        of = Scales(half_at(at) * float(multiple - 32));
        each(word_at(at + 8 + 4 * lane), 0, lane, values, [&](int code) { return w.table[code]; });
    }
};

// 256 weights, 64 per eight lanes: a lane has four of the first 32, and those 32 later.
struct Of256 {
    static __device__ int first(int lane) { return 64 * (lane / 8) + 4 * (lane % 8); }
    static __device__ int second(int lane) { return first(lane) + 32; }
};

// The scale and the minimum, 6 bits each, of sub-block j of Q4_K and Q5_K: 12 bytes in three words.
// Those of the first four sub-blocks are in the low bits of bytes 0-3 and 4-7.
__device__ inline void scale_and_minimum(const uint4& head, int j, float& scale, float& minimum) {
    const int i = j % 4;
    const unsigned first = byte_of(head.y, i), second = byte_of(head.z, i), third = byte_of(head.w, i);
    const unsigned s = j < 4 ? first & 63 : (third & 15) | (first >> 2 & 48);
    const unsigned m = j < 4 ? second & 63 : third >> 4 | (second >> 2 & 48);
    scale *= float(s), minimum *= float(m);
}

// (d scale) q - (dmin minimum), blocks of BYTES: d, dmin, 12 bytes of scales and minimums, for Q5_K
// 32 bytes of fifth bits, and 128 bytes of codes; each 32 of these hold two sub-blocks of 32
// weights. The first 16 bytes are read by one load, the same for all lanes.
template <int BYTES> struct AffineBlocks : Of256 {
    static constexpr int SCALES = 0;
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        const Byte* block = w.codes + (row * (w.columns / 256) + step) * BYTES;
        const uint4 head = *reinterpret_cast<const uint4*>(block);
        const unsigned codes = word_at(block + BYTES - 128 + 4 * lane);
        const unsigned fifth = BYTES == 176 ? word_at(block + 16 + 4 * (lane % 8)) : 0;
        const __half* scales = reinterpret_cast<const __half*>(&head.x);
#pragma unroll
        for (int part = 0; part < 2; part++) {
            const int j = 2 * (lane / 8) + part;
            float scale = float(scales[0]), minimum = float(scales[1]);
            scale_and_minimum(head, j, scale, minimum);
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

// The offset of the two-bit codes of a lane's weights in Q2_K and Q3_K: 4 bytes. A byte holds the
// weights 0, 32, 64 and 96 positions from its own; the lane has two of these.
__device__ inline int two_bits_at(int lane) { return 32 * (lane / 16) + 4 * (lane % 8); }
__device__ inline int two_bits_of(unsigned codes, int lane, int part, int i) {
    return byte_of(codes, i) >> (lane % 16 / 8 * 4 + 2 * part) & 3;
}

// (d scale) q - (dmin minimum), blocks of 84 bytes: 16 bytes, each with the scale and the minimum
// of 16 weights in its halves, 64 bytes of codes, d, dmin
struct q2_k : Of256 {
    static constexpr int SCALES = 0;
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        const Byte* block = w.codes + (row * (w.columns / 256) + step) * 84;
        const unsigned codes = word_at(block + 16 + two_bits_at(lane));
        const float d = half_at(block + 80), dmin = half_at(block + 82);
#pragma unroll
        for (int part = 0; part < 2; part++) {
            const int both = block[4 * (lane / 8) + 2 * part + lane % 8 / 4];
            const float scale = d * float(both & 15), minimum = dmin * float(both >> 4);
#pragma unroll
            for (int i = 0; i < 4; i++)
                values[4 * part + i] = scale * float(two_bits_of(codes, lane, part, i)) - minimum;
        }
    }
};

// (d (scale - 32)) (q - 4), blocks of 110 bytes: 32 bytes of third bits (bit j of byte i belongs to
// weight i + 32 j), 64 bytes of the other two bits, 12 with the scales of 16 weights each, d
struct q3_k : Of256 {
    static constexpr int SCALES = 2;
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        const Byte* block = w.codes + (row * (w.columns / 256) + step) * 110;
        const unsigned third = four_bytes(block + 4 * (lane % 8));
        const unsigned codes = four_bytes(block + 32 + two_bits_at(lane));
        const float d = half_at(block + 108);
#pragma unroll
        for (int part = 0; part < 2; part++) {
            const int j = 2 * (lane / 8) + part, s = 2 * j + lane % 8 / 4;
            const int low = block[96 + s % 8] >> (s / 8 * 4) & 15;
            const int high = block[104 + s % 4] >> (s / 4 * 2) & 3;
            of.four[part] = d * float((low | high << 4) - 32);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int code = two_bits_of(codes, lane, part, i) | (byte_of(third, i) >> j & 1) << 2;
                values[4 * part + i] = code_number(code, 4);
            }
        }
    }
};

// (d scale) (q - 32), as planes: 128 bytes of low halves; 16 scales of signed bytes, d; 64 bytes of
// pairs of high bits
struct q6_k {
    static constexpr int SCALES = 2;
    static __device__ int first(int lane) { return 128 * (lane / 16) + 4 * (lane % 16); }
    static __device__ int second(int lane) { return first(lane) + 64; }
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        const Int block = row * (w.columns / 256) + step;
        const unsigned low = word_at(w.codes + block * 128 + 4 * lane);
        const unsigned high = word_at(w.zeros + block * 64 + 32 * (lane / 16) + 4 * (lane % 8));
        const Byte* scales = static_cast<const Byte*>(w.scales) + block * 18;
        const float d = half_at(scales + 16);
#pragma unroll
        for (int part = 0; part < 2; part++) {
            const int at = part ? second(lane) : first(lane);
            of.four[part] = d * float(static_cast<signed char>(scales[at / 16]));
            const int field = 4 * part + 2 * (lane % 16 / 8);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int code = (byte_of(low, i) >> 4 * part & 15) | (byte_of(high, i) >> field & 3) << 4;
                values[4 * part + i] = code_number(code, 32);
            }
        }
    }
};

// scale * q, one scale per row; rows of any length
struct int8_channel {
    static constexpr int SCALES = 1;
    static __device__ int first(int lane) { return 8 * lane; }
    static __device__ int second(int lane) { return 8 * lane + 4; }
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        of = Scales(static_cast<const float*>(w.scales)[row]);
        const Int at = step * 256 + 8 * lane;
        const Byte* codes = w.codes + row * w.columns + at;
        unsigned long long eight = 0;
        if (w.columns % 8 == 0) {  // rows are aligned to 8 bytes
            eight = *reinterpret_cast<const unsigned long long*>(codes);
        } else {
#pragma unroll 1
            for (int i = 0; i < 8 && at + i < w.columns; i++)
                eight |= static_cast<unsigned long long>(codes[i]) << 8 * i;
        }
        const unsigned words[2] = {unsigned(eight), unsigned(eight >> 32)};
#pragma unroll
        for (int i = 0; i < 8; i++)
            values[i] = float(static_cast<signed char>(byte_of(words[i / 4], i % 4)));
    }
};

// scale * (q - zero) for each `group` of consecutive weights; weight 2 i is in the low half of byte
// i
struct int4_group {
    static constexpr int SCALES = 1;
    static __device__ int first(int lane) { return 8 * lane; }
    static __device__ int second(int lane) { return 8 * lane + 4; }
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        // Rows are whole groups. One 32-bit division serves all rows of a step; a 64-bit division
        // for each of them would take longer than all the rest.
        const int at = int(step) * 256 + 8 * lane, size = int(w.group);
        const Int group = row * (int(w.columns) / size) + at / size;
        const unsigned codes = word_at(w.codes + (row * w.columns + at) / 2);
        of = Scales(half_at(static_cast<const __half*>(w.scales) + group));
        const int zero = w.zeros[group];
#pragma unroll
        for (int i = 0; i < 8; i++) values[i] = code_number(codes >> 4 * i & 15, zero);
    }
};

// absmax * table[q], an absmax per 64 weights; codes as in int4_group
struct nf4 {
    static constexpr int SCALES = 1;
    static __device__ int first(int lane) { return 8 * lane; }
    static __device__ int second(int lane) { return 8 * lane + 4; }
    static __device__ void load(const Packed& w, Int row, Int step, int lane, float (&values)[8], Scales& of) {
        const Int at = row * w.columns + step * 256 + 8 * lane;
        const unsigned codes = word_at(w.codes + at / 2);
        of = Scales(half_at(static_cast<const __half*>(w.scales) + at / 64));
#pragma unroll
        for (int i = 0; i < 8; i++) values[i] = w.table[codes >> 4 * i & 15];
    }
};

// Four numbers of a row from `at` on, zeros past its end; by one load if they are aligned.
template <class T>
__device__ inline void load_four(const T* row, Int at, Int columns, computed<T>* values) {
    if (at + 4 <= columns && is_aligned<4>(row + at)) {
        const auto four = load_pack<4>(row + at);
#pragma unroll
        for (int i = 0; i < 4; i++) values[i] = computed<T>(four.values[i]);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            values[i] = at + i < columns ? computed<T>(row[at + i]) : computed<T>(0);
    }
}

// The same for eight numbers; 16-bit numbers by one load.
template <class T>
__device__ inline void load_eight(const T* row, Int at, Int columns, computed<T>* values) {
    if constexpr (sizeof(T) == 2) {
        if (at + 8 <= columns && is_aligned<8>(row + at)) {
            const auto eight = load_pack<8>(row + at);
#pragma unroll
            for (int i = 0; i < 8; i++) values[i] = computed<T>(eight.values[i]);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++)
                values[i] = at + i < columns ? computed<T>(row[at + i]) : computed<T>(0);
        }
    } else {
#pragma unroll
        for (int part = 0; part < 8; part += 4) load_four(row, at + part, columns, values + part);
    }
}

// A matrix that is not packed: `codes` points to numbers T.
template <class T> struct dense {
    static constexpr int SCALES = 0;
    static __device__ int first(int lane) { return 8 * lane; }
    static __device__ int second(int lane) { return 8 * lane + 4; }
    static __device__ void load(const Packed& w, Int row, Int step, int lane, computed<T> (&values)[8], Scales&) {
        const T* numbers = reinterpret_cast<const T*>(w.codes) + row * w.columns;
        load_eight(numbers, step * 256 + 8 * lane, w.columns, values);
    }
};

// The scaled weights.
template <class FORMAT>
__device__ void load_weights(const Packed& w, Int row, Int step, int lane, float (&values)[8]) {
    Scales of;
    FORMAT::load(w, row, step, lane, values, of);
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (FORMAT::SCALES) values[i] *= of.four[i / 4];
}

// The number type that a format's `load` gives.
template <class FORMAT> struct ValueOf { typedef float type; };
template <class T> struct ValueOf<dense<T>> { typedef computed<T> type; };

// Calls F(NAME of a format, ...) for each format.
#define FOR_EACH_FORMAT(F, ...)                                                                    \
    F(q8_0, __VA_ARGS__) F(q4_0, __VA_ARGS__) F(q4_1, __VA_ARGS__) F(q5_0, __VA_ARGS__)            \
    F(q5_1, __VA_ARGS__) F(q2_k, __VA_ARGS__) F(q3_k, __VA_ARGS__) F(q4_k, __VA_ARGS__)            \
    F(q5_k, __VA_ARGS__) F(q6_k, __VA_ARGS__) F(iq4_nl, __VA_ARGS__) F(iq4_xs, __VA_ARGS__)        \
    F(mxfp4, __VA_ARGS__) F(int8_channel, __VA_ARGS__) F(int4_group, __VA_ARGS__)                  \
    F(nf4, __VA_ARGS__)
