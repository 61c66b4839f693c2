// Tiles of 16 rows by 256 packed weights as operands of tensor cores (packed_row_products.cu).
//
// With g = lane / 4 and t = lane % 4, a lane copies parts of rows g and g + 8 of a tile to shared
// memory, 16 bytes at a time (`copy`). `add` makes four codes of a word at a time signed bytes,
// multiplies them and adds to the two rows' totals. In an mma (tensor_cores.cuh), the four lanes t
// of a row of A have 8 codes each, of up to four blocks, which the columns of B separate: column 2 n
// has the high digits of x for the codes of the n-th block and zeros for the others, column 2 n + 1
// the low ones. So D[row, 2 n] and D[row, 2 n + 1], the sums of that block, are in lane t = n.
//
// A format has BYTES of shared memory per tile, DEPTH tiles at a time; what is not aligned to 4 bytes
// is loaded to registers (`Held`, if it HOLDS something: then DEPTH is 1). A multiprocessor has
// registers for two blocks of WARPS warps. Blocks have 16 at most; those of a LLaMA's layers have 8
// or 11, so that with 18 three blocks of a product leave room for one of the next. `column(i)` is
// where a lane's column of B begins in a step (`Digits`), or negative for zeros.
//
// Loops are not unrolled beyond an mma's needs: in a decoding step a kernel executes most of its
// instructions once, so fetching them takes a good part of its time.
//
// Blocks are counted by 32 bits, so that the address of a copy is two instructions.
//
// Instructions of a warp per tile, as compiled for sm_90a for bfloat16, with copies and sums; and
// their time at one per cycle and scheduler, relative to the time in which an H100's memory delivers
// the tile:
//
//     Q4_0   260, 0.41     Q5_K  425, 0.55     int8_channel  264, 0.23
//     Q8_0   278, 0.23     Q6_K  531, 0.58     int4_group    343, 0.51
//     Q4_K   328, 0.52
//
// (few_rows.cuh takes 2,280 for as many weights of Q6_K.) So memory is the bound for all formats.
#pragma once
#include <following.cuh>

#include "decoding.cuh"
#include "digits.cuh"
#include "packed.cuh"

// What a lane copies of a tile: the parts of its rows, as in `Packed`.
struct Rows {
    const void *codes[2], *scales[2], *zeros[2];
    int row[2];
    int group;  // log2 of the blocks of 32 per scale, if the format does not fix it
};

__device__ inline unsigned word_of(const uint4& of, int i) {
    return i == 0 ? of.x : i == 1 ? of.y : i == 2 ? of.z : of.w;
}

// The low or high halves of the bytes of a word.
__device__ inline unsigned halves(unsigned word, int high) { return word >> 4 * high & 0x0f0f0f0fu; }

// D += A B for two words of codes of rows g and g + 8; `bytes(half, word)` makes them signed bytes.
template <class F> __device__ void multiply(int (&d)[4], const uint4& numbers, int word, F bytes) {
    mma_m16n8k32(d, {bytes(0, word), bytes(1, word), bytes(0, word + 1), bytes(1, word + 1)},
                 {word_of(numbers, word), word_of(numbers, word + 1)});
}

// The sum that a lane has of a block in D, for row g or g + 8.
__device__ inline float whole(const int (&d)[4], int half) { return float(128 * d[2 * half] + d[2 * half + 1]); }

__device__ inline float half_of(unsigned short bits) { return number_of<__half>(bits); }

// Where a lane has its own 16 bytes of a tile; `i` counts those.
__device__ inline uint4* own(char* tile, int i) { return reinterpret_cast<uint4*>(tile) + 32 * i + threadIdx.x % 32; }
__device__ inline const uint4& own(const char* tile, int i) { return *own(const_cast<char*>(tile), i); }

// Pauses between a lane's copies of its first tiles: of codes never more than `loads` of 16 bytes are
// under way (0: no pauses), beside them their scales. Otherwise the weights of a whole matrix are asked
// for at once, and what earlier kernels load meanwhile waits behind them, for 4 us on an H100 with 13 MB.
struct Pauses {
    int loads;
    // Before a lane's load `i` of a tile.
    __device__ void before(int i) const {
        if (loads && i % loads == 0) cp_async_commit(), cp_async_wait<0>();
    }
};

// Blocks of 32 codes, of PIECES times 16 bytes: lane t has blocks t and t + 4. Past the end of a row,
// the last block is read, and multiplied by zeros.
template <int PIECES> struct Blocks {
    static constexpr int BYTES = 4 * PIECES * 32 * 16;
    static __device__ int of_step(int step, int i, int blocks) {
        return min(int(step * 8 + threadIdx.x % 4 + 4 * i), blocks - 1);
    }
    static __device__ void copy(char* to, const Rows& rows, int step, int blocks, Pauses pauses) {
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int i = 0; i < 2 * PIECES; i++) {
                if (half || i) pauses.before(2 * PIECES * half + i);
                const int block = rows.row[half] * blocks + of_step(step, i / PIECES, blocks);
                cp_async(own(to, 2 * PIECES * half + i),
                         static_cast<const uint4*>(rows.codes[half]) + block * PIECES + i % PIECES);
            }
    }
    static __device__ int column(int) {
        const int n = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        return n / 2 == t ? Digits::OF_BLOCK * t + Digits::LOW * (n % 2) : -1;
    }
    // `bytes(word, second)`: four codes of the first or the second 16 numbers of a block; `scaled(i, d)`
    // is given the sums of blocks 4 i on.
    template <class F, class G> static __device__ void add(const char* tile, const Digits& x, F bytes, G scaled) {
        const uint4* codes_of = &own(tile, 0);
        const unsigned* numbers_of = x.column[0];
#pragma unroll 1
        for (int i = 0; i < 2; i++, codes_of += 32 * PIECES, numbers_of += 4 * Digits::OF_BLOCK) {
            // In two sums, as each product of tensor cores waits for the sum that it adds to; bytes take
            // too many registers for that.
            constexpr int AT_ONCE = PIECES == 1 ? 2 : 1;
            int d[AT_ONCE][4] = {};
#pragma unroll AT_ONCE
            for (int second = 0; second < 2; second++) {
                const uint4* const piece = codes_of + 32 * (second % PIECES);
                const uint4 codes[2] = {piece[0], piece[32 * 2 * PIECES]};
                const uint4 numbers = digits_at(numbers_of + Digits::HALF * second);
#pragma unroll
                for (int word = 0; word < 4; word += 2)
                    multiply(d[second % AT_ONCE], numbers, word,
                             [&](int half, int w) { return bytes(word_of(codes[half], w), second); });
            }
#pragma unroll
            for (int k = 0; k < 4 * (AT_ONCE - 1); k++) d[0][k] += d[AT_ONCE - 1][k];
            scaled(i, d[0]);
        }
    }
};

// A scale per block, eight for a row of a tile. Lane t copies those of blocks 2 t and 2 t + 1; rows
// have an even number of blocks. Past the end, the last two are read, and multiplied by zeros.
struct BlockScales {
    static constexpr int BYTES = 16 * 8 * sizeof(__half);
    static __device__ void copy(char* to, const Rows& rows, int step, int blocks) {
        const int lane = threadIdx.x % 32, at = min(step * 8 + 2 * int(threadIdx.x % 4), blocks - 2);
#pragma unroll
        for (int half = 0; half < 2; half++)  // 16 bytes of row g + 8 half: those from 4 t on
            cp_async_word(to + 4 * lane + 128 * half,
                          static_cast<const __half*>(rows.scales[half]) + (rows.row[half] * blocks + at));
    }
    // A lane's scales of rows g and g + 8, of x, and what their products with sums add up to.
    const __half* of_rows;
    const float* of_x;
    float (&totals)[2];
    __device__ BlockScales(const char* scales, const Digits& x, float (&totals)[2])
        : of_rows(reinterpret_cast<const __half*>(scales) + 8 * (threadIdx.x % 32 / 4) + threadIdx.x % 4),
          of_x(x.scales() + threadIdx.x % 4), totals(totals) {}
    // totals += scale of the weights * scale of x * sum, of blocks 4 i on
    __device__ void operator()(int i, const int (&d)[4]) const {
#pragma unroll
        for (int half = 0; half < 2; half++)
            totals[half] += float(of_rows[4 * i + 64 * half]) * of_x[4 * i] * whole(d, half);
    }
};

struct Nothing {};

// Only an H100 has shared memory for so many blocks. Elsewhere these formats would spill with so few registers.
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ < 900 || __CUDA_ARCH__ >= 1000)
constexpr int MORE_WARPS = 16;
#else
constexpr int MORE_WARPS = 18;
#endif

// scale * (q - 8), as planes: codes; scale.
struct q4_0_tile : Blocks<1> {
    static constexpr bool BY_PAIRS = false, WITH_SUMS = false, HOLDS = false;
    static constexpr int SHIFT = 4;  // codes are used times 2^SHIFT
    static constexpr int CODES = Blocks<1>::BYTES, BYTES = CODES + BlockScales::BYTES, DEPTH = 2, WARPS = MORE_WARPS;
    // In a register, as an instruction takes one constant. The assembler does not know that the grid is flat.
    struct Held {
        unsigned high_halves = 0xf0f0f0f0u + blockIdx.z;
        __device__ Held() { compute_now(high_halves); }
    };
    static __device__ void copy(char* to, Held&, const Rows& rows, int step, int blocks, Pauses pauses) {
        Blocks<1>::copy(to, rows, step, blocks, pauses);
        BlockScales::copy(to + CODES, rows, step, blocks);
    }
    static __device__ void add(const char* tile, const Held& held, const Digits& x, float (&totals)[2]) {
        Blocks<1>::add(tile, x,
            // 16 (code - 8)
            [&](unsigned word, int second) { return ((second ? word : word << 4) & held.high_halves) ^ 0x80808080u; },
            BlockScales(tile + CODES, x, totals));
    }
};

// scale * (q - zero), a scale and a zero per 2^group blocks; weights 2 i and 2 i + 1 in byte i.
struct int4_group_tile : Blocks<1> {
    static constexpr bool BY_PAIRS = true, WITH_SUMS = true, HOLDS = true;
    static constexpr int SHIFT = 0, DEPTH = 1, WARPS = 14;
    struct Held {
        unsigned short scales[2][2];
        Byte zeros[2][2];
    };
    static __device__ void copy(char* to, Held& held, const Rows& rows, int step, int blocks, Pauses pauses) {
        Blocks<1>::copy(to, rows, step, blocks, pauses);
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const int block = of_step(step, i, blocks);
                const int at = rows.row[half] * (blocks >> rows.group) + (block >> rows.group);
                held.scales[half][i] = static_cast<const unsigned short*>(rows.scales[half])[at];
                held.zeros[half][i] = static_cast<const Byte*>(rows.zeros[half])[at];
            }
    }
    static __device__ void add(const char* tile, const Held& held, const Digits& x, float (&totals)[2]) {
        Blocks<1>::add(tile, x, halves, [&](int i, const int (&d)[4]) {
            const int block = threadIdx.x % 4 + 4 * i;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const auto scale = i ? held.scales[half][1] : held.scales[half][0];
                const auto zero = i ? held.zeros[half][1] : held.zeros[half][0];
                totals[half] += half_of(scale) * (x.scale(block) * whole(d, half) - float(zero) * x.sum(block));
            }
        });
    }
};

// scale * q, as planes: 32 signed bytes; a scale per block or, OF_ROW, per row.
template <bool OF_ROW> struct int8_tile : Blocks<2> {
    static constexpr bool BY_PAIRS = false, WITH_SUMS = false, HOLDS = false;
    static constexpr int CODES = Blocks<2>::BYTES, BYTES = CODES + BlockScales::BYTES, SHIFT = 0, DEPTH = 1, WARPS = 16;
    typedef Nothing Held;
    static __device__ void copy(char* to, Held&, const Rows& rows, int step, int blocks, Pauses pauses) {
        Blocks<2>::copy(to, rows, step, blocks, pauses);
        if (!OF_ROW) return BlockScales::copy(to + CODES, rows, step, blocks);
#pragma unroll
        for (int half = 0; half < 2; half++)
            cp_async_word(own_scale(to, half), static_cast<const float*>(rows.scales[half]) + rows.row[half]);
    }
    static __device__ float* own_scale(char* tile, int half) {
        return reinterpret_cast<float*>(tile + CODES) + 32 * half + threadIdx.x % 32;
    }
    static __device__ void add(const char* tile, const Held&, const Digits& x, float (&totals)[2]) {
        const auto bytes = [](unsigned word, int) { return word; };
        if (!OF_ROW) return Blocks<2>::add(tile, x, bytes, BlockScales(tile + CODES, x, totals));
        float sums[2] = {};
        Blocks<2>::add(tile, x, bytes, [&](int i, const int (&d)[4]) {
            const float of_x = x.scale(threadIdx.x % 4 + 4 * i);
#pragma unroll
            for (int half = 0; half < 2; half++) sums[half] += of_x * whole(d, half);
        });
#pragma unroll
        for (int half = 0; half < 2; half++) totals[half] += *own_scale(const_cast<char*>(tile), half) * sums[half];
    }
};
typedef int8_tile<false> q8_0_tile;
typedef int8_tile<true> int8_channel_tile;

// (d scale) q - (dmin minimum), blocks of SIZE bytes as in `AffineBlocks` of packed.cuh. In each 16
// bytes of codes, the low halves belong to one of eight parts of 32 weights, the high halves to the
// next. Lane t has the first (t even) or last 16 weights of parts 2 (t / 2) and the next, and of
// the parts four later.
template <int SIZE> struct affine_tile {
    static constexpr bool BY_PAIRS = false, WITH_SUMS = true, HOLDS = false, HAS_FIFTH = SIZE == 176;
    static constexpr int CODES = 4 * 32 * 16, OF_HEAD = HAS_FIFTH ? 48 : 16, BYTES = CODES + 16 * OF_HEAD;
    static constexpr int SHIFT = 0, DEPTH = HAS_FIFTH ? 1 : 2, WARPS = HAS_FIFTH ? 16 : MORE_WARPS;
    typedef Nothing Held;
    // The first bytes of the block of row g or g + 8: scales and minimums, fifth bits.
    static __device__ uint4* head(char* tile, int half) {
        return reinterpret_cast<uint4*>(tile + CODES + OF_HEAD * (threadIdx.x % 32 / 4 + 8 * half));
    }
    static __device__ void copy(char* to, Held&, const Rows& rows, int step, int blocks, Pauses pauses) {
        const int t = threadIdx.x % 4, steps = blocks / 8;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int number = rows.row[half] * steps + min(step, steps - 1);
            const Byte* const bytes = static_cast<const Byte*>(rows.codes[half]) + Int(number) * SIZE;
            const uint4* const block = reinterpret_cast<const uint4*>(bytes);
            if (t < OF_HEAD / 16) cp_async(head(to, half) + t, block + t);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (half || i) pauses.before(2 * half + i);
                cp_async(own(to, 2 * half + i), block + (SIZE / 16 - 8) + t + 4 * i);
            }
        }
    }
    // Two D, of the parts of low and of high halves: lane t has parts 2 t and 2 t + 1.
    static __device__ int column(int i) {
        const int n = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        const int at = n / 2 * 2 * Digits::OF_BLOCK + Digits::LOW * (n % 2) + Digits::HALF * (t % 2);
        return n / 2 == t / 2 + 2 * i ? at : -1;
    }
    static __device__ void add(const char* tile, const Held&, const Digits& x, float (&totals)[2]) {
        const int t = threadIdx.x % 4;
        const uint4* const heads[2] = {head(const_cast<char*>(tile), 0), head(const_cast<char*>(tile), 1)};
        int sums[2][4] = {};
        const unsigned* numbers_of = x.column[0];
#pragma unroll 1
        for (int i = 0; i < 2; i++, numbers_of = x.column[1]) {
            const uint4 codes[2] = {own(tile, i), own(tile, 2 + i)};
            uint4 fifth[2] = {};
            if (HAS_FIFTH) fifth[0] = heads[0][1 + t % 2], fifth[1] = heads[1][1 + t % 2];
#pragma unroll
            for (int high = 0; high < 2; high++) {
                const int part = t / 2 * 2 + 4 * i + high;
                const auto bytes = [&](int half, int word) {
                    const unsigned more = word_of(fifth[half], word) >> part & 0x01010101u;
                    return halves(word_of(codes[half], word), high) | more << 4;
                };
                const uint4 numbers = digits_at(numbers_of + Digits::OF_BLOCK * high);
#pragma unroll
                for (int word = 0; word < 4; word += 2) multiply(sums[high], numbers, word, bytes);
            }
        }
#pragma unroll
        for (int high = 0; high < 2; high++) {
            const int part = 2 * t + high;
            const float scale_of_x = x.scale(part), sum = x.sum(part);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float scale = half_of(heads[half]->x), minimum = half_of(heads[half]->x >> 16);
                scale_and_minimum(*heads[half], part, scale, minimum);
                totals[half] += scale * (scale_of_x * whole(sums[high], half)) - minimum * sum;
            }
        }
    }
};
typedef affine_tile<144> q4_k_tile;
typedef affine_tile<176> q5_k_tile;

// (d scale) (q - 32), as planes: 128 bytes of low halves; 16 scales of signed bytes, d; 64 bytes of
// pairs of high bits. In each 16 bytes of codes, the low halves are 16 weights with a scale, the
// high halves those 64 positions later: two D, of four such parts each. Lane t has the 16 bytes t
// and t + 4.
struct q6_k_tile {
    static constexpr bool BY_PAIRS = false, WITH_SUMS = false, HOLDS = true;
    static constexpr int CODES = 4 * 32 * 16, BYTES = CODES + 16 * 64, SHIFT = 2, DEPTH = 1, WARPS = 14;
    struct Held {
        signed char scales[2][4];
        unsigned short d[2];
        unsigned signs = 0x80808080u + blockIdx.z;  // in a register, as in `q4_0_tile`
        __device__ Held() { compute_now(signs); }
    };
    static __device__ uint4* high_bits(char* tile, int half) {
        return reinterpret_cast<uint4*>(tile + CODES + 64 * (threadIdx.x % 32 / 4 + 8 * half));
    }
    static __device__ void copy(char* to, Held& held, const Rows& rows, int step, int blocks, Pauses pauses) {
        const int t = threadIdx.x % 4, steps = blocks / 8;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int block = rows.row[half] * steps + min(step, steps - 1);
            cp_async(high_bits(to, half) + t, static_cast<const uint4*>(rows.zeros[half]) + (block * 4 + t));
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (half || i) pauses.before(2 * half + i);
                cp_async(own(to, 2 * half + i), static_cast<const uint4*>(rows.codes[half]) + (block * 8 + t) + 4 * i);
            }
            const Byte* const scales = static_cast<const Byte*>(rows.scales[half]) + block * 18;
            held.d[half] = *reinterpret_cast<const unsigned short*>(scales + 16);
#pragma unroll
            for (int i = 0; i < 4; i++) held.scales[half][i] = (scales + t)[4 * i];
        }
    }
    static __device__ int column(int) {
        const int n = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        return n / 2 == t ? Digits::OF_BLOCK * (t / 2) + Digits::LOW * (n % 2) + Digits::HALF * (t % 2) : -1;
    }
    static __device__ void add(const char* tile, const Held& held, const Digits& x, float (&totals)[2]) {
        const int t = threadIdx.x % 4;
        float sums[2] = {};
#pragma unroll 1
        for (int i = 0; i < 2; i++) {
            uint4 codes[2], bits[2];
#pragma unroll
            for (int half = 0; half < 2; half++)
                codes[half] = own(tile, 2 * half + i),
                bits[half] = high_bits(const_cast<char*>(tile), half)[t % 2 + 2 * i];
#pragma unroll
            for (int high = 0; high < 2; high++) {
                // 4 (code - 32)
                const auto bytes = [&](int half, int word) {
                    const unsigned of = word_of(codes[half], word), low = (high ? of >> 2 : of << 2) & 0x3c3c3c3cu;
                    const unsigned more = word_of(bits[half], word) << (6 - 4 * high - t / 2 * 2) & 0xc0c0c0c0u;
                    return more ^ (low | held.signs);
                };
                const int block = 4 * i + 2 * high;
                const uint4 numbers = digits_at(x.column[0] + Digits::OF_BLOCK * block);
                int d[4] = {};
#pragma unroll
                for (int word = 0; word < 4; word += 2) multiply(d, numbers, word, bytes);
                const float of_x = x.scale(block + t / 2);
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const auto scale = i ? held.scales[half][2 + high] : held.scales[half][high];
                    sums[half] += float(scale) * of_x * whole(d, half);
                }
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) totals[half] += half_of(held.d[half]) * sums[half];
    }
};
