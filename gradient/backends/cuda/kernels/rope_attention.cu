// Rotary positions, cache update and attention of a decoder's step in one launch: `rope_update` of
// rope.cu and `decode_cached_attention`, for one query and one row of a cache.
//
// A block of a group of heads rotates the group's queries and its new key while the tiles of older
// keys are loaded; this takes fewer threads than it has. Tiles include the old contents of the new
// token's slot; the warp with that tile replaces them by the new key and value, from shared memory.
// The first of the blocks with the same keys writes both to the cache. Compared with the two
// kernels, this saves a launch and a round trip to memory; results are equal in all bits.
#include <following.cuh>

#include "decode_attention.cuh"
#include "rope.cuh"

template <class T, int HEAD> struct RotatedQueries {
    static constexpr int N = 8, PIECES = HEAD / N;
    const T *q, *k, *v, *cos, *sin;
    Int q_head, k_head, v_head, half, interleaved;
    T *keys, *values;  // where the new ones are written
    int slot, heads;   // the new token's slot, and the group's heads
    uint4 (&fresh)[2][PIECES];

    __device__ T* row(int which) const { return reinterpret_cast<T*>(fresh[which]); }

    __device__ void begin(T*, int, int) const {}
    __device__ void end(T* tile) const {
        const int turned = (HEAD - int(half)) / N, items = (heads + 1) * turned + PIECES;
        for (int item = threadIdx.x; item < items; item += THREADS) {
            const int head = item / turned, i = item % turned * N;
            if (head < heads) {
                turn<N>(q + head * q_head, cos, sin, tile + head * pitch<HEAD>, i, half, interleaved);
            } else if (head == heads) {
                turn<N>(k, cos, sin, row(0), i, half, interleaved);
            } else {
                const int at = (item - (heads + 1) * turned) * N;
                store_pack(row(1) + at, load_pack<N>(v + at));
            }
        }
    }
    __device__ void store() const {
        if (blockIdx.z || threadIdx.x >= 2 * PIECES) return;
        const int which = threadIdx.x / PIECES, at = threadIdx.x % PIECES * N;
        store_pack((which ? values : keys) + at, load_pack<N>(row(which) + at));
    }
    __device__ void put(T* tile, int key, int which) const {
        const int of_tile = slot - key, lane = threadIdx.x % 32;
        if (of_tile < 0 || of_tile >= KEYS_OF_WARP) return;
        if (lane < PIECES)
            store_pack(tile + of_tile * pitch<HEAD> + lane * N, load_pack<N>(row(which) + lane * N));
        __syncwarp();
    }
    __device__ void put_key(T* tile, int key) const { put(tile, key, 0); }
    __device__ void put_value(T* tile, int key) const { put(tile, key, 1); }
};

#define ATTEND(HEAD, BLOCKS, NAME, T)                                                              \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS > 3 ? 3 : BLOCKS)                     \
        rope_attention_##HEAD##_##NAME(                                                            \
        const T* q, Int q_head, const T* k, Int k_head, const T* v, Int v_head, const T* cos,      \
        const T* sin, Int half, Int interleaved, const Int* at, Int slots_size, CACHE_PARAMETERS,  \
        T* out, float* partial, Int parts, SIZE_PARAMETERS) {                                      \
        extern __shared__ uint4 memory[];                                                          \
        __shared__ uint4 fresh[2][HEAD / 8];                                                       \
        trigger_next_kernel();                                                                      \
        wait_for_previous_kernel();                                                                 \
        SOURCE_OF_CACHE(T)                                                                         \
        const int of_group = p.heads_of_group();                                                   \
        const Int found = *at % slots_size, slot = found < 0 ? found + slots_size : found;         \
        const Int place = (group.key_head * slots_size + slot) * HEAD;                             \
        const RotatedQueries<T, HEAD> of_q{                                                        \
            q + group.key_head * of_group * q_head, k + group.key_head * k_head,                   \
            v + group.key_head * v_head, cos, sin, q_head, k_head, v_head, half, interleaved,      \
            static_cast<T*>(const_cast<void*>(keys)) + place,                                      \
            static_cast<T*>(const_cast<void*>(values)) + place, int(slot), of_group, fresh};       \
        const Results<T> results{out, nullptr, nullptr, partial, parts};                           \
        decode<T, HEAD>(of_q, source, group, results, memory);                                     \
    }
#define EXPORT(NAME, T) EACH_HEAD(ATTEND, NAME, T)
FOR_EACH_HALF(EXPORT)
