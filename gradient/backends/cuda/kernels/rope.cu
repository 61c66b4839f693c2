// Rotary positions (Su et al. 2021, section 3.4): pairs of a row's first 2 * half numbers are rotated,
// the others are copied.
//
//     out[a] = x[a] cos[i] - x[b] sin[i],  out[b] = x[b] cos[i] + x[a] sin[i]
//
// with (a, b) = (i, i + half), or (2 i, 2 i + 1) if interleaved. Each number is read and written once, N
// at a time: 16 bytes if rows are aligned, else one. Grid: a thread for N pairs, or for N numbers that
// are copied.
#include <following.cuh>

#include "rope.cuh"

// x (B, H, T, D) and cos, sin (B, H, T, half) by strides in elements (0 along axes that are
// broadcast); out has no gaps.
template <int N, class T>
__device__ void rope(const T* x, const T* cos, const T* sin, T* out, Int rows, Int heads, Int length,
                     Int width, Int half, Int x_batch, Int x_head, Int x_row, Int angle_batch,
                     Int angle_head, Int angle_row, Int interleaved) {
    const Int item = Int(blockIdx.x) * blockDim.x + threadIdx.x, packs = (width - half) / N;
    const Int row = item / packs, i = item % packs * N;
    if (row >= rows) return;
    const Int t = row % length, h = row / length % heads, b = row / length / heads;
    const Int angle = b * angle_batch + h * angle_head + t * angle_row;
    turn<N>(x + b * x_batch + h * x_head + t * x_row, cos + angle, sin + angle, out + row * width, i,
            half, interleaved);
}

// An array (B, H, T, width) with strides in elements, and its number of heads.
template <class T> struct Heads {
    const T* at;
    Int heads, of_batch, of_head, of_row;
    __device__ const T* row(int b, int h, int t) const { return at + b * of_batch + h * of_head + t * of_row; }
};

// Indices (B, T) with strides (0 along broadcast axes); negative ones count from the end.
struct Places {
    const Int* at;
    Int of_batch, of_row, size;
    __device__ Int place(int b, int t) const {
        const Int found = at[b * of_batch + t * of_row] % size;
        return found < 0 ? found + size : found;
    }
};

// Rotates q and k, and writes k and v to the cache (rows, heads, slots, width or v_width). Bytes:
// q, k, v are read once and written once. Grid: (blocks of packs of a token's rows, T, B). cos, sin
// (B, 1, T, half).
template <int N, class T>
__device__ void rope_update(const Heads<T>& q, const Heads<T>& k, const Heads<T>& v, const T* cos,
                            const T* sin, T* out, T* keys, T* values, const Places& rows,
                            const Places& slots, Int length, int width, int v_width, int half,
                            Int angle_batch, Int angle_row, Int interleaved) {
    trigger_next_kernel();
    wait_for_previous_kernel();
    const int t = blockIdx.y, b = blockIdx.z, packs = (width - half) / N, v_packs = v_width / N;
    const int of_q = int(q.heads) * packs, of_k = int(k.heads) * packs;
    int item = blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= of_q + of_k + int(v.heads) * v_packs) return;
    const Int angle = b * angle_batch + t * angle_row;
    if (item < of_q) {
        const int h = item / packs;
        turn<N>(q.row(b, h, t), cos + angle, sin + angle, out + ((b * q.heads + h) * length + t) * width,
                item % packs * N, half, interleaved);
        return;
    }
    item -= of_q;
    const Int row = rows.place(b, t), slot = slots.place(b, t);
    if (item < of_k) {
        const int h = item / packs;
        turn<N>(k.row(b, h, t), cos + angle, sin + angle,
                keys + ((row * k.heads + h) * slots.size + slot) * width, item % packs * N, half,
                interleaved);
        return;
    }
    item -= of_k;
    const int h = item / v_packs, i = item % v_packs * N;
    store_pack(values + ((row * v.heads + h) * slots.size + slot) * v_width + i,
               load_pack<N>(v.row(b, h, t) + i));
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
    }                                                                                           \
    extern "C" __global__ void rope_update_##NAME(                                              \
        const T* q, Int q_heads, Int q_batch, Int q_head, Int q_row, const T* k, Int k_heads,   \
        Int k_batch, Int k_head, Int k_row, const T* v, Int v_heads, Int v_batch, Int v_head,   \
        Int v_row, const T* cos, const T* sin, T* out, T* keys, T* values, const Int* rows,     \
        Int rows_batch, Int rows_row, Int rows_size, const Int* slots, Int slots_batch,         \
        Int slots_row, Int slots_size, Int length, Int width, Int v_width, Int half,            \
        Int angle_batch, Int angle_row, Int interleaved, Int in_packs) {                        \
        const Heads<T> of_q{q, q_heads, q_batch, q_head, q_row};                                \
        const Heads<T> of_k{k, k_heads, k_batch, k_head, k_row};                                \
        const Heads<T> of_v{v, v_heads, v_batch, v_head, v_row};                                \
        const Places of_rows{rows, rows_batch, rows_row, rows_size};                            \
        const Places of_slots{slots, slots_batch, slots_row, slots_size};                       \
        if (in_packs)                                                                           \
            rope_update<16 / sizeof(T)>(of_q, of_k, of_v, cos, sin, out, keys, values, of_rows, \
                                        of_slots, length, int(width), int(v_width), int(half),  \
                                        angle_batch, angle_row, interleaved);                   \
        else                                                                                    \
            rope_update<1>(of_q, of_k, of_v, cos, sin, out, keys, values, of_rows, of_slots,    \
                           length, int(width), int(v_width), int(half), angle_batch, angle_row, \
                           interleaved);                                                        \
    }
FOR_EACH_FLOAT(EXPORT)
