// Attention of few queries, as in decoding, in float32. Keys and values are arrays or a key-value
// cache, read in place: rows of slots or pages, of floats or int8 and int4 codes.
//
//     out[b, h, t] = softmax_s(scale q[b, h, t] . k[b, g, s]) v[b, g, s],  g = h / (H / Hk)
//
// A block computes 4 or 8 rows of a group of heads that share their keys, so each vector is read
// once for all of them. Each warp takes every fourth step of 8 keys of 128 columns (16 of 64): a
// lane loads 4 columns of 8 keys and of 8 values, 8 KiB per warp, before it waits for any of them.
// For 8 keys and 4 rows, 31 shuffles sum the products and leave each lane with the score of one key
// and one row. At the end the warps' results are combined. Grid: (row tiles, B * Hk, parts of the
// keys); `join_parts` (attention.cu) combines the parts (Dao et al. 2023, "Flash-Decoding").
//
// Bytes: 4 (D + E) per key, and E + 2 floats per row of each part; memory is the bound. A step of 8
// KiB takes a warp about 450 instructions for 4 rows. The 12 warps of a multiprocessor have up to
// 96 KiB in flight; the memory latency of an H100 needs about 40.
#include "attention_sources.cuh"

constexpr int AT_A_TIME = 8;          // keys that a lane loads at once
constexpr unsigned ALL = 0xffffffffu;  // all lanes of a warp

struct FloatArrays {
    const Group& group;
    const float *keys, *values;
    const void* mask;

    // The keys that a row of the group sees; none if the row does not exist.
    struct Row {
        int begin, end;
        Int mask;
    };
    __device__ Row row(int row) const {
        const Problem& p = group.problem;
        if (row >= p.group_rows()) return {0, 0, 0};
        Int begin, end;
        key_range(p, row, row, begin, end);
        return {int(begin), int(end), mask_at(group, row, 0)};
    }
    __device__ float masked(const Row& row, int key, float score) const {
        if (key < row.begin || key >= row.end) return -infinity<float>();
        return ::masked<float>(group.problem, mask, row.mask, key, score);
    }
    __device__ void narrow(int first, int last, Int& begin, Int& end) const {
        key_range(group.problem, first, last, begin, end);
    }
    typedef int Place;
    __device__ Place at(int key) const { return key; }
    __device__ float4 key(Place at, int column) const {
        return *reinterpret_cast<const float4*>(keys + at * group.problem.k_row + column);
    }
    __device__ float4 value(Place at, int column) const {
        return *reinterpret_cast<const float4*>(values + at * group.problem.v_row + column);
    }
};

struct FloatCache {
    const Cache<float> cache;  // where the slots are, and which of them queries may see

    typedef Int Row;  // the position of its query
    __device__ Row row(int row) const {
        const Problem& p = cache.group.problem;
        return row < p.group_rows() ? cache.positions()[row % int(p.queries)] : -1;
    }
    __device__ float masked(Row position, int slot, float score) const {
        const Slots& slots = cache.slots;
        if (slots.see_all) return score;
        const Int newest = cache.positions()[cache.group.problem.queries - 1];
        return slots.sees(position, slots.held(cache.group.batch, slot, newest)) ? score
                                                                                 : -infinity<float>();
    }
    __device__ void narrow(int first, int last, Int& begin, Int& end) const {
        cache.narrow(first, last, begin, end);
    }
    typedef Int Place;
    __device__ Place at(int slot) const { return cache.at(slot); }
    // 4 consecutive elements of a vector; their codes share a scale.
    __device__ float4 numbers(const Stored& from, Int at, int column, int width) const {
        if (!from.scales)
            return *reinterpret_cast<const float4*>(static_cast<const float*>(from.codes) + at * width + column);
        const bool halves = from.minimums != nullptr, upper = halves && column >= width / 2;
        const Byte* piece = static_cast<const Byte*>(from.codes) + (halves ? at * (width / 2) : at * width);
        unsigned codes = *reinterpret_cast<const unsigned*>(piece + column - (upper ? width / 2 : 0));
        const Int of_scale = at * from.groups + column / (width / int(from.groups));
        const float scale = float(from.scales[of_scale]);
        // int8: maps -128..127 to 0..255
        const float lowest = halves ? float(from.minimums[of_scale]) : -128 * scale;
        codes = halves ? codes >> (upper ? 4 : 0) & 0x0f0f0f0f : codes ^ 0x80808080;
        return make_float4(code_at(codes, 0) * scale + lowest, code_at(codes, 1) * scale + lowest,
                           code_at(codes, 2) * scale + lowest, code_at(codes, 3) * scale + lowest);
    }
    __device__ float4 key(Place at, int column) const {
        return numbers(cache.keys, at, column, int(cache.group.problem.width));
    }
    __device__ float4 value(Place at, int column) const {
        return numbers(cache.values, at, column, int(cache.group.problem.value_width));
    }
};

// Transposing sum over 2 DISTANCE lanes, each with 2 HALF values: each lane gets the sums of an
// equal share of consecutive values, in value[0], value[1], ...
template <int DISTANCE, int HALF> __device__ void sum_transposed(float (&value)[32]) {
    const bool upper = threadIdx.x & DISTANCE;
#pragma unroll
    for (int i = 0; i < HALF; i++) {
        const float kept = upper ? value[i + HALF] : value[i];
        const float given = upper ? value[i] : value[i + HALF];
        value[i] = kept + __shfl_xor_sync(ALL, given, DISTANCE);
    }
    if constexpr (DISTANCE > 1) sum_transposed<DISTANCE / 2, HALF / 2>(value);
}

template <int HEAD, int R, class SOURCE>
__device__ void decode_floats(const float* q, Int q_batch, Int q_head, Int q_row, const SOURCE& source,
                              const Group& group, const Results<float>& results) {
    // Lanes per key, keys side by side, scores per lane for 4 rows, keys per step of a warp and of
    // a block.
    constexpr int LANES = HEAD / 4, BESIDE = 32 / LANES, SCORES = BESIDE, STEP = AT_A_TIME * BESIDE;
    constexpr int OF_BLOCK = WARPS * STEP;
    __shared__ float4 q_rows[R][LANES];
    __shared__ float highs[WARPS][R], totals[WARPS][R];
    __shared__ float4 sums[WARPS][R][LANES];
    const Problem& p = group.problem;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, of_key = lane % LANES;
    const int column = 4 * of_key, width = int(p.width), value_width = int(p.value_width);
    const int first = int(blockIdx.x) * R, count = min(R, int(p.group_rows()) - first);
    const GroupRows<const float> rows(q, q_batch, q_head, q_row, group, first);
    for (int i = threadIdx.x; i < R * LANES; i += THREADS) {
        const int r = i / LANES, c = i % LANES * 4;
        q_rows[r][c / 4] = r < count && c < width ? *reinterpret_cast<const float4*>(rows(r) + c)
                                                  : make_float4(0, 0, 0, 0);
    }
    Int begin, end;
    int from, until;
    source.narrow(first, first + count - 1, begin, end);
    part_of_keys<OF_BLOCK>(begin, end, results.parts, from, until);

    // The lane's scores of rows 4 chunk .. + 3 are those of value SCORES * of_key + i = 4 u + row.
    typename SOURCE::Row seen[R / 4][SCORES];
    float high[R / 4][SCORES], sum[R / 4][SCORES], out[R][4] = {};
#pragma unroll
    for (int chunk = 0; chunk < R / 4; chunk++)
#pragma unroll
        for (int i = 0; i < SCORES; i++) {
            seen[chunk][i] = source.row(first + 4 * chunk + (SCORES * of_key + i) % 4);
            high[chunk][i] = -infinity<float>(), sum[chunk][i] = 0;
        }
    __syncthreads();  // queries are loaded

    // Keys are loaded while the previous ones are processed, and values while scores are computed.
    float4 of_keys[AT_A_TIME], of_values[AT_A_TIME];
    typename SOURCE::Place of_lane = 0;
    auto load_keys = [&](int key) {
        if (key >= until) return;
        of_lane = source.at(min(key + lane % STEP, until - 1));
#pragma unroll
        for (int u = 0; u < AT_A_TIME; u++) {
            const int i = BESIDE * u + lane / LANES;
            const auto at = __shfl_sync(ALL, of_lane, i);
            of_keys[u] = key + i < until && column < width ? source.key(at, column) : make_float4(0, 0, 0, 0);
        }
    };
    int key = from + warp * STEP;
    load_keys(key);
    for (; key < until; key += OF_BLOCK) {
#pragma unroll
        for (int u = 0; u < AT_A_TIME; u++) {
            const int i = BESIDE * u + lane / LANES;
            const auto at = __shfl_sync(ALL, of_lane, i);
            of_values[u] = key + i < until && column < value_width ? source.value(at, column)
                                                                   : make_float4(0, 0, 0, 0);
        }
#pragma unroll
        for (int chunk = 0; chunk < R / 4; chunk++) {
            float product[32];
#pragma unroll
            for (int r = 0; r < 4; r++) {
                const float4 x = q_rows[4 * chunk + r][of_key];
#pragma unroll
                for (int u = 0; u < AT_A_TIME; u++) {
                    const float4& y = of_keys[u];
                    product[4 * u + r] = fmaf(x.x, y.x, fmaf(x.y, y.y, fmaf(x.z, y.z, x.w * y.w)));
                }
            }
            sum_transposed<LANES / 2, 16>(product);
            if (chunk == R / 4 - 1) load_keys(key + OF_BLOCK);
            float shrink[SCORES];
#pragma unroll
            for (int i = 0; i < SCORES; i++) {
                const int of_lane_key = key + (SCORES * of_key + i) / 4 * BESIDE + lane / LANES;
                float score = -infinity<float>();
                if (of_lane_key < until)
                    score = source.masked(seen[chunk][i], of_lane_key, capped(p, product[i]));
                float largest = fmaxf(high[chunk][i], score);
#pragma unroll
                for (int distance = 4 / SCORES; distance < 32; distance *= 2)
                    largest = fmaxf(largest, __shfl_xor_sync(ALL, largest, distance));
                const float most = largest == -infinity<float>() ? 0.f : largest;
                shrink[i] = power_of_two((high[chunk][i] - most) * LOG2_E);
                product[i] = power_of_two((score - most) * LOG2_E);
                high[chunk][i] = largest;
                sum[chunk][i] = sum[chunk][i] * shrink[i] + product[i];
            }
#pragma unroll
            for (int r = 0; r < 4; r++) {
                float(&of_row)[4] = out[4 * chunk + r];
                const float factor = __shfl_sync(ALL, shrink[r % SCORES], r / SCORES);
#pragma unroll
                for (int c = 0; c < 4; c++) of_row[c] *= factor;
#pragma unroll
                for (int u = 0; u < AT_A_TIME; u++) {
                    const float weight = __shfl_sync(ALL, product[r % SCORES], (4 * u + r) / SCORES, LANES);
                    of_row[0] = fmaf(weight, of_values[u].x, of_row[0]);
                    of_row[1] = fmaf(weight, of_values[u].y, of_row[1]);
                    of_row[2] = fmaf(weight, of_values[u].z, of_row[2]);
                    of_row[3] = fmaf(weight, of_values[u].w, of_row[3]);
                }
            }
        }
    }

    // Combine the warps' results.
#pragma unroll
    for (int chunk = 0; chunk < R / 4; chunk++)
#pragma unroll
        for (int i = 0; i < SCORES; i++) {
            float total = sum[chunk][i];
#pragma unroll
            for (int distance = 4 / SCORES; distance < 32; distance *= 2)
                total += __shfl_xor_sync(ALL, total, distance);
            const int value = SCORES * lane + i;
            if (value < 4)
                highs[warp][4 * chunk + value] = high[chunk][i], totals[warp][4 * chunk + value] = total;
        }
    __syncthreads();  // all statistics are written
    auto high_of = [&](int r) {
        return fmaxf(fmaxf(highs[0][r], highs[1][r]), fmaxf(highs[2][r], highs[3][r]));
    };
    auto shrink = [&](float high, float highest) {
        return power_of_two((high - (highest == -infinity<float>() ? 0.f : highest)) * LOG2_E);
    };
#pragma unroll
    for (int r = 0; r < R; r++) {
        const float factor = shrink(highs[warp][r], high_of(r));
#pragma unroll
        for (int c = 0; c < 4; c++) {
            out[r][c] *= factor;
            if (BESIDE > 1) out[r][c] += __shfl_xor_sync(ALL, out[r][c], 16);
        }
        if (lane < LANES) sums[warp][r][lane] = make_float4(out[r][0], out[r][1], out[r][2], out[r][3]);
    }
    __syncthreads();  // all sums are written
    const Int query = group.query(first);
    for (int i = threadIdx.x; i < count * HEAD; i += THREADS) {
        const int r = i / HEAD, c = i % HEAD;
        const float highest = high_of(r);
        float x = 0, total = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            x += reinterpret_cast<const float*>(sums[w][r])[c];
            total += totals[w][r] * shrink(highs[w][r], highest);
        }
        if (results.parts > 1) {
            float* to = results.of_part(p, query + r);
            if (c < value_width) to[c] = x;
            if (c == 0) to[value_width] = highest, to[value_width + 1] = total;
        } else {
            if (c < value_width) results.out[(query + r) * value_width + c] = total == 0 ? 0.f : x / total;
            if (c == 0) results.set_statistics(query + r, highest, total);
        }
    }
}

#define DECODE(HEAD, R, BLOCKS, NAME)                                                                 \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS) attention_decode_##HEAD##_##R##_##NAME( \
        const float* q, Int q_batch, Int q_head, Int q_row, const float* k, const float* v,           \
        const void* mask, float* out, float* high, float* log_sum, float* partial, Int parts,         \
        PROBLEM_PARAMETERS) {                                                                         \
        const Problem p = PROBLEM;                                                                    \
        const Group group(p);                                                                         \
        const FloatArrays source{group, k + group.k_offset(), v + group.v_offset(), mask};            \
        decode_floats<HEAD, R>(q, q_batch, q_head, q_row, source, group,                              \
                               Results<float>{out, high, log_sum, partial, parts});                   \
    }                                                                                                 \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                         \
        cached_attention_decode_##HEAD##_##R##_##NAME(const float* q, Int q_batch, Int q_head,        \
            Int q_row, CACHE_PARAMETERS, float* out, float* partial, Int parts, SIZE_PARAMETERS) {    \
        SOURCE_OF_CACHE(float)                                                                        \
        decode_floats<HEAD, R>(q, q_batch, q_head, q_row, FloatCache{source}, group,                  \
                               Results<float>{out, nullptr, nullptr, partial, parts});                \
    }
#define EXPORT(NAME, T)       \
    DECODE(64, 4, (AFTER_HOPPER ? 2 : 3), NAME) \
    DECODE(64, 8, 2, NAME)    \
    DECODE(128, 4, 3, NAME)   \
    DECODE(128, 8, 2, NAME)
FOR_FLOAT32(EXPORT)
