// im2col: copy windows to the columns of a matrix, for convolutions as products by cuBLAS.
//
//     columns[(c, k) * pitch + n * image_step + q] = x[n, c, place of number k of window q]
//
// and 0 outside of the image; rows after the last (c, k) are 0, too. A thread writes 16 bytes of a row, so
// that neighbouring lanes read neighbouring numbers (with stride 1) and write whole lines.
//
// Bytes: x is read once from memory and taps - 1 times from the cache, columns are written once.
// Grid: (blocks of 256 packs of an image's windows, rows (c, k), images); a block takes more rows and
// images where a grid has not as many blocks.
#include "rows.cuh"
#include "windows.cuh"

// Element `tap` of N windows, of which `count` exist.
template <int N, class T>
__device__ inline Pack<T, N> numbers(const Slide& s, const T* image, Place window, const Place& tap,
                                     unsigned count) {
    Pack<T, N> made;
#pragma unroll
    for (int i = 0; i < N; i++) {
        Place place;
#pragma unroll
        for (int axis = 0; axis < 3; axis++)
            place.at[axis] = window.at[axis] * s.stride[axis] - s.before[axis] + tap.at[axis];
        const bool there = unsigned(i) < count && place.inside(s.size);
        made.values[i] = there ? image[place.offset(s.size)] : T(0.0f);
        if (++window.at[2] < s.windows[2]) continue;
        window.at[2] = 0;
        if (++window.at[1] < s.windows[1]) continue;
        window.at[1] = 0, window.at[0]++;
    }
    return made;
}

// The same for windows in one row of the image, which differ only by their last index.
template <int N, class T>
__device__ inline Pack<T, N> numbers_of_row(const Slide& s, const T* image, const Place& window,
                                            const Place& tap) {
    const int plane = window.at[0] * s.stride[0] - s.before[0] + tap.at[0];
    const int line = window.at[1] * s.stride[1] - s.before[1] + tap.at[1];
    const bool there = unsigned(plane) < unsigned(s.size[0]) && unsigned(line) < unsigned(s.size[1]);
    const T* at = image + (there ? (Int(plane) * s.size[1] + line) * s.size[2] : 0);
    int column = window.at[2] * s.stride[2] - s.before[2] + tap.at[2];
    Pack<T, N> made;
#pragma unroll
    for (int i = 0; i < N; i++, column += s.stride[2])
        made.values[i] = there && unsigned(column) < unsigned(s.size[2]) ? at[column] : T(0.0f);
    return made;
}

template <class T>
__device__ void columns(const T* x, T* out, const Slide& s, Int all_rows, Int pitch, Int image_step) {
    constexpr int N = 16 / sizeof(T);
    const unsigned count = s.windows_of_image(), taps = s.taps(), rows = s.channels * taps;
    const unsigned first = (blockIdx.x * blockDim.x + threadIdx.x) * N;
    if (first >= count) return;
    const Place begin = place_of(first, s.windows);
    for (unsigned row = blockIdx.y; row < all_rows; row += gridDim.y) {
        const Place tap = of_tap(s, row % taps);
        for (unsigned n = blockIdx.z; n < unsigned(s.images); n += gridDim.z) {
            const T* image = x + (Int(n) * s.channels + row / taps) * s.plane();
            const Pack<T, N> made = row < rows && begin.at[2] + N <= s.windows[2]
                                        ? numbers_of_row<N>(s, image, begin, tap)
                                        : numbers<N>(s, image, begin, tap, row < rows ? count - first : 0);
            T* to = out + row * pitch + n * image_step + first;
            if (first + N <= count && is_aligned<N>(to)) {
                *reinterpret_cast<Pack<T, N>*>(to) = made;
            } else {
#pragma unroll
                for (int i = 0; i < N; i++)
                    if (first + i < count) to[i] = made.values[i];
            }
        }
    }
}

#define EXPORT(NAME, T)                                                                          \
    extern "C" __global__ void __launch_bounds__(256) columns_##NAME(                            \
        const T* x, T* out, const __grid_constant__ Slide slide, Int all_rows, Int pitch,        \
        Int image_step) {                                                                        \
        columns(x, out, slide, all_rows, pitch, image_step);                                     \
    }
FOR_EACH_FLOAT(EXPORT)
