// Layer norm (Ba et al. 2016) and RMS norm (Zhang and Sennrich 2019) over the columns of each row,
// with their gradients.
//
// Grid of the row kernels: one block a row. A row is read from memory once; the later readings meet
// the cache. `weight` and `bias` may be null.
#include "rows.cuh"

template <class T> __device__ computed<T> weight_at(const T* weight, Int column) {
    return weight ? computed<T>(weight[column]) : computed<T>(1);
}

// y = (x - mean) * rstd * weight + bias
template <class T>
__device__ void layer_norm(const T* x, const T* weight, const T* bias, T* y, computed<T>* mean,
                           computed<T>* rstd, Int columns, computed<T> eps) {
    typedef computed<T> A;
    Int row = blockIdx.x;
    x += row * columns, y += row * columns;
    A sum = 0;
    each_column(columns, [&](Int, A x) { sum += x; }, x);
    A centre = block_sum(sum) / A(columns);
    Sums<A> mine = {0, 0};
    each_column(columns, [&](Int, A x) { mine.a += x - centre, mine.b += (x - centre) * (x - centre); }, x);
    auto whole = block_sums(mine.a, mine.b);
    A rest = whole.a / A(columns);  // what the rounding of the mean left over; NaN of infinities
    A scale = 1 / sqrt(whole.b / A(columns) - rest * rest + eps);
    if (threadIdx.x == 0) mean[row] = rest == rest ? centre + rest : centre, rstd[row] = scale;
    map_columns(columns, y, [&](Int c, A x) {
        A normed = (x - centre - rest) * scale * weight_at(weight, c);
        return bias ? normed + A(bias[c]) : normed;
    }, x);
}

// gx = rstd * (gn - mean(gn) - n * mean(gn * n)) with n = (x - mean) * rstd and gn = g * weight
template <class T>
__device__ void layer_norm_grad(const T* g, const T* x, const T* weight, const computed<T>* mean,
                                const computed<T>* rstd, T* gx, Int columns) {
    typedef computed<T> A;
    Int row = blockIdx.x, start = row * columns;
    g += start, x += start, gx += start;
    A centre = mean[row], scale = rstd[row];
    Sums<A> mine = {0, 0};
    each_column(columns, [&](Int c, A g, A x) {
        A gn = g * weight_at(weight, c);
        mine.a += gn, mine.b += gn * ((x - centre) * scale);
    }, g, x);
    auto whole = block_sums(mine.a, mine.b);
    A of_gn = whole.a / A(columns), of_product = whole.b / A(columns);
    map_columns(columns, gx, [&](Int c, A g, A x) {
        return scale * (g * weight_at(weight, c) - of_gn - (x - centre) * scale * of_product);
    }, g, x);
}

// y = x * rstd * weight; with round_first the product x * rstd is rounded to T before it is
// multiplied, as models with 16-bit weights were trained.
template <class T>
__device__ void rms_norm(const T* x, const T* weight, T* y, computed<T>* rstd, Int columns,
                         computed<T> eps, Int round_first) {
    typedef computed<T> A;
    Int row = blockIdx.x;
    x += row * columns, y += row * columns;
    A sum = 0;
    each_column(columns, [&](Int, A x) { sum += x * x; }, x);
    A scale = 1 / sqrt(block_sum(sum) / A(columns) + eps);
    if (threadIdx.x == 0) rstd[row] = scale;
    map_columns(columns, y, [&](Int c, A x) {
        A normed = x * scale;
        if (round_first) normed = A(T(normed));
        return normed * weight_at(weight, c);
    }, x);
}

// gx = rstd * (gn - n * mean(gn * n)) with n = x * rstd and gn = g * weight
template <class T>
__device__ void rms_norm_grad(const T* g, const T* x, const T* weight, const computed<T>* rstd,
                              T* gx, Int columns) {
    typedef computed<T> A;
    Int row = blockIdx.x, start = row * columns;
    g += start, x += start, gx += start;
    A scale = rstd[row], product = 0;
    each_column(columns, [&](Int c, A g, A x) { product += g * weight_at(weight, c) * (x * scale); },
                g, x);
    product = block_sum(product) / A(columns);
    map_columns(columns, gx, [&](Int c, A g, A x) {
        return scale * (g * weight_at(weight, c) - x * scale * product);
    }, g, x);
}

// The gradients for weight and bias, sums over the rows of g * n and of g. A block has 32 columns
// (its threads of one warp read neighbours) and the rows of its part: row r for part r % gridDim.y.
// sums (2, parts, columns): the parts are added up afterwards, so the order never changes.
template <class T>
__device__ void column_sums(const T* g, const T* x, const computed<T>* mean, const computed<T>* rstd,
                            computed<T>* sums, Int rows, Int columns) {
    typedef computed<T> A;
    __shared__ A of_weight[8][32], of_bias[8][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Int column = Int(blockIdx.x) * 32 + lane, parts = gridDim.y;
    A weight = 0, bias = 0;
    if (column < columns)
        for (Int row = blockIdx.y + warp * parts; row < rows; row += 8 * parts) {
            A value = A(g[row * columns + column]);
            A centre = mean ? mean[row] : A(0);
            weight += value * ((A(x[row * columns + column]) - centre) * rstd[row]);
            bias += value;
        }
    of_weight[warp][lane] = weight, of_bias[warp][lane] = bias;
    __syncthreads();
    if (warp > 0 || column >= columns) return;
    for (int w = 1; w < 8; w++) weight += of_weight[w][lane], bias += of_bias[w][lane];
    sums[blockIdx.y * columns + column] = weight;
    sums[(parts + blockIdx.y) * columns + column] = bias;
}

#define EXPORT(NAME, T)                                                                            \
    ROW_KERNEL layer_norm_##NAME(const T* x, const T* weight, const T* bias, T* y,                 \
                                                 computed<T>* mean, computed<T>* rstd,             \
                                                 Int columns, computed<T> eps) {                   \
        layer_norm(x, weight, bias, y, mean, rstd, columns, eps);                                  \
    }                                                                                              \
    ROW_KERNEL layer_norm_grad_##NAME(                                                             \
        const T* g, const T* x, const T* weight, const computed<T>* mean, const computed<T>* rstd, \
        T* gx, Int columns) {                                                                      \
        layer_norm_grad(g, x, weight, mean, rstd, gx, columns);                                    \
    }                                                                                              \
    extern "C" __global__ void layer_norm_grad_weight_##NAME(                                      \
        const T* g, const T* x, const computed<T>* mean, const computed<T>* rstd,                  \
        computed<T>* sums, Int rows, Int columns) {                                                \
        column_sums(g, x, mean, rstd, sums, rows, columns);                                        \
    }                                                                                              \
    ROW_KERNEL rms_norm_##NAME(const T* x, const T* weight, T* y,                                  \
                                               computed<T>* rstd, Int columns, computed<T> eps,    \
                                               Int round_first) {                                  \
        rms_norm(x, weight, y, rstd, columns, eps, round_first);                                   \
    }                                                                                              \
    ROW_KERNEL rms_norm_grad_##NAME(const T* g, const T* x, const T* weight,                       \
                                                    const computed<T>* rstd, T* gx,                \
                                                    Int columns) {                                 \
        rms_norm_grad(g, x, weight, rstd, gx, columns);                                            \
    }                                                                                              \
    extern "C" __global__ void rms_norm_grad_weight_##NAME(const T* g, const T* x,                 \
                                                           const computed<T>* rstd,                \
                                                           computed<T>* sums, Int rows,            \
                                                           Int columns) {                          \
        column_sums(g, x, static_cast<const computed<T>*>(nullptr), rstd, sums, rows, columns);    \
    }
FOR_EACH_FLOAT(EXPORT)
