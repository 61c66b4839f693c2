// Products of up to 64 rows with a packed matrix, by tensor cores.
//
//     out[m, n] = sum_k x[m, k] * weight[n, k] (+ bias[n])
//
// The matrix is packed; x, out and the unpacked weights in shared memory have 16 bits; sums are
// float32. A block of four warps computes 64 rows of the matrix, 16 per warp, for a part of the
// columns, so that there are enough blocks; `join` adds the parts' sums in order. In a step of 256
// columns the block copies its x, and each warp unpacks its 16 rows (by packed.cuh: lanes read
// adjacent bytes) and multiplies (16, 16) of them by (16, 8) of x transposed; each group of four
// lanes has one row.
//
// A product may add its terms in any order. An mma's lane has columns c, c + 1 and c + 8, c + 9 of two
// steps of 16. Here a lane takes eight neighbours instead, 8 (lane % 4) .. + 7 of 32 columns, of both
// factors, so that one load of 16 bytes fills its registers, not four of 4. Rows of 576 bytes avoid bank
// conflicts: two rows by four lanes are in eight groups of banks.
//
// Bytes: the codes once; x once for each 64 rows of the matrix, from the L2 cache: with 16 rows of x and
// 4-bit codes, as many bytes as the codes; with 64 rows, four times as many. Expected (not measured): bound
// by memory with 16 rows; about 60 % of its speed with 64.
#include "few_rows.cuh"
#include <tensor_cores.cuh>

constexpr int OUTPUTS = 64, MOST = 64, STEP = 256, PITCH = STEP + 32;

// Copies x of a step for the block: (rows, 256), then zeros. A warp copies a row at a time.
template <class T>
__device__ void copy_rows(const T* x, T* to, int batch, int rows, Int at, Int columns) {
    const int lane = threadIdx.x % 32;
    at += 8 * lane;
    for (int row = threadIdx.x / 32; row < rows; row += WARPS) {
        const T* from = x + row * columns;
        Pack<T, 8> eight;
        if (row < batch && at + 8 <= columns && is_aligned<8>(from + at)) {
            eight = load_pack<8>(from + at);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++)
                eight.values[i] = row < batch && at + i < columns ? from[at + i] : T(0.0f);
        }
        *reinterpret_cast<Pack<T, 8>*>(to + row * PITCH + 8 * lane) = eight;
    }
}

// Unpacks 16 rows of the matrix from `row` on, for a step, by one warp.
template <class FORMAT, class T>
__device__ void unpack_rows(const Packed& w, T* to, Int row, Int outputs, Int step) {
    const int lane = threadIdx.x % 32, places[2] = {FORMAT::first(lane), FORMAT::second(lane)};
    const bool inside = step * STEP + places[0] < w.columns;
#pragma unroll 4
    for (int r = 0; r < 16; r++) {
        float values[8] = {};
        if (inside)  // past the last row, it is read again
            load_weights<FORMAT>(w, row + r < outputs ? row + r : outputs - 1, step, lane, values);
#pragma unroll
        for (int part = 0; part < 2; part++) {
            const float* four = values + 4 * part;
            *reinterpret_cast<uint2*>(to + r * PITCH + places[part]) =
                uint2{two<T>(four[0], four[1]), two<T>(four[2], four[3])};
        }
    }
}

// sums[i] += the warp's 16 rows by rows 8 i to 8 i + 7 of x.
template <class T>
__device__ void multiply(const T* weights, const T* x, int batch, float (&sums)[MOST / 8][4]) {
    const int lane = threadIdx.x % 32, place = lane / 4 * PITCH + 8 * (lane % 4);
#pragma unroll 2
    for (int k = 0; k < STEP; k += 32) {
        const uint4 low = *reinterpret_cast<const uint4*>(weights + place + k);
        const uint4 high = *reinterpret_cast<const uint4*>(weights + place + 8 * PITCH + k);
        const unsigned first[4] = {low.x, high.x, low.y, high.y};
        const unsigned second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
        for (int i = 0; i < MOST / 8; i++) {
            if (8 * i >= batch) break;
            const uint4 right = *reinterpret_cast<const uint4*>(x + 8 * i * PITCH + place + k);
            const unsigned early[2] = {right.x, right.y}, late[2] = {right.z, right.w};
            mma_m16n8k16<T>(sums[i], first, early);
            mma_m16n8k16<T>(sums[i], second, late);
        }
    }
}

// Calls write(row of x, row of the matrix, sum) for the lane's results in the warp's 16 rows.
template <class F> __device__ void each_sum(const float (&sums)[MOST / 8][4], int batch, F write) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < MOST / 8; i++)
#pragma unroll
        for (int d = 0; d < 4; d++) {
            const int m = 8 * i + lane % 4 * 2 + d % 2;
            if (m < batch) write(m, lane / 4 + d / 2 * 8, sums[i][d]);
        }
}

// Grid: (rows of the matrix / 64, parts of the columns). With several parts, out is null.
template <class FORMAT, class T>
__device__ void product(T* memory, const T* x, Packed w, const T* bias, T* out, float* parts,
                        int batch, Int outputs, Int steps) {
    w.table = shared_table(w.table);
    const int warp = threadIdx.x / 32, rows = (batch + 7) / 8 * 8;
    const Int row = Int(blockIdx.x) * OUTPUTS + 16 * warp;
    T* weights = memory + (rows + 16 * warp) * PITCH;
    float sums[MOST / 8][4] = {};
    const Int first = blockIdx.y * steps;
    for (Int step = first; step < first + steps && step * STEP < w.columns; step++) {
        __syncthreads();
        copy_rows(x, memory, batch, rows, step * STEP, w.columns);
        unpack_rows<FORMAT>(w, weights, row, outputs, step);
        __syncthreads();
        multiply(weights, memory, batch, sums);
    }
    each_sum(sums, batch, [&](int m, int n, float sum) {
        const Int at = m * outputs + row + n;
        if (row + n >= outputs) return;
        if (out) out[at] = T(bias ? sum + float(bias[row + n]) : sum);
        else parts[Int(blockIdx.y) * batch * outputs + at] = sum;
    });
}

// out = the sum of the parts, in order, plus the bias. Grid: blocks of 256 elements.
template <class T>
__device__ void join(const float* parts, const T* bias, T* out, Int count, Int outputs, Int numbers) {
    const Int at = Int(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= numbers) return;
    float sum = parts[at];
    for (Int part = 1; part < count; part++) sum += parts[part * numbers + at];
    out[at] = T(bias ? sum + float(bias[at % outputs]) : sum);
}

#define EXPORT_FORMAT(FORMAT, NAME, T)                                                             \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, 4) FORMAT##_batch_##NAME(             \
        const T* x, const Byte* codes, const void* scales, const Byte* zeros,                      \
        const __grid_constant__ Codebook table,                                                    \
        const T* bias, T* out, float* parts, Int batch, Int outputs, Int columns, Int group,       \
        Int steps) {                                                                               \
        extern __shared__ uint4 memory[];                                                          \
        product<FORMAT>(reinterpret_cast<T*>(memory), x,                                           \
                        Packed{codes, scales, zeros, columns, group, table}, bias, out, parts,     \
                        int(batch), outputs, steps);                                               \
    }
#define EXPORT(NAME, T)                                                                            \
    FOR_EACH_FORMAT(EXPORT_FORMAT, NAME, T)                                                        \
    extern "C" __global__ void batch_join_##NAME(const float* parts, const T* bias, T* out,        \
                                                 Int count, Int outputs, Int numbers) {            \
        join(parts, bias, out, count, outputs, numbers);                                           \
    }
FOR_EACH_HALF(EXPORT)
