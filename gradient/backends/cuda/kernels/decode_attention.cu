// Attention of few queries, as in decoding, in 16-bit floats by tensor cores; to arrays, or to a
// key-value cache that is read where it lies, in rows of slots or in pages, in floats or in int8 and
// int4 codes.
//
//     out[b, h, t] = softmax_s(scale q[b, h, t] . k[b, g, s]) v[b, g, s],  g = h / (H / Hk)
//
// A block has 16 rows of a group of heads that share their keys, which all its warps work on: an mma
// has room for 16, so that one query of 4 or 8 heads costs what one head would, and a vector is read
// once for all of them. Each warp takes every fourth tile of 16 keys, in shared memory of its own: it
// waits for its own copies and for no other warp, until the four join what they found. Grid: (row
// tiles, B * Hk, parts of the keys); `join_parts` (attention.cu) joins the parts (Dao et al. 2023,
// "Flash-Decoding").
//
// Memory is the bound: (D + E) bytes times 2, 1 or 1/2 for a key, read by 16 (codes: 8) bytes a lane,
// neighbours by neighbours; of each part E + 2 floats a row are written and read. Per 16 keys of 128
// columns, 8 KiB, a warp does 32 mma, 16 ldmatrix and 8 exponentials a lane: some 700 cycles, of which
// 12 to 16 warps of a multiprocessor make 8 times what an H100's memory brings (15 bytes a cycle).
// While one waits the others keep some 60 KiB on their way, of 18 that its latency needs; so 80 % of
// bandwidth and more are to be expected of long contexts, less where blocks are few or contexts short.
#include "attention_tiles.cuh"
#include "cache_slots.cuh"

constexpr int KEYS_OF_WARP = 16, KEYS_OF_BLOCK = WARPS * KEYS_OF_WARP;
constexpr unsigned ALL_LANES = 0xffffffffu;

// A tile that one warp fills with 16 vectors, as load_tile does.
template <int HEAD, class T, class F>
__device__ void load_vectors(T* tile, int count, int width, F vector_at) {
    load_tile<HEAD, KEYS_OF_WARP, 32>(tile, count, width, vector_at);
}

// Keys and values in arrays, and a mask.
template <class T> struct Arrays {
    const Group& group;
    const T *keys, *values;
    const void* mask;

    __device__ void narrow(Int first_row, Int last_row, Int& begin, Int& end) const {
        key_range(group.problem, first_row, last_row, begin, end);
    }
    __device__ void find(int, int) {}
    template <int HEAD> __device__ void load_keys(T* tile, int key, int here) const {
        const Problem& p = group.problem;
        load_vectors<HEAD>(tile, here, int(p.width), [&](int i) { return keys + (key + i) * p.k_row; });
    }
    template <int HEAD> __device__ void load_values(T* tile, int key, int here) const {
        const Problem& p = group.problem;
        load_vectors<HEAD>(tile, here, int(p.value_width),
                           [&](int i) { return values + (key + i) * p.v_row; });
    }
    __device__ void mask_tile(float (&score)[1][2][4], int first_row, int key, int) const {
        if (!sees_all(group.problem, first_row, first_row + 15, key, key + KEYS_OF_WARP - 1))
            mask_scores<T>(score, group, mask, first_row, key);
    }
};

// Code `i` of four: 2^23 + code is a float whose last bits are the code's.
__device__ inline float code_at(unsigned word, int i) {
    return __uint_as_float(0x4b000000u | (word >> 8 * i & 255)) - 8388608.f;
}

// A tile of what is stored in codes: `at` is where the vector of key lane % 16 lies. Each lane makes
// 8 neighbouring numbers of 8 bytes, some pieces at a time, so that their loads are under way together.
template <int HEAD, class T>
__device__ void load_codes(T* tile, const Stored& from, int count, int width, Int at) {
    constexpr int PIECES = HEAD / 8, TOGETHER = HEAD % 64 ? 2 : 4;
    const bool halves = from.minimums != nullptr;  // of bytes
    const int bytes = halves ? width / 2 : width, size = width / int(from.groups);
#pragma unroll 1
    for (int first = threadIdx.x % 32; first < KEYS_OF_WARP * PIECES; first += 32 * TOGETHER) {
        uint2 codes[TOGETHER];
        float scale[TOGETHER], lowest[TOGETHER];
#pragma unroll
        for (int j = 0; j < TOGETHER; j++) {
            const int row = (first + 32 * j) / PIECES, column = (first + 32 * j) % PIECES * 8;
            const Int vector = __shfl_sync(ALL_LANES, at, row);
            codes[j] = {0, 0}, scale[j] = lowest[j] = 0;
            if (row >= count || column >= width) continue;
            const bool upper = column >= bytes;
            const Byte* piece = static_cast<const Byte*>(from.codes) + vector * bytes + column;
            codes[j] = *reinterpret_cast<const uint2*>(upper ? piece - bytes : piece);
            const Int group = vector * from.groups + column / size;
            scale[j] = float(from.scales[group]);
            if (halves) {
                lowest[j] = float(from.minimums[group]);
                codes[j].x = codes[j].x >> (upper ? 4 : 0) & 0x0f0f0f0f;
                codes[j].y = codes[j].y >> (upper ? 4 : 0) & 0x0f0f0f0f;
            } else {  // from -128..127 to 0..255
                lowest[j] = -128 * scale[j];
                codes[j].x ^= 0x80808080, codes[j].y ^= 0x80808080;
            }
        }
#pragma unroll
        for (int j = 0; j < TOGETHER; j++) {
            const int row = (first + 32 * j) / PIECES, column = (first + 32 * j) % PIECES * 8;
            auto pair = [&](unsigned word, int i) {
                return two<T>(code_at(word, i) * scale[j] + lowest[j],
                              code_at(word, i + 1) * scale[j] + lowest[j]);
            };
            *reinterpret_cast<uint4*>(tile + row * pitch<HEAD> + column) =
                uint4{pair(codes[j].x, 0), pair(codes[j].x, 2), pair(codes[j].y, 0), pair(codes[j].y, 2)};
        }
    }
}

// A cache. `at` is where the vector of key lane % 16 of the tile lies, `held` its position.
template <class T> struct Cache {
    const Group& group;
    const Stored &keys, &values;
    const Slots& slots;
    Int first, at, held;

    __device__ void narrow(Int, Int, Int& begin, Int& end) const {
        begin = first, end = group.problem.keys;
        slots.narrow(group.batch, group.problem.queries, begin, end);
    }
    __device__ const Int* positions() const {
        return slots.positions + group.batch * group.problem.queries;
    }
    __device__ void find(int key, int here) {
        const int slot = key + min(int(threadIdx.x % KEYS_OF_WARP), here - 1);
        at = slots.at(group.batch, group.key_head, slot);
        if (!slots.see_all)
            held = slots.held(group.batch, slot, positions()[group.problem.queries - 1]);
    }
    template <int HEAD>
    __device__ void load(T* tile, const Stored& from, int here, int width) const {
        if (from.scales) return load_codes<HEAD>(tile, from, here, width, at);
        load_vectors<HEAD>(tile, here, width, [&](int i) {
            return static_cast<const T*>(from.codes) + __shfl_sync(ALL_LANES, at, i) * width;
        });
    }
    template <int HEAD> __device__ void load_keys(T* tile, int, int here) const {
        load<HEAD>(tile, keys, here, int(group.problem.width));
    }
    template <int HEAD> __device__ void load_values(T* tile, int, int here) const {
        load<HEAD>(tile, values, here, int(group.problem.value_width));
    }
    __device__ void mask_tile(float (&score)[1][2][4], int first_row, int, int here) const {
        const int lane = threadIdx.x % 32, rows = int(group.problem.group_rows());
        const int queries = int(group.problem.queries);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = first_row + 8 * half + lane / 4;
            const Int position = slots.see_all ? 0 : positions()[row % queries];
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int key = 8 * n + lane % 4 * 2 + i;
                    const Int of_key = __shfl_sync(ALL_LANES, held, key);
                    if (row >= rows || key >= here || !(slots.see_all || slots.sees(position, of_key)))
                        score[0][n][2 * half + i] = -infinity<float>();
                }
        }
    }
};

// Joins what the warps found of the same 16 rows and writes it: `memory` has room for 16 rows of
// statistics and, behind the first 16 of HEAD + 8 numbers T, for the warps' sums.
template <class T, int HEAD>
__device__ void join_warps(Softmax<1, HEAD>& of, const Results<T>& results, const Problem& p, Int query,
                           int count, T* memory) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, width = int(p.value_width);
    float* highs = reinterpret_cast<float*>(memory);  // (4, 16)
    float* totals = highs + 16 * WARPS;               // (4, 16)
    float* sums = reinterpret_cast<float*>(memory + 16 * pitch<HEAD>);  // (4, 16, HEAD)
    of.add_up();
    __syncthreads();  // all tiles were read
    if (lane % 4 == 0)
        for (int half = 0; half < 2; half++) {
            const int at = 16 * warp + 8 * half + lane / 4;
            highs[at] = of.high[0][half], totals[at] = of.sum[0][half];
        }
    __syncthreads();  // all statistics are there
    auto high_of = [&](int row) {
        return fmaxf(fmaxf(highs[row], highs[16 + row]), fmaxf(highs[32 + row], highs[48 + row]));
    };
    auto shrink = [&](float high, float highest) {
        return power_of_two((high - (highest == -infinity<float>() ? 0.f : highest)) * LOG2_E);
    };
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = 8 * half + lane / 4;
        const float factor = shrink(of.high[0][half], high_of(row));
        float* to = sums + (16 * warp + row) * HEAD + lane % 4 * 2;
#pragma unroll
        for (int n = 0; n < HEAD / 8; n++)
            *reinterpret_cast<float2*>(to + 8 * n) =
                make_float2(of.out[0][n][2 * half] * factor, of.out[0][n][2 * half + 1] * factor);
    }
    __syncthreads();  // all sums are there
    for (int i = threadIdx.x; i < count * HEAD; i += THREADS) {
        const int row = i / HEAD, column = i % HEAD;
        const float high = high_of(row);
        float sum = 0, total = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            sum += sums[(16 * w + row) * HEAD + column];
            total += totals[16 * w + row] * shrink(highs[16 * w + row], high);
        }
        const Int of_row = query + row;
        if (results.parts > 1) {
            const Int all = p.heads * p.queries * (gridDim.y / p.key_heads);
            float* to = results.partial + (blockIdx.z * all + of_row) * (width + 2);
            if (column < width) to[column] = sum;
            if (column == 0) to[width] = high, to[width + 1] = total;
        } else {
            if (column < width) results.out[of_row * width + column] = T(total == 0 ? 0.f : sum / total);
            if (column == 0) results.set_statistics(of_row, high, total);
        }
    }
}

template <class T, int HEAD, class SOURCE>
__device__ void decode(const T* q, Int q_batch, Int q_head, Int q_row, SOURCE source,
                       const Group& group, const Results<T>& results) {
    const Problem& p = group.problem;
    extern __shared__ uint4 memory[];
    T* q_tile = reinterpret_cast<T*>(memory);
    T* k_tile = q_tile + (16 + 2 * KEYS_OF_WARP * (threadIdx.x / 32)) * pitch<HEAD>;
    T* v_tile = k_tile + KEYS_OF_WARP * pitch<HEAD>;
    const int first = int(blockIdx.x) * 16, count = min(16, int(p.group_rows()) - first);
    load_tile<HEAD, 16>(q_tile, count, int(p.width), GroupRows<T>(q, q_batch, q_head, q_row, group, first));
    cp_async_commit();

    Int begin, end;
    source.narrow(first, first + count - 1, begin, end);
    const Int tiles = (max(end - begin, Int(0)) + KEYS_OF_BLOCK - 1) / KEYS_OF_BLOCK;
    const Int of_part = (tiles + results.parts - 1) / results.parts * KEYS_OF_BLOCK;
    const int from = int(begin + blockIdx.z * of_part), until = int(min(end, from + of_part));
    cp_async_wait<0>();
    __syncthreads();  // the queries came

    Softmax<1, HEAD> softmax;
    for (int key = from + threadIdx.x / 32 * KEYS_OF_WARP; key < until; key += KEYS_OF_BLOCK) {
        const int here = min(KEYS_OF_WARP, until - key);
        float score[1][2][4];
        source.find(key, here);
        __syncwarp();  // the tile before was read
        source.template load_keys<HEAD>(k_tile, key, here);
        cp_async_commit();
        source.template load_values<HEAD>(v_tile, key, here);
        cp_async_commit();
        cp_async_wait<1>();
        __syncwarp();  // the keys came
        row_products<HEAD>(score, q_tile, k_tile);
        cap_scores(score, float(p.scale), float(p.softcap));
        source.mask_tile(score, first, key, here);
        softmax.take(score);
        cp_async_wait<0>();
        __syncwarp();  // the values came
        add_weighted<HEAD>(softmax.out, score, v_tile);
    }
    join_warps(softmax, results, p, group.query(first), count, q_tile);
}

#define DECODE(HEAD, BLOCKS, NAME, T)                                                              \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS) decode_attention_##HEAD##_##NAME(    \
        const T* q, Int q_batch, Int q_head, Int q_row, const T* k, const T* v, const void* mask,  \
        T* out, float* high, float* log_sum, float* partial, Int parts, PROBLEM_PARAMETERS) {      \
        const Problem p = PROBLEM;                                                                 \
        const Group group(p);                                                                      \
        decode<T, HEAD>(q, q_batch, q_head, q_row,                                                 \
                        Arrays<T>{group, k + group.k_offset(), v + group.v_offset(), mask}, group, \
                        Results<T>{out, high, log_sum, partial, parts});                           \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                      \
        decode_cached_attention_##HEAD##_##NAME(const T* q, Int q_batch, Int q_head, Int q_row,    \
                                                CACHE_PARAMETERS, T* out, float* partial,          \
                                                Int parts, SIZE_PARAMETERS) {                      \
        const Problem p =                                                                          \
            problem_of_cache(heads, key_heads, queries, extent, width, value_width, scale, softcap); \
        const Group group(p);                                                                      \
        const Stored of_keys = KEYS_OF_CACHE, of_values = VALUES_OF_CACHE;                         \
        const Slots slots = SLOTS;                                                                 \
        decode<T, HEAD>(q, q_batch, q_head, q_row,                                                 \
                        Cache<T>{group, of_keys, of_values, slots, first, 0, 0}, group,            \
                        Results<T>{out, nullptr, nullptr, partial, parts});                        \
    }
#define EXPORT(NAME, T)        \
    DECODE(32, 4, NAME, T)     \
    DECODE(64, 4, NAME, T)     \
    DECODE(96, 3, NAME, T)     \
    DECODE(128, 3, NAME, T)    \
    DECODE(192, 2, NAME, T)    \
    DECODE(256, 2, NAME, T)
FOR_EACH_HALF(EXPORT)
