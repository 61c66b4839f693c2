// Max pooling of planes, and its gradient.
//
//     y[q] = max of x over window q,  index[q] = where it is in the plane
//     gx[i] = sum of g[q] over the windows q with index[q] = i, in their order
//
// Of equal numbers the first is taken; NaN is the largest, and of several the last is taken; -1 is told
// where a window has nothing of the plane. A thread finds one maximum, or adds up the gradients of one
// number from the few windows that may have it: no atomic additions, so that sums never depend on
// chance. Bytes: x is read once from memory (again from the cache where windows overlap), y and 8 bytes
// of index are written once; g and the indices are read once. Grid: blocks of 256 numbers.
#include "windows.cuh"

template <class T>
__device__ void max_pool(const T* x, T* y, Int* index, const Slide& s, float least) {
    const Int at = Int(blockIdx.x) * blockDim.x + threadIdx.x;
    const unsigned count = s.windows_of_image(), taps = s.taps();
    if (at >= Int(s.images) * count) return;
    const T* plane = x + at / count * s.plane();
    const Place window = of_window(s, at % count);
    Int best = -1;
    computed<T> largest = least;
    for (unsigned k = 0; k < taps; k++) {
        const Place place = window + of_tap(s, k);
        if (!place.inside(s.size)) continue;
        const Int here = place.offset(s.size);
        const computed<T> value = computed<T>(plane[here]);
        if (best < 0 || value > largest || value != value) best = here, largest = value;
    }
    y[at] = T(largest), index[at] = best;
}

template <class T>
__device__ void max_pool_grad(const T* g, const Int* index, T* gx, const Slide& s) {
    const Int at = Int(blockIdx.x) * blockDim.x + threadIdx.x;
    const Int here = at % s.plane(), first = at / s.plane() * s.windows_of_image();
    if (at >= Int(s.images) * s.plane()) return;
    const Place place = place_of(here, s.size);
    computed<T> sum = 0;
    for (int k = s.taps() - 1; k >= 0; k--) {
        Place window;
        if (!window_at(s, place, of_tap(s, k), window)) continue;
        const Int q = first + window.offset(s.windows);
        if (index[q] == here) sum += computed<T>(g[q]);
    }
    gx[at] = T(sum);
}

#define EXPORT(NAME, T)                                                                            \
    extern "C" __global__ void max_pool_##NAME(const T* x, T* y, Int* index,                       \
                                               const __grid_constant__ Slide slide, float least) { \
        max_pool(x, y, index, slide, least);                                                       \
    }                                                                                              \
    extern "C" __global__ void max_pool_grad_##NAME(const T* g, const Int* index, T* gx,           \
                                                    const __grid_constant__ Slide slide) {         \
        max_pool_grad(g, index, gx, slide);                                                        \
    }
FOR_EACH_FLOAT(EXPORT)
