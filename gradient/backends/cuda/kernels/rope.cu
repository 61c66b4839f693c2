// Rotary positions (Su et al. 2021, section 3.4): pairs of a row's first 2 * half numbers are rotated,
// the others are copied.
//
//     out[a] = x[a] cos[i] - x[b] sin[i],  out[b] = x[b] cos[i] + x[a] sin[i]
//
// with (a, b) = (i, i + half), or (2 i, 2 i + 1) where interleaved. One thread for a pair or for a number
// that is copied. Each number is read and written once. Grid: one block a row.
#include "numbers.cuh"

// x (B, H, T, D) and cos, sin (B, H, T, half) by strides in elements (0 along axes that are
// broadcast); out has no gaps.
template <class T>
__device__ void rope(const T* x, const T* cos, const T* sin, T* out, Int heads, Int length,
                     Int width, Int half, Int x_batch, Int x_head, Int x_row, Int angle_batch,
                     Int angle_head, Int angle_row, Int interleaved) {
    typedef computed<T> A;
    Int row = blockIdx.x, t = row % length, h = row / length % heads, b = row / length / heads;
    x += b * x_batch + h * x_head + t * x_row;
    cos += b * angle_batch + h * angle_head + t * angle_row;
    sin += b * angle_batch + h * angle_head + t * angle_row;
    out += row * width;
    for (Int i = threadIdx.x; i < width - half; i += blockDim.x) {
        if (i >= half) {
            out[i + half] = x[i + half];
            continue;
        }
        Int first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + half;
        A a = A(x[first]), c = A(x[second]), cosine = A(cos[i]), sine = A(sin[i]);
        out[first] = T(a * cosine - c * sine);
        out[second] = T(c * cosine + a * sine);
    }
}

#define EXPORT(NAME, T)                                                                         \
    extern "C" __global__ void rope_##NAME(                                                     \
        const T* x, const T* cos, const T* sin, T* out, Int heads, Int length, Int width,       \
        Int half, Int x_batch, Int x_head, Int x_row, Int angle_batch, Int angle_head,          \
        Int angle_row, Int interleaved) {                                                       \
        rope(x, cos, sin, out, heads, length, width, half, x_batch, x_head, x_row, angle_batch, \
             angle_head, angle_row, interleaved);                                               \
    }
FOR_EACH_FLOAT(EXPORT)
