// Max pooling of planes, and its gradient.
//
//     y[q] = max of x over window q,  index[q] = where it is in the plane
//     gx[i] = sum of g[q] over the windows q with index[q] = i, in their order
//
// Of equal numbers, the first counts; NaN is the largest, and of several the last counts. The index is -1
// if a window contains nothing of the plane. A thread finds one maximum, with 12 loads in flight, or sums
// the gradients of four neighbours over the few windows that can contain them: without atomic additions,
// so sums are deterministic. Bytes: x is read once from memory (again from the cache where windows
// overlap), y and 8 bytes of index are written once; g and the indices are read once. Grid: blocks of
// 256 threads.
#include "rows.cuh"
#include "windows.cuh"

// The host's description: `windows` divides by the numbers of windows, `sizes` by those of the
// plane; the last of `sizes` is the number of groups of four columns.
struct Pooling {
    Slide slide;
    Divisor windows[3], sizes[3], stride[3];
};

constexpr int TAKEN = 4;  // columns of a window that are loaded at once

template <class A> struct Best {
    A largest;
    int at;
};

// Visits ROWS x TAKEN numbers of a window in order; `rows` x `columns` of them exist.
template <int ROWS, class T>
__device__ inline void take(Best<computed<T>>& best, const T* plane, const Slide& s, int depth, int row,
                            int column, int rows, int columns) {
    T values[ROWS][TAKEN];
    bool inside[ROWS][TAKEN];
    int at[ROWS][TAKEN];
#pragma unroll
    for (int i = 0; i < ROWS; i++)
#pragma unroll
        for (int j = 0; j < TAKEN; j++) {
            const int r = row + i * s.dilation[1], c = column + j * s.dilation[2];
            inside[i][j] = i < rows && j < columns && unsigned(r) < unsigned(s.size[1]) &&
                           unsigned(c) < unsigned(s.size[2]);
            at[i][j] = (depth * s.size[1] + r) * s.size[2] + c;
            if (inside[i][j]) values[i][j] = plane[at[i][j]];
        }
#pragma unroll
    for (int i = 0; i < ROWS; i++)
#pragma unroll
        for (int j = 0; j < TAKEN; j++) {
            if (!inside[i][j]) continue;
            const computed<T> value = computed<T>(values[i][j]);
            if (best.at < 0 || value > best.largest || value != value) best = {value, at[i][j]};
        }
}

template <class T>
__device__ void max_pool(const T* x, T* y, Int* index, const Pooling& pooling, unsigned count, float least) {
    const Slide& s = pooling.slide;
    const unsigned n = blockIdx.x * 256 + threadIdx.x;
    if (n >= count) return;
    const unsigned of_row = pooling.windows[2].divide(n), of_depth = pooling.windows[1].divide(of_row);
    const unsigned image = pooling.windows[0].divide(of_depth);
    const T* plane = x + Int(image) * s.plane();
    const int depth = int(of_depth - image * s.windows[0]) * s.stride[0] - s.before[0];
    const int row = int(of_row - of_depth * s.windows[1]) * s.stride[1] - s.before[1];
    const int column = int(n - of_row * s.windows[2]) * s.stride[2] - s.before[2];
    Best<computed<T>> best = {computed<T>(least), -1};
    for (int k = 0; k < s.kernel[0]; k++) {
        const int here = depth + k * s.dilation[0];
        if (unsigned(here) >= unsigned(s.size[0])) continue;
        if (s.kernel[2] <= TAKEN) {
            for (int i = 0; i < s.kernel[1]; i += 3)
                take<3>(best, plane, s, here, row + i * s.dilation[1], column, s.kernel[1] - i, s.kernel[2]);
        } else {
            for (int i = 0; i < s.kernel[1]; i++)
                for (int j = 0; j < s.kernel[2]; j += TAKEN)
                    take<1>(best, plane, s, here, row + i * s.dilation[1], column + j * s.dilation[2], 1,
                            s.kernel[2] - j);
        }
    }
    y[n] = T(best.largest), index[n] = best.at;
}

// The first and the last window that can contain a place from `first` to `last` in dimension i.
struct Range { int first, last; };
__device__ inline Range windows_of(const Pooling& pooling, int i, int first, int last) {
    const Slide& s = pooling.slide;
    const int least = first + s.before[i] - (s.kernel[i] - 1) * s.dilation[i];
    const int most = last + s.before[i];
    return {least <= 0 ? 0 : int(pooling.stride[i].divide(least + s.stride[i] - 1)),
            most < 0 ? -1 : min(s.windows[i] - 1, int(pooling.stride[i].divide(most)))};
}

template <class T>
__device__ void max_pool_grad(const T* g, const Int* index, T* gx, const Pooling& pooling, unsigned count) {
    constexpr int N = 4;
    typedef computed<T> A;
    const Slide& s = pooling.slide;
    const unsigned n = blockIdx.x * 256 + threadIdx.x;
    if (n >= count) return;
    const unsigned of_row = pooling.sizes[2].divide(n), of_depth = pooling.sizes[1].divide(of_row);
    const unsigned image = pooling.sizes[0].divide(of_depth);
    const int depth = of_depth - image * s.size[0], row = of_row - of_depth * s.size[1];
    const int column = (n - of_row * pooling.sizes[2].by) * N, columns = min(N, s.size[2] - column);
    const int here = (depth * s.size[1] + row) * s.size[2] + column;
    const Range depths = windows_of(pooling, 0, depth, depth), rows = windows_of(pooling, 1, row, row);
    const Range across = windows_of(pooling, 2, column, column + columns - 1);
    g += Int(image) * s.windows_of_image(), index += Int(image) * s.windows_of_image();
    A sums[N] = {};
    for (int i = depths.first; i <= depths.last; i++)
        for (int j = rows.first; j <= rows.last; j++)
            for (int k = across.first; k <= across.last; k += N) {
                const int q = (i * s.windows[1] + j) * s.windows[2] + k;
                int at[N];
                T of[N];
#pragma unroll
                for (int m = 0; m < N; m++) {
                    at[m] = -1;
                    if (k + m <= across.last) at[m] = int(index[q + m]), of[m] = g[q + m];
                }
#pragma unroll
                for (int m = 0; m < N; m++) {
                    if (at[m] < 0) continue;
#pragma unroll
                    for (int c = 0; c < N; c++)
                        if (at[m] == here + c) sums[c] += A(of[m]);
                }
            }
    gx += Int(image) * s.plane() + here;
    if (columns == N && is_aligned<N>(gx)) {
        Pack<T, N> made;
#pragma unroll
        for (int c = 0; c < N; c++) made.values[c] = T(sums[c]);
        *reinterpret_cast<Pack<T, N>*>(gx) = made;
    } else {
#pragma unroll
        for (int c = 0; c < N; c++)
            if (c < columns) gx[c] = T(sums[c]);
    }
}

#define EXPORT(NAME, T)                                                                             \
    extern "C" __global__ void __launch_bounds__(256) max_pool_##NAME(                              \
        const T* x, T* y, Int* index, const __grid_constant__ Pooling pooling, Int count,           \
        float least) {                                                                              \
        max_pool(x, y, index, pooling, unsigned(count), least);                                     \
    }                                                                                               \
    extern "C" __global__ void __launch_bounds__(256) max_pool_grad_##NAME(                         \
        const T* g, const Int* index, T* gx, const __grid_constant__ Pooling pooling, Int count) {  \
        max_pool_grad(g, index, gx, pooling, unsigned(count));                                      \
    }
FOR_EACH_FLOAT(EXPORT)
