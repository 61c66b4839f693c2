// Products of groups of rows, each with its own matrix (the experts of a mixture), and their gradients.
// Group e has counts[e] rows of x (rows, K); groups are consecutive.
//
//     out[m, n] = sum_k x[m, k] * weight_e[n, k]         for the rows m of group e
//     gx[m, k]  = sum_n g[m, n] * weight_e[n, k]
//     gw_e[n, k] = sum_m g[m, n] * x[m, k]               over the rows m of group e
//
// The counts stay on the device: the host launches enough blocks for any division of the rows, and each
// block finds its rows by the counts. E groups of `rows` rows have at most rows / size + E tiles; blocks
// without a tile end at once. Counts that do not sum to `rows` set the fault.
//
// Many rows: tile_product.cuh, one block per 64 x 64 results, or wide_tiles.cuh, one per 128 x 128
// of 16 bits. Bytes: each matrix is read once for each 64 or 128 rows of its group. Few rows:
// few_rows.cuh, at the speed of reading the matrices, packed or not, of non-empty groups.
#include "few_rows.cuh"
#include "tile_product.cuh"
#include "wide_tiles.cuh"

// The addresses of the matrices of up to 128 groups; a launch computes groups `from` to `to`.
struct Addresses { Int at[128]; };
struct Range { Int from, to, groups, rows; };

// A group, and the rows of it that a block computes.
struct Rows { Int group, first; int count; };

// The rows of tile number `tile` of the launch's groups: up to SIZE rows of one group, or all if
// SIZE is 0. Warp 0 scans the counts, 32 at a time; the result is in shared memory.
template <int SIZE>
__device__ Rows rows_of_block(const Int* counts, const Range& range, Int tile, int* fault) {
    __shared__ Rows found;
    const int lane = threadIdx.x;
    if (lane == 0) found = Rows{-1, 0, 0};
    if (lane < 32) {
        __syncwarp();
        Int rows_before = 0, tiles_before = 0;
        bool wrong = false;
        for (Int base = 0; base < range.groups; base += 32) {
            const Int group = base + lane;
            const Int told = group < range.groups ? counts[group] : 0;
            const Int count = min(max(told, Int(0)), range.rows);
            const bool mine = range.from <= group && group < range.to;
            const Int tiles = !mine ? 0 : SIZE ? (count + SIZE - 1) / (SIZE ? SIZE : 1) : 1;
            wrong = wrong || count != told;
            Int rows_up_to = count, tiles_up_to = tiles;  // inclusive sums over the lanes
            for (int distance = 1; distance < 32; distance *= 2) {
                const int from = max(lane - distance, 0);
                const Int r = __shfl_sync(0xffffffffu, rows_up_to, from);
                const Int t = __shfl_sync(0xffffffffu, tiles_up_to, from);
                if (lane >= distance) rows_up_to += r, tiles_up_to += t;
            }
            const Int within = tile - (tiles_before + tiles_up_to - tiles);
            if (0 <= within && within < tiles) {
                const Int skipped = within * SIZE;
                const Int first = rows_before + rows_up_to - count + skipped;
                Int left = min(count - skipped, range.rows - first);
                if (SIZE) left = min(left, Int(SIZE));
                if (left > 0 || !SIZE) found = Rows{group, first, int(max(left, Int(0)))};
            }
            rows_before += __shfl_sync(0xffffffffu, rows_up_to, 31);
            tiles_before += __shfl_sync(0xffffffffu, tiles_up_to, 31);
        }
        if (wrong || (lane == 0 && rows_before != range.rows)) *fault = 1;
    }
    __syncthreads();
    return found;
}

template <class T> __device__ const T* matrix(const Addresses& addresses, Int at) {
    return reinterpret_cast<const T*>(addresses.at[at]);
}

// Grid: (rows of the matrices / ROWS, tiles of 8 rows of x).
template <class FORMAT, class T>
__device__ void few_rows(const T* x, const Addresses& codes, const Addresses& scales,
                         const Addresses& zeros, const float* table, Int group_size,
                         const Int* counts, const Range& range, T* out, Int outputs, Int columns,
                         int* fault) {
    const Rows rows = rows_of_block<8>(counts, range, blockIdx.y, fault);
    if (rows.group < 0) return;
    const Int at = rows.group - range.from;
    const Packed w = {matrix<Byte>(codes, at), matrix<void>(scales, at), matrix<Byte>(zeros, at),
                      columns, group_size, table};
    product<FORMAT, 8>(x + rows.first * columns, w, static_cast<const T*>(nullptr),
                       out + rows.first * outputs, outputs, rows.count);
}

// Grid: (tiles of N, tiles of rows).
template <class T>
__device__ void forward(const T* x, const Addresses& weights, const Int* counts, const Range& range,
                        T* out, Int outputs, Int inputs, int* fault) {
    const Rows rows = rows_of_block<TILE>(counts, range, blockIdx.y, fault);
    if (rows.group < 0) return;
    const Int column = Int(blockIdx.x) * TILE;
    const T* weight = matrix<T>(weights, rows.group - range.from) + column * inputs;
    tile_product<T>(AlongDepth<T>{x + rows.first * inputs, rows.count, inputs, inputs},
                    AlongDepth<T>{weight, outputs - column, inputs, inputs}, 0, inputs,
                    [&](int i, int j, computed<T> sum) {
                        if (i < rows.count && column + j < outputs)
                            out[(rows.first + i) * outputs + column + j] = T(sum);
                    });
}

// Grid: (tiles of K, tiles of rows).
template <class T>
__device__ void input_grad(const T* g, const Addresses& weights, const Int* counts,
                           const Range& range, T* gx, Int outputs, Int inputs, int* fault) {
    const Rows rows = rows_of_block<TILE>(counts, range, blockIdx.y, fault);
    if (rows.group < 0) return;
    const Int column = Int(blockIdx.x) * TILE;
    const T* weight = matrix<T>(weights, rows.group - range.from) + column;
    tile_product<T>(AlongDepth<T>{g + rows.first * outputs, rows.count, outputs, outputs},
                    AcrossDepth<T>{weight, inputs - column, inputs, outputs}, 0, outputs,
                    [&](int i, int j, computed<T> sum) {
                        if (i < rows.count && column + j < inputs)
                            gx[(rows.first + i) * inputs + column + j] = T(sum);
                    });
}

// Grid: (tiles of K, tiles of N, groups). The gradient of a group without rows is 0.
template <class T>
__device__ void weight_grad(const T* g, const T* x, const Int* counts, const Range& range,
                            const Addresses& grads, Int outputs, Int inputs, int* fault) {
    const Rows rows = rows_of_block<0>(counts, range, blockIdx.z, fault);
    const Int row = Int(blockIdx.y) * TILE, column = Int(blockIdx.x) * TILE;
    T* gw = const_cast<T*>(matrix<T>(grads, rows.group - range.from));
    tile_product<T>(
        AcrossDepth<T>{g + rows.first * outputs + row, outputs - row, outputs, rows.count},
        AcrossDepth<T>{x + rows.first * inputs + column, inputs - column, inputs, rows.count}, 0,
        rows.count, [&](int i, int j, computed<T> sum) {
            if (row + i < outputs && column + j < inputs) gw[(row + i) * inputs + column + j] = T(sum);
        });
}

// Element (i, j) of a tile goes to out[i * stride + j], if that row and column exist.
template <class T> __device__ auto write_two(T* out, Int rows, Int columns, Int stride) {
    return [=](int j) {
        return [=](int i, float sum, float next) {
            if (i < rows && j < columns) store_two(out + i * stride + j, sum, next);
        };
    };
}

// The same three with wide tiles: sizes are multiples of 8, and all matrices are aligned to 16
// bytes.
template <class T>
__device__ void forward_wide(const T* x, const Addresses& weights, const Int* counts,
                             const Range& range, T* out, Int outputs, Int inputs, int* fault) {
    extern __shared__ uint4 memory[];
    const Rows rows = rows_of_block<WIDE>(counts, range, blockIdx.y, fault);
    if (rows.group < 0) return;
    const Int column = Int(blockIdx.x) * WIDE;
    const T* weight = matrix<T>(weights, rows.group - range.from) + column * inputs;
    wide_tile<T>(memory, WideAlong<T>(x + rows.first * inputs, rows.count, inputs, inputs),
                 WideAlong<T>(weight, outputs - column, inputs, inputs),
                 write_two(out + rows.first * outputs + column, rows.count, outputs - column, outputs));
}

template <class T>
__device__ void input_grad_wide(const T* g, const Addresses& weights, const Int* counts,
                                const Range& range, T* gx, Int outputs, Int inputs, int* fault) {
    extern __shared__ uint4 memory[];
    const Rows rows = rows_of_block<WIDE>(counts, range, blockIdx.y, fault);
    if (rows.group < 0) return;
    const Int column = Int(blockIdx.x) * WIDE;
    const T* weight = matrix<T>(weights, rows.group - range.from) + column;
    wide_tile<T>(memory, WideAlong<T>(g + rows.first * outputs, rows.count, outputs, outputs),
                 WideAcross<T>(weight, inputs - column, inputs, outputs),
                 write_two(gx + rows.first * inputs + column, rows.count, inputs - column, inputs));
}

template <class T>
__device__ void weight_grad_wide(const T* g, const T* x, const Int* counts, const Range& range,
                                 const Addresses& grads, Int outputs, Int inputs, int* fault) {
    extern __shared__ uint4 memory[];
    const Rows rows = rows_of_block<0>(counts, range, blockIdx.z, fault);
    const Int row = Int(blockIdx.y) * WIDE, column = Int(blockIdx.x) * WIDE;
    T* gw = const_cast<T*>(matrix<T>(grads, rows.group - range.from));
    wide_tile<T>(
        memory,
        WideAcross<T>(g + rows.first * outputs + row, outputs - row, outputs, rows.count),
        WideAcross<T>(x + rows.first * inputs + column, inputs - column, inputs, rows.count),
        write_two(gw + row * inputs + column, outputs - row, inputs - column, inputs));
}

#define EXPORT_FORMAT(FORMAT, KERNEL, NAME, T)                                                     \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, 4) KERNEL##_##NAME(                   \
        const T* x, const __grid_constant__ Addresses codes,                                       \
        const __grid_constant__ Addresses scales, const __grid_constant__ Addresses zeros,         \
        const __grid_constant__ Codebook table, Int group_size, const Int* counts,                 \
        const __grid_constant__ Range range, T* out, Int outputs, Int columns, int* fault) {       \
        few_rows<FORMAT>(x, codes, scales, zeros, table, group_size, counts, range, out, outputs,  \
                         columns, fault);                                                          \
    }
#define EXPORT_PACKED(FORMAT, NAME, T) EXPORT_FORMAT(FORMAT, grouped_##FORMAT, NAME, T)
#define EXPORT_TILES(KERNEL, FUNCTION, NAME, T, ...)                                        \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__) KERNEL##_##NAME(              \
        const T* x, const __grid_constant__ Addresses weights, const Int* counts,           \
        const __grid_constant__ Range range, T* out, Int outputs, Int inputs, int* fault) { \
        FUNCTION(x, weights, counts, range, out, outputs, inputs, fault);                   \
    }
#define EXPORT_WEIGHT_GRAD(KERNEL, FUNCTION, NAME, T, ...)                              \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__) KERNEL##_##NAME(          \
        const T* g, const T* x, const Int* counts, const __grid_constant__ Range range, \
        const __grid_constant__ Addresses grads, Int outputs, Int inputs, int* fault) { \
        FUNCTION(g, x, counts, range, grads, outputs, inputs, fault);                   \
    }
#define EXPORT(NAME, T)                                                                       \
    FOR_EACH_FORMAT(EXPORT_PACKED, NAME, T)                                                   \
    EXPORT_FORMAT(dense<T>, grouped_few_rows, NAME, T)                                        \
    EXPORT_TILES(grouped_rows, forward, NAME, T, TILE_THREADS, 4)                             \
    EXPORT_TILES(grouped_input_grad, input_grad, NAME, T, TILE_THREADS, 4)                    \
    EXPORT_WEIGHT_GRAD(grouped_weight_grad, weight_grad, NAME, T, TILE_THREADS, 4)
FOR_EACH_FLOAT(EXPORT)

#define EXPORT_WIDE(NAME, T)                                                              \
    EXPORT_TILES(grouped_rows_wide, forward_wide, NAME, T, WIDE_THREADS, 2)               \
    EXPORT_TILES(grouped_input_grad_wide, input_grad_wide, NAME, T, WIDE_THREADS, 2)      \
    EXPORT_WEIGHT_GRAD(grouped_weight_grad_wide, weight_grad_wide, NAME, T, WIDE_THREADS, 2)
FOR_EACH_HALF(EXPORT_WIDE)
