// Products of one row of 16-bit floats with up to three packed matrices, by tensor cores, with the
// operations before and after them in a decoder's step: `row_products.cu` for packed weights.
//
//     y_i[n] = sum_k x[k] * weight_i[n, k]                   x after its RMS norm, if there is one
//     out = y + bias, residual + y, or silu(y_0) * y_1
//
// A warp computes 16 rows of the matrices by 256 columns at a time (packed_tiles.cuh). Weights stay
// the integers that they are, x becomes integers (digits.cuh), and products are summed as integers;
// scales are applied to the sums of blocks of 32. So no weight is converted to a float. All warps of
// a block compute the same 16 rows: warp w takes steps w, w + warps, ... of 256 columns. Their sums
// are added in a fixed order.
//
// Weights are copied to shared memory asynchronously. The first copies start before x is available:
// in a graph, before the previous kernels have ended. If a warp has DEPTH tiles or fewer, all of its
// weights are copied then. The remaining time of a product is latency: the load of x from the L2
// cache, the norm, the digits of x, one or two tiles, and the sum over warps in shared memory. So
// what does not depend on x comes before the wait, and the code behind it is short (packed_tiles.cuh).
//
// Other loads must not wait for weights that are loaded to registers (`Held`). A use behind a branch
// waits for all loads whose uses are behind branches. So the norm's weights are copied to shared
// memory, too, and with such weights x is loaded again where it is used, from the L1 cache
// (tests/backends/test_cuda_machine_code.py).
//
// Bytes: the packed matrices once; x once per block, from the L2 cache. Grid: blocks loop over
// every gridDim.x-th tile of 16 rows. Shared memory: tiles and the digits of x, per warp, and sums.
#include <following.cuh>

#include "packed_tiles.cuh"

constexpr int ROWS_OF_TILE = 16;

// Bytes of shared memory for a warp with that many steps: tiles, digits, zeros.
template <class FORMAT> __device__ int bytes_of_warp(int steps) {
    return FORMAT::DEPTH * FORMAT::BYTES + 4 * (steps * WORDS + Digits::MOST_READ);
}

// A warp's way through its tiles: `steps` of 256 columns for every tile of the block.
struct Place {
    int tile = 0, step = 0, slot = 0;
    __device__ void advance(int steps, int slots) {
        if (++step == steps) step = 0, tile++;
        if (++slot == slots) slot = 0;
    }
};

template <class FORMAT, bool GATED, bool NORMED, class T>
__device__ void tile_product(const T* x, const T* norm, double eps, Int round_first, Int norm_threads,
                             const Matrix<T>& a, const Matrix<T>& b, const Matrix<T>& c,
                             const T* residual, const T* bias, int columns, int steps, int group) {
    trigger_next_kernel();  // so that the next kernels have time for copying their weights
    constexpr int UNITS = GATED ? 8 : 16, DEPTH = FORMAT::DEPTH, N = 8;
    static_assert(DEPTH == 1 || !FORMAT::HOLDS, "registers hold what belongs to one tile");
    extern __shared__ float4 shared[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int g = lane / 4, t = lane % 4, blocks = columns / BLOCK;
    const int units = GATED ? a.outputs : a.outputs + b.outputs + c.outputs;
    // Of this block.
    const int tiles = (int((units + UNITS - 1) / UNITS - blockIdx.x) + int(gridDim.x) - 1) / int(gridDim.x);
    const auto first_of = [&](int tile) { return int(blockIdx.x + tile * gridDim.x) * UNITS; };
    char* const of_block = in_register(reinterpret_cast<char*>(shared));
    char* const slots = of_block + warp * bytes_of_warp<FORMAT>(steps);
    unsigned* const words = reinterpret_cast<unsigned*>(slots + DEPTH * FORMAT::BYTES);
    unsigned* const zeros = words + steps * WORDS;
    // (tiles, rows, warps), warps padded with zeros to a multiple of 8
    float* const sums = reinterpret_cast<float*>(of_block + warps * bytes_of_warp<FORMAT>(steps));
    const int padded = (warps + 7) / 8 * 8;

    // Gate and up projection are the largest matrices of a layer. The small ones behind a norm need no pauses.
    constexpr Pauses at_first{GATED ? 1 : NORMED ? 0 : 2};

    typename FORMAT::Held held;
    Place next, at;  // to copy, and to use
    const auto copy_next = [&](Pauses pauses) {
        if (next.tile < tiles) {
            Rows rows;
            rows.group = group;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int unit = min(first_of(next.tile) + g + (GATED ? 0 : 8 * half), units - 1);
                // Selects values: a selection among the structs would put all three in local memory.
                const bool in_a = GATED ? !half : unit < a.outputs, in_b = GATED || unit < a.outputs + b.outputs;
                const int row = GATED || in_a ? unit : in_b ? unit - a.outputs : unit - a.outputs - b.outputs;
                rows.codes[half] = in_a ? a.codes : in_b ? b.codes : c.codes;
                rows.scales[half] = in_a ? a.scales : in_b ? b.scales : c.scales;
                rows.zeros[half] = in_a ? a.zeros : in_b ? b.zeros : c.zeros;
                rows.row[half] = row;
            }
            FORMAT::copy(slots + next.slot * FORMAT::BYTES, held, rows, warp + next.step * warps, blocks, pauses);
            next.advance(steps, DEPTH);
        }
        cp_async_commit();
    };
    // Where the lane's numbers of a step begin in x; past the end, the first ones are read.
    const auto begin_of = [&](int step) { return ((warp + step * warps) * 32 + lane) * N; };
    if (NORMED)
#pragma unroll 1
        for (int i = 0; i < steps; i++)  // in the place of the digits of this step
            cp_async(words + i * WORDS + 4 * lane, norm + (begin_of(i) < columns ? begin_of(i) : 0));
    cp_async_commit();
#pragma unroll 1
    for (int d = 0; d < DEPTH; d++) {
        if (d) at_first.before(0);
        copy_next(at_first);
    }
    if (lane < Digits::MOST_READ / 4) *reinterpret_cast<uint4*>(zeros + 4 * lane) = {0, 0, 0, 0};
    for (int i = threadIdx.x; i < tiles * ROWS_OF_TILE * (padded - warps); i += blockDim.x)
        sums[i / (padded - warps) * padded + warps + i % (padded - warps)] = 0;
    const unsigned* columns_of_b[2];  // what the lane has of B, in the warp's first step
    int to_next[2];                   // and how far it is to the next step
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int column = FORMAT::column(i);
        columns_of_b[i] = column < 0 ? zeros : words + column, to_next[i] = column < 0 ? 0 : WORDS;
    }
    // The warp adds up the sums of tiles warp, warp + warps, ...: lanes r and r + 16 those of row r. Of
    // the first one, a lane's unit, its place in the output, and what is added to it: residual or bias
    // (which need a single matrix).
    const T* const added = GATED ? nullptr : residual ? residual : bias;
    const auto unit_of = [&](int tile) { return tile < tiles && lane < UNITS ? first_of(tile) + lane : units; };
    const auto out_of = [&](int unit) {
        const bool in_a = GATED || unit < a.outputs, in_b = unit < a.outputs + b.outputs;
        return in_a ? a.out + unit : in_b ? b.out + (unit - a.outputs) : c.out + (unit - a.outputs - b.outputs);
    };
    int first = begin_of(0) < columns ? begin_of(0) : 0, unit = unit_of(warp);
    T* out = out_of(unit);
    compute_now(unit), compute_now(out), compute_now(first);
    float reciprocal = reciprocal_of<float>(columns), small = float(eps);
    if (NORMED) compute_now(reciprocal), compute_now(small);
    wait_for_previous_kernel();

    auto pack = load_pack<N>(x + first);
    float scale = 1;
    if (NORMED) {
        scale = norm_of<false>(x, pack, columns, reciprocal, small, int(norm_threads));
        cp_async_wait<DEPTH>();
    }
    int i = 0;
    do {  // there is a step, and a tile: a loop that asks for the first one would load x behind that
        const int begin = begin_of(i);
        if (i || FORMAT::HOLDS) pack = load_pack<N>(x + (begin < columns ? begin : 0));
        if (NORMED) {
            const auto times = load_pack<N>(reinterpret_cast<const T*>(words + i * WORDS + 4 * lane));
            pack = normed(pack, times, scale, round_first);
        }
        __syncwarp();  // all lanes have read the norm's weights here
        put_digits<FORMAT::BY_PAIRS, FORMAT::WITH_SUMS, FORMAT::SHIFT>(words + i * WORDS, pack, begin < columns);
    } while (++i < steps);

    T plus = added && unit < units ? added[unit] : T(-0.0f);  // x + -0 is x
    float totals[2] = {};
    do {
        cp_async_wait<DEPTH - 1>();
        __syncwarp();
        const Digits digits{words + at.step * WORDS,
                            {columns_of_b[0] + at.step * to_next[0], columns_of_b[1] + at.step * to_next[1]}};
        FORMAT::add(slots + at.slot * FORMAT::BYTES, held, digits, totals);
        if (at.step == steps - 1)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                for (int distance = 1; distance < 4; distance *= 2)
                    totals[half] += __shfl_xor_sync(0xffffffffu, totals[half], distance);
                if (t == 0) sums[(at.tile * ROWS_OF_TILE + g + 8 * half) * padded + warp] = totals[half];
                totals[half] = 0;
            }
        at.advance(steps, DEPTH);
        __syncwarp();  // all lanes have read the tile
        copy_next({0});
    } while (at.tile < tiles);
    __syncthreads();

#pragma unroll 1
    for (int of = warp; of < tiles; of += warps) {
        float sum = 0;
#pragma unroll 1
        for (int w = lane / 16 * 4; w < padded; w += 8) {
            const float4 four = *reinterpret_cast<const float4*>(sums + (of * ROWS_OF_TILE + lane % 16) * padded + w);
            sum += (four.x + four.y) + (four.z + four.w);
        }
        sum += __shfl_xor_sync(0xffffffffu, sum, 16);
        if constexpr (GATED) {
            const float gate = float(T(sum)), up = float(T(__shfl_xor_sync(0xffffffffu, sum, 8)));
            if (unit < units) *out = T(float(T(gate * sigmoid(gate))) * up);
        } else {
            if (residual) sum = float(T(sum));
            if (unit < units) *out = T(float(plus) + sum);
        }
        unit = unit_of(of + warps), out = out_of(unit);
        if (added && unit < units) plus = added[unit];
    }
}

#define PRODUCT(KERNEL, FORMAT, GATED, NORMED, NAME, T)                                             \
    extern "C" __global__ void __launch_bounds__(32 * FORMAT##_tile::WARPS, 2)                      \
        KERNEL##_##FORMAT##_##NAME(                                                                 \
        const T* x, const T* norm, double eps, Int round_first, Int norm_threads,                   \
        const void* codes_0, const void* codes_1, const void* codes_2, const void* scales_0,        \
        const void* scales_1, const void* scales_2, const void* zeros_0, const void* zeros_1,       \
        const void* zeros_2, T* out_0, T* out_1, T* out_2, Int outputs_0, Int outputs_1,            \
        Int outputs_2, const T* residual, const T* bias, Int columns, Int steps, Int group) {       \
        tile_product<FORMAT##_tile, GATED, NORMED>(                                                 \
            x, norm, eps, round_first, norm_threads,                                                \
            Matrix<T>{codes_0, scales_0, out_0, int(outputs_0), zeros_0},                           \
            Matrix<T>{codes_1, scales_1, out_1, int(outputs_1), zeros_1},                           \
            Matrix<T>{codes_2, scales_2, out_2, int(outputs_2), zeros_2},                           \
            residual, bias, int(columns), int(steps), int(group));                                  \
    }
#define EXPORT_FORMAT(FORMAT, NAME, T)                        \
    PRODUCT(row_product, FORMAT, false, false, NAME, T)       \
    PRODUCT(gated_product, FORMAT, true, false, NAME, T)      \
    PRODUCT(normed_row_product, FORMAT, false, true, NAME, T) \
    PRODUCT(normed_gated_product, FORMAT, true, true, NAME, T)
#define EXPORT(NAME, T)            \
    EXPORT_FORMAT(q4_0, NAME, T)   \
    EXPORT_FORMAT(q8_0, NAME, T)   \
    EXPORT_FORMAT(q4_k, NAME, T)   \
    EXPORT_FORMAT(q5_k, NAME, T)   \
    EXPORT_FORMAT(q6_k, NAME, T)   \
    EXPORT_FORMAT(int8_channel, NAME, T) \
    EXPORT_FORMAT(int4_group, NAME, T)
FOR_EACH_HALF(EXPORT)
