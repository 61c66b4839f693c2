// Rotary positions, cache update and attention of a decoder's step in one launch: `rope_update` of
// rope.cu and `decode_cached_attention`, for one query and one row of a cache, whose slots are in order.
//
// A block of a group of heads rotates the group's queries and its new key while the tiles of older
// keys are loaded; this rarely takes more threads than it has. Tiles include the old contents of
// the new token's slot; the warp with that tile replaces them by the new key and value, from shared
// memory. The first of the blocks with the same keys writes both to the cache. Compared with the
// two kernels, this saves a launch and a round trip to memory; results are equal in all bits.
//
// With few keys, its time is that of its instructions, most of which are executed once, by one warp
// per scheduler (an H100: 7.4 us by the general source of keys of `decode_cached_attention`, which
// 64-bit divisions and all kinds of caches make long). So everything that is constant here is so for
// the compiler, and what depends on memory alone is loaded first: with a single part and no window,
// the first keys, too, for which the position need not be known. Before the previous kernel has
// ended, keys and values are fetched to the L2 cache, which changes nothing that can be read: those
// that each block loads first, for all of a long cache would drive out what is not yet read.
#include <following.cuh>

#include "decode_attention.cuh"
#include "rope.cuh"

constexpr int FETCHED = 128;  // bytes of a cache line

template <class T, int HEAD> struct RotatedQueries {
    static constexpr int N = 8, PIECES = HEAD / N, OF_HEAD = PIECES / 2;  // OF_HEAD threads for a head
    const T *q, *k, *v, *cos, *sin;
    int q_head, half, heads;  // `heads` of the group
    bool interleaved;
    uint4 (&fresh)[2][PIECES];
    T *keys, *values;    // of the key's head, all slots
    int room, slot = 0;  // so many, and the new token's; it may count from the end
    // A thread's piece of a head, or after the heads of the key; its loads, up to four.
    int of, at, count;
    const T* from[4];

    __device__ T* row(int which) const { return reinterpret_cast<T*>(fresh[which]); }

    // Four loads of this thread alone, 32 apart. They are in the second tiles of its warp, which come
    // later: three blocks of 128 columns would not fit an H100 with an array for this.
    __device__ static uint4* room_for_loads(T* tile) {
        const int lane = threadIdx.x % 32;
        if constexpr (places_of_tiles<HEAD> == 2) {
            static_assert(2 * KEYS_OF_WARP * pitch<HEAD> * sizeof(T) >= 4 * 32 * sizeof(uint4));
            T* const second = tiles_of_warp<HEAD>(tile) + 2 * KEYS_OF_WARP * pitch<HEAD>;
            return reinterpret_cast<uint4*>(second) + lane;
        } else {
            __shared__ uint4 loads[WARPS][4 * 32];
            return loads[threadIdx.x / 32] + lane;
        }
    }
    __device__ Pairs<N, T> pairs() const { return {at * N, half, interleaved}; }
    __device__ int turned() const { return (HEAD - half) / N; }  // pieces of a vector: pairs, and what is copied
    __device__ void find() {
        const T* const x = of < heads ? q + of * q_head : k;
        from[0] = x + pairs().first(), from[1] = x + pairs().second();
        from[2] = cos + at * N, from[3] = sin + at * N;
        count = of > heads || at >= turned() ? 0 : pairs().is_copied() ? 1 : 4;
    }
    // Finds the first piece, before it may be read.
    __device__ void prepare() {
        of = threadIdx.x / OF_HEAD, at = threadIdx.x % OF_HEAD;
        if (THREADS % OF_HEAD && of == THREADS / OF_HEAD) of = heads + 1;  // too few threads: they have none
        v += threadIdx.x * N, find();
        compute_now(v), compute_now(count);
#pragma unroll
        for (int i = 0; i < 4; i++) compute_now(from[i]);
        __syncwarp();  // the compiler moves nothing across this
    }
    __device__ void copy(uint4* loads) const {
        if (count) cp_async(loads, from[0]);
        if (count == 4)
#pragma unroll
            for (int i = 1; i < 4; i++) cp_async(loads + 32 * i, from[i]);
    }
    // Starts to load the new value and the first piece.
    __device__ void begin(T* tile) const {
        copy(room_for_loads(tile));
        if (threadIdx.x < PIECES) cp_async(row(1) + threadIdx.x * N, v);
        cp_async_commit();
    }
    template <class F> __device__ void load(T* tile, int, int, F load_keys) {
        uint4* const loads = room_for_loads(tile);
        load_keys();  // two groups of copies
        compute_now(slot);
        if (slot < 0 || slot >= room) slot = (slot % room + room) % room;
        cp_async_wait<2>();
#pragma unroll 1
        while (true) {
            if (count) {
                const auto part = [&](int i) { return reinterpret_cast<const T*>(loads + 32 * i); };
                pairs().turn(part(0), part(1), part(2), part(3), of < heads ? tile + of * pitch<HEAD> : row(0));
            }
            at += OF_HEAD;
            if (at >= turned()) at = threadIdx.x % OF_HEAD, of += THREADS / OF_HEAD;
            if (of > heads) break;
            find(), copy(loads);
            cp_async_commit(), cp_async_wait<0>();
        }
    }
    __device__ void store() const {
        if (blockIdx.z || threadIdx.x >= 2 * PIECES) return;
        const int which = threadIdx.x / PIECES, at = threadIdx.x % PIECES;
        reinterpret_cast<uint4*>((which ? values : keys) + Int(slot) * HEAD)[at] = fresh[which][at];
    }
    // Of a tile of the keys from `key` on, which ends before `until`.
    __device__ void put(T* tile, int key, int until, int which) const {
        const int of_tile = slot - key, lane = threadIdx.x % 32;
        if (of_tile < 0 || of_tile >= min(KEYS_OF_WARP, until - key)) return;
        if (lane < PIECES)
            store_pack(tile + of_tile * pitch<HEAD> + lane * N, load_pack<N>(row(which) + lane * N));
        __syncwarp();
    }
    __device__ void put_key(T* tile, int key, int until) const { put(tile, key, until, 0); }
    __device__ void put_value(T* tile, int key, int until) const { put(tile, key, until, 1); }
};

// The slots of a row of a cache, one after the other, that a query at `newest` sees.
template <class T, int HEAD> struct SlotsInOrder {
    const T *keys, *values;  // of the group's head
    int newest, extent, window;

    __device__ void narrow(int, int, Int& begin, Int& end) {
        compute_now(newest);  // not earlier: it may not have come
        end = max(0, min(extent, newest + 1));
        begin = window ? min(int(end), max(0, newest - window + 1)) : 0;
    }
    __device__ Int at(int) const { return 0; }
    template <int, int ROOM, int BY, class F>
    __device__ void load_keys(T* tile, int key, int count, F) const {
        load_rows_apart<HEAD, ROOM, BY, 4>(tile, count, HEAD, keys + Int(key) * HEAD, HEAD);
    }
    template <int, int ROOM, int BY, class F>
    __device__ void load_values(T* tile, int key, int count, F) const {
        load_rows_apart<HEAD, ROOM, BY, 4>(tile, count, HEAD, values + Int(key) * HEAD, HEAD);
    }
    __device__ void seen_by_all(int, int, int& from, int& until) const { from = 0, until = extent; }
    template <int M, int COUNT>
    __device__ void mask(float (&score)[M][COUNT][4], int, int key, int until) const {
        const int last = until - key - int(threadIdx.x) % 4 * 2;
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int n = 0; n < COUNT; n++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    if (8 * n + i % 2 >= last) score[m][n][i] = -infinity<float>();
    }
};

// The rows of queries that are not there, as zeros.
template <class T, int HEAD> __device__ void clear_rows(T* tile, int first) {
    constexpr int PIECES = HEAD / 8;
    for (int i = first * PIECES + threadIdx.x; i < 16 * PIECES; i += THREADS)
        *reinterpret_cast<uint4*>(tile + i / PIECES * pitch<HEAD> + i % PIECES * 8) = uint4{0, 0, 0, 0};
}

#define ATTEND(HEAD, BLOCKS, NAME, T)                                                               \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS > 3 ? 3 : BLOCKS)                      \
        rope_attention_##HEAD##_##NAME(                                                             \
        const T* q, Int q_head, const T* k, Int k_head, const T* v, Int v_head, const T* cos,       \
        const T* sin, Int half, Int interleaved, const Int* at, T* keys, T* values, Int room,       \
        const Int* position, Int window, T* out, float* partial, Int parts, Int heads,              \
        Int key_heads, Int extent, double scale, double softcap) {                                  \
        extern __shared__ uint4 memory[];                                                           \
        __shared__ uint4 fresh[2][HEAD / 8];                                                        \
        trigger_next_kernel();                                                                      \
        const Problem p = problem_of_cache(heads, key_heads, 1, extent, HEAD, HEAD, scale, softcap); \
        const Group group(p);                                                                       \
        const int of_group = p.heads_of_group();                                                    \
        const Int of_head = group.key_head * room * HEAD;                                           \
        keys += of_head, values += of_head;                                                         \
        clear_rows<T, HEAD>(reinterpret_cast<T*>(memory), of_group);                                \
        int from, until;                                                                            \
        const Int oldest = window ? max(Int(0), extent - window) : 0;                               \
        part_of_keys<KEYS_OF_BLOCK>(oldest, extent, parts, from, until);                            \
        until = min(until, from + (parts == 1 ? 4 : 2) * KEYS_OF_BLOCK);                            \
        constexpr int KEYS = FETCHED / (HEAD * sizeof(T)) > 0 ? FETCHED / (HEAD * sizeof(T)) : 1;   \
        for (int key = from + threadIdx.x * KEYS; key < until; key += THREADS * KEYS)               \
            for (int byte = 0; byte < int(HEAD * sizeof(T)); byte += FETCHED) {                     \
                fetch_to_l2(reinterpret_cast<const char*>(keys + Int(key) * HEAD) + byte);          \
                fetch_to_l2(reinterpret_cast<const char*>(values + Int(key) * HEAD) + byte);        \
            }                                                                                       \
        RotatedQueries<T, HEAD> of_q{                                                               \
            q + group.key_head * of_group * q_head, k + group.key_head * k_head,                    \
            v + group.key_head * v_head, cos, sin, int(q_head), int(half), of_group,                \
            interleaved != 0, fresh, keys, values, int(room)};                                      \
        of_q.prepare();                                                                             \
        wait_for_previous_kernel();                                                                 \
        const int newest = int(*static_cast<const volatile Int*>(position));                        \
        of_q.slot = int(*static_cast<const volatile Int*>(at));                                     \
        of_q.begin(reinterpret_cast<T*>(memory));                                                   \
        const SlotsInOrder<T, HEAD> source{keys, values, newest, int(extent), int(window)};         \
        const Results<T> results{out, nullptr, nullptr, partial, parts};                            \
        decode<T, HEAD, true>(of_q, source, group, results, memory);                                    \
    }
#define EXPORT(NAME, T) EACH_HEAD(ATTEND, NAME, T)
FOR_EACH_HALF(EXPORT)
