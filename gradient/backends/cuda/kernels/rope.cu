// Rotary positions (Su et al. 2021, section 3.4): pairs of a row's first 2 * half numbers are rotated,
// the others are copied.
//
//     out[a] = x[a] cos[i] - x[b] sin[i],  out[b] = x[b] cos[i] + x[a] sin[i]
//
// with (a, b) = (i, i + half), or (2 i, 2 i + 1) where interleaved. Each number is read and written once,
// N at a time: 16 bytes, where rows are aligned so, or one. Grid: a thread for N pairs, or for N numbers
// that are copied.
#include "rows.cuh"

template <int N, class T> __device__ inline void store_pack(T* at, const Pack<T, N>& pack) {
    *reinterpret_cast<Pack<T, N>*>(at) = pack;
}

// x (B, H, T, D) and cos, sin (B, H, T, half) by strides in elements (0 along axes that are
// broadcast); out has no gaps.
template <int N, class T>
__device__ void rope(const T* x, const T* cos, const T* sin, T* out, Int rows, Int heads, Int length,
                     Int width, Int half, Int x_batch, Int x_head, Int x_row, Int angle_batch,
                     Int angle_head, Int angle_row, Int interleaved) {
    typedef computed<T> A;
    const Int item = Int(blockIdx.x) * blockDim.x + threadIdx.x, packs = (width - half) / N;
    const Int row = item / packs, i = item % packs * N;
    if (row >= rows) return;
    const Int t = row % length, h = row / length % heads, b = row / length / heads;
    const Int angle = b * angle_batch + h * angle_head + t * angle_row + i;
    x += b * x_batch + h * x_head + t * x_row;
    out += row * width;
    if (i >= half) {
        store_pack(out + i + half, load_pack<N>(x + i + half));
        return;
    }
    const Int first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + N : i + half;
    const auto low = load_pack<N>(x + first), high = load_pack<N>(x + second);
    const auto cosines = load_pack<N>(cos + angle), sines = load_pack<N>(sin + angle);
    Pack<T, N> out_low, out_high;
#pragma unroll
    for (int k = 0; k < N; k++) {
        // Interleaved, pair k is at 2 k and 2 k + 1 of the 2 N numbers.
        const auto at = [&](int n) { return n < N ? low.values[n] : high.values[n - N]; };
        const A a = A(interleaved ? at(2 * k) : low.values[k]);
        const A c = A(interleaved ? at(2 * k + 1) : high.values[k]);
        const A cosine = A(cosines.values[k]), sine = A(sines.values[k]);
        const T turned = T(a * cosine - c * sine), other = T(c * cosine + a * sine);
        if (!interleaved) {
            out_low.values[k] = turned, out_high.values[k] = other;
        } else if (2 * k + 1 < N) {
            out_low.values[2 * k] = turned, out_low.values[2 * k + 1] = other;
        } else if (2 * k >= N) {
            out_high.values[2 * k - N] = turned, out_high.values[2 * k + 1 - N] = other;
        } else {  // of one number
            out_low.values[0] = turned, out_high.values[0] = other;
        }
    }
    store_pack(out + first, out_low), store_pack(out + second, out_high);
}

#define EXPORT(NAME, T)                                                                         \
    extern "C" __global__ void rope_##NAME(                                                     \
        const T* x, const T* cos, const T* sin, T* out, Int rows, Int heads, Int length,        \
        Int width, Int half, Int x_batch, Int x_head, Int x_row, Int angle_batch,               \
        Int angle_head, Int angle_row, Int interleaved, Int in_packs) {                         \
        if (in_packs)                                                                           \
            rope<16 / sizeof(T)>(x, cos, sin, out, rows, heads, length, width, half, x_batch,   \
                                 x_head, x_row, angle_batch, angle_head, angle_row,             \
                                 interleaved);                                                  \
        else                                                                                    \
            rope<1>(x, cos, sin, out, rows, heads, length, width, half, x_batch, x_head, x_row, \
                    angle_batch, angle_head, angle_row, interleaved);                           \
    }
FOR_EACH_FLOAT(EXPORT)
