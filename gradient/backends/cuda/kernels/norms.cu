// Layer norm (Ba et al. 2016) and RMS norm (Zhang and Sennrich 2019) over the columns of each row,
// with their gradients. (Formulas are at each kernel.)
//
// Grid of the row kernels: one block per row. Bytes: a row is read from memory once (it stays in
// the block's registers, or later reads hit the cache) and written once. `weight` and `bias` may be
// null.
#include "functions.cuh"
#include "rows.cuh"

template <class T> __device__ Or<T> or_one(const T* weight) { return {weight, T(1.0f)}; }

// y = (x - mean) * rstd * weight + bias
template <class Way, class T>
__device__ void layer_norm(const T* x, const T* weight, const T* bias, T* y, computed<T>* mean,
                           computed<T>* rstd, Int columns, computed<T> eps) {
    typedef computed<T> A;
    Int row = blockIdx.x;
    const auto held = Way::hold(x + row * columns, columns);
    A sum = 0;
    Way::each(columns, [&](Int, A x) { sum += x; }, held);
    A centre = block_sum(sum) / A(columns);
    Sums<A> mine = {0, 0};
    Way::each(columns, [&](Int, A x) { mine.a += x - centre, mine.b += (x - centre) * (x - centre); }, held);
    auto whole = block_sums(mine.a, mine.b);
    A rest = whole.a / A(columns);  // correction for the rounding of the mean; NaN for infinities
    A scale = 1 / sqrt(whole.b / A(columns) - rest * rest + eps);
    if (threadIdx.x == 0) mean[row] = rest == rest ? centre + rest : centre, rstd[row] = scale;
    Way::map(columns, y + row * columns, [&](Int, A x, A times, A plus) {
        A normed = (x - centre - rest) * scale * times;
        return bias ? normed + plus : normed;
    }, held, or_one(weight), Or<T>{bias, T(0.0f)});
}

// gx = rstd * (gn - mean(gn) - n * mean(gn * n)) with n = (x - mean) * rstd and gn = g * weight
template <class Way, class T>
__device__ void layer_norm_grad(const T* g, const T* x, const T* weight, const computed<T>* mean,
                                const computed<T>* rstd, T* gx, Int columns) {
    typedef computed<T> A;
    Int row = blockIdx.x, start = row * columns;
    const auto of_g = Way::hold(g + start, columns), of_x = Way::hold(x + start, columns);
    A centre = mean[row], scale = rstd[row];
    Sums<A> mine = {0, 0};
    Way::each(columns, [&](Int, A g, A x, A times) {
        A gn = g * times;
        mine.a += gn, mine.b += gn * ((x - centre) * scale);
    }, of_g, of_x, or_one(weight));
    auto whole = block_sums(mine.a, mine.b);
    A of_gn = whole.a / A(columns), of_product = whole.b / A(columns);
    Way::map(columns, gx + start, [&](Int, A g, A x, A times) {
        return scale * (g * times - of_gn - (x - centre) * scale * of_product);
    }, of_g, of_x, or_one(weight));
}

// y = x * rstd * weight. With round_first, x * rstd is rounded to T before the multiplication by
// weight, as in the training of models with 16-bit weights.
template <class Way, class T>
__device__ void rms_norm(const T* x, const T* weight, T* y, computed<T>* rstd, Int columns,
                         computed<T> eps, Int round_first) {
    typedef computed<T> A;
    Int row = blockIdx.x;
    const auto held = Way::hold(x + row * columns, columns);
    A sum = 0;
    Way::each(columns, [&](Int, A x) { sum += x * x; }, held);
    A scale = one_over_root(block_sum(sum), reciprocal_of<A>(columns), eps);
    if (threadIdx.x == 0) rstd[row] = scale;
    Way::map(columns, y + row * columns, [&](Int, A x, A times) {
        A normed = x * scale;
        if (round_first) normed = A(T(normed));
        return normed * times;
    }, held, or_one(weight));
}

// gx = rstd * (gn - n * mean(gn * n)) with n = x * rstd and gn = g * weight
template <class Way, class T>
__device__ void rms_norm_grad(const T* g, const T* x, const T* weight, const computed<T>* rstd,
                              T* gx, Int columns) {
    typedef computed<T> A;
    Int row = blockIdx.x, start = row * columns;
    const auto of_g = Way::hold(g + start, columns), of_x = Way::hold(x + start, columns);
    A scale = rstd[row], product = 0;
    Way::each(columns, [&](Int, A g, A x, A times) { product += g * times * (x * scale); }, of_g, of_x,
              or_one(weight));
    product = block_sum(product) / A(columns);
    Way::map(columns, gx + start, [&](Int, A g, A x, A times) {
        return scale * (g * times - x * scale * product);
    }, of_g, of_x, or_one(weight));
}

// The gradients for weight and bias: sums over the rows of g * n and of g. A lane has N columns, 16
// bytes if rows are aligned; a warp has 32 N; a block has the rows r of its part: r % gridDim.y is
// the part. sums (2, parts, columns): another kernel adds the parts, so the order of sums is fixed.
template <class T>
__device__ void column_sums(const T* g, const T* x, const computed<T>* mean, const computed<T>* rstd,
                            computed<T>* sums, Int rows, Int columns) {
    typedef computed<T> A;
    constexpr int N = 16 / sizeof(T), COLUMNS = 32 * N, WARPS = 8;
    __shared__ A of_weight[WARPS][COLUMNS], of_bias[WARPS][COLUMNS];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const Int first = Int(blockIdx.x) * COLUMNS, column = first + lane * N, parts = gridDim.y;
    const bool in_packs = columns % N == 0 && is_aligned<N>(g) && is_aligned<N>(x);
    A weight[N] = {}, bias[N] = {};
    if (column < columns)
        for (Int row = blockIdx.y + warp * parts; row < rows; row += WARPS * parts) {
            const T *g_row = g + row * columns + column, *x_row = x + row * columns + column;
            const A centre = mean ? mean[row] : A(0), scale = rstd[row];
            Pack<T, N> of_g, of_x;
            if (in_packs) {
                of_g = load_pack<N>(g_row), of_x = load_pack<N>(x_row);
            } else {
#pragma unroll
                for (int k = 0; k < N; k++) {
                    const bool inside = column + k < columns;
                    of_g.values[k] = inside ? g_row[k] : T(0.0f);
                    of_x.values[k] = inside ? x_row[k] : T(0.0f);
                }
            }
#pragma unroll
            for (int k = 0; k < N; k++) {
                const A value = A(of_g.values[k]);
                weight[k] += value * ((A(of_x.values[k]) - centre) * scale);
                bias[k] += value;
            }
        }
#pragma unroll
    for (int k = 0; k < N; k++)
        of_weight[warp][lane * N + k] = weight[k], of_bias[warp][lane * N + k] = bias[k];
    __syncthreads();
    for (int i = threadIdx.x; i < COLUMNS && first + i < columns; i += blockDim.x) {
        A whole = of_weight[0][i], of_g = of_bias[0][i];
        for (int w = 1; w < WARPS; w++) whole += of_weight[w][i], of_g += of_bias[w][i];
        sums[blockIdx.y * columns + first + i] = whole;
        sums[(parts + blockIdx.y) * columns + first + i] = of_g;
    }
}

// All gradients of many rows at once. A block takes rows blockIdx.x, blockIdx.x + gridDim.x, ... A
// thread keeps one pack of a row in registers, with the next row's in flight, and sums its columns'
// terms of the gradients for weight and bias. sums is as above, with one part per block.
// Bytes: g and x once, gx once, and two numbers per column for each block.
template <bool CENTRED, class T>
__device__ void all_grads(const T* g, const T* x, const T* weight, const computed<T>* mean,
                          const computed<T>* rstd, T* gx, computed<T>* sums, Int rows, Int columns) {
    typedef computed<T> A;
    constexpr int N = 16 / sizeof(T);
    const Int first = threadIdx.x * N;
    const bool inside = first < columns;
    A of_weight[N] = {}, of_bias[N] = {};
    Pack<T, N> times = {}, next_g = {}, next_x = {};
    A next_centre = 0, next_scale = 0;
    const auto load = [&](Int row) {
        if (inside) {
            next_g = load_pack<N>(g + row * columns + first);
            next_x = load_pack<N>(x + row * columns + first);
        }
        next_centre = CENTRED ? mean[row] : A(0), next_scale = rstd[row];
    };
    if (inside) times = load_pack<N>(or_one(weight) + first);
    load(blockIdx.x);
    for (Int row = blockIdx.x; row < rows; row += gridDim.x) {
        const Pack<T, N> of_g = next_g, of_x = next_x;
        const A centre = next_centre, scale = next_scale;
        if (row + gridDim.x < rows) load(row + gridDim.x);
        Sums<A> mine = {0, 0};
#pragma unroll
        for (int k = 0; k < N; k++) {
            const A value = of_g.values[k], gn = value * A(times.values[k]);
            const A normed = (A(of_x.values[k]) - centre) * scale;
            if (inside) mine.a += gn, mine.b += gn * normed;
            of_weight[k] += value * normed;
            if (CENTRED) of_bias[k] += value;
        }
        const auto whole = block_sums(mine.a, mine.b);
        const A of_gn = CENTRED ? whole.a / A(columns) : A(0), of_product = whole.b / A(columns);
        Pack<T, N> made;
#pragma unroll
        for (int k = 0; k < N; k++) {
            const A gn = A(of_g.values[k]) * A(times.values[k]);
            const A normed = (A(of_x.values[k]) - centre) * scale;
            made.values[k] = T(scale * (gn - of_gn - normed * of_product));
        }
        if (inside) *reinterpret_cast<Pack<T, N>*>(gx + row * columns + first) = made;
    }
    if (!inside) return;
#pragma unroll
    for (int k = 0; k < N; k++) {
        sums[blockIdx.x * columns + first + k] = of_weight[k];
        if (CENTRED) sums[(gridDim.x + blockIdx.x) * columns + first + k] = of_bias[k];
    }
}

#define EXPORT_GRADS(NAME, CENTRED, T)                                                           \
    ROW_KERNEL NAME(const T* g, const T* x, const T* weight, const computed<T>* mean,            \
                    const computed<T>* rstd, T* gx, computed<T>* sums, Int rows, Int columns) {  \
        all_grads<CENTRED>(g, x, weight, mean, rstd, gx, sums, rows, columns);                   \
    }

#define EXPORT_WAY(KERNEL, WAY, SUFFIX, NAME, T)                                                   \
    KERNEL layer_norm##SUFFIX##_##NAME(const T* x, const T* weight, const T* bias, T* y,           \
                                           computed<T>* mean, computed<T>* rstd, Int columns,      \
                                           computed<T> eps) {                                      \
        layer_norm<WAY>(x, weight, bias, y, mean, rstd, columns, eps);                             \
    }                                                                                              \
    KERNEL layer_norm_grad##SUFFIX##_##NAME(                                                       \
        const T* g, const T* x, const T* weight, const computed<T>* mean, const computed<T>* rstd, \
        T* gx, Int columns) {                                                                      \
        layer_norm_grad<WAY>(g, x, weight, mean, rstd, gx, columns);                               \
    }                                                                                              \
    KERNEL rms_norm##SUFFIX##_##NAME(const T* x, const T* weight, T* y, computed<T>* rstd,         \
                                         Int columns, computed<T> eps, Int round_first) {          \
        rms_norm<WAY>(x, weight, y, rstd, columns, eps, round_first);                              \
    }                                                                                              \
    KERNEL rms_norm_grad##SUFFIX##_##NAME(const T* g, const T* x, const T* weight,                 \
                                              const computed<T>* rstd, T* gx, Int columns) {       \
        rms_norm_grad<WAY>(g, x, weight, rstd, gx, columns);                                       \
    }

#define EXPORT(NAME, T)                                                                         \
    EXPORT_WAY(ROW_KERNEL, ByCache, , NAME, T)                                                  \
    EXPORT_WAY(HELD_ROW_KERNEL, ByRegisters, _held, NAME, T)                                    \
    extern "C" __global__ void layer_norm_grad_weight_##NAME(                                   \
        const T* g, const T* x, const computed<T>* mean, const computed<T>* rstd,               \
        computed<T>* sums, Int rows, Int columns) {                                             \
        column_sums(g, x, mean, rstd, sums, rows, columns);                                     \
    }                                                                                           \
    extern "C" __global__ void rms_norm_grad_weight_##NAME(const T* g, const T* x,              \
                                                           const computed<T>* rstd,             \
                                                           computed<T>* sums, Int rows,         \
                                                           Int columns) {                       \
        column_sums(g, x, static_cast<const computed<T>*>(nullptr), rstd, sums, rows, columns); \
    }                                                                                           \
    EXPORT_GRADS(layer_norm_grads_##NAME, true, T)                                              \
    EXPORT_GRADS(rms_norm_grads_##NAME, false, T)
FOR_EACH_FLOAT(EXPORT)
