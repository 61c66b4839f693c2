// argmax and argmin: the first index of a line's largest number, or smallest; NaN counts as both.
//
//     argmax_rows      of each part of a row; indices count from the row's start
//     argmax_of_parts  of the results of a row's parts
//     argmax_columns   along the middle axis of x (outer, lines, inner)
//
// A thread keeps the pack of 16 bytes with its largest number, by one maximum for two 16-bit numbers.
// Only threads that have the block's largest number look for its place. So it does not matter in which
// order packs are compared. The smallest is the largest of -x.
// Bytes: each number is read once; in rows, a thread has four loads of 16 bytes in flight.
// Grid: argmax_rows: one block per part; argmax_of_parts: one per row; argmax_columns: one block of
// 32 x 8 threads per 32 neighbours along the inner axis.
#include <following.cuh>

#include "rows.cuh"

template <class A> __device__ inline bool is_above(A x, A y) {
    return !(x <= y) && y == y;
}

// Unsigned integers in the order of numbers; the last one for any NaN, and one for both zeros.
__device__ inline unsigned ordered(float x) {
    const unsigned bits = __float_as_uint(x + 0.0f);
    return x != x ? ~0u : bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ inline unsigned long long ordered(double x) {
    const unsigned long long bits = __double_as_longlong(x + 0.0);
    return x != x ? ~0ull : bits >> 63 ? ~bits : bits | 1ull << 63;
}

template <class K> __device__ inline K warp_max(K key) {
    for (int distance = 16; distance > 0; distance /= 2)
        key = max(key, __shfl_xor_sync(0xffffffffu, key, distance));
    return key;
}
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
template <> __device__ inline unsigned warp_max(unsigned key) {
    return __reduce_max_sync(0xffffffffu, key);
}
#endif

// 16 bytes of numbers, in four registers.
template <class T> struct alignas(16) Words {
    static constexpr int N = 16 / sizeof(T);
    unsigned of[4];

    static __device__ Words load(const T* at) { return as<Words>(load_pack<N>(at)); }
    static __device__ Words repeated(T x) {
        Pack<T, N> made;
#pragma unroll
        for (int k = 0; k < N; k++) made.values[k] = x;
        return as<Words>(made);
    }
    template <class To, class From> static __device__ To as(const From& x) {
        static_assert(sizeof(To) == sizeof(From), "the same bits");
        return *reinterpret_cast<const To*>(&x);
    }
    __device__ computed<T> operator[](int k) const {
        return computed<T>(as<Pack<T, N>>(*this).values[k]);
    }
    // The numbers with the other sign.
    __device__ Words negated() const {
        Words made;
#pragma unroll
        for (int k = 0; k < 4; k++)
            made.of[k] = of[k] ^ (sizeof(T) == 2 ? 0x80008000u : sizeof(T) == 4 || k % 2 ? 0x80000000u : 0u);
        return made;
    }
    // The largest; NaN if one is NaN.
    __device__ computed<T> largest() const {
        computed<T> best = (*this)[0];
#pragma unroll
        for (int k = 1; k < N; k++) best = larger(best, (*this)[k]);
        return best;
    }
};
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
template <class Two> struct Pairs { Two of[4]; };
template <class Two> __device__ inline float largest_of(const Pairs<Two>& x) {
    const Two two = __hmax2_nan(__hmax2_nan(x.of[0], x.of[1]), __hmax2_nan(x.of[2], x.of[3]));
    return float(__hmax_nan(two.x, two.y));
}
template <> __device__ inline float Words<__half>::largest() const {
    return largest_of(as<Pairs<__half2>>(*this));
}
template <> __device__ inline float Words<__nv_bfloat16>::largest() const {
    return largest_of(as<Pairs<__nv_bfloat162>>(*this));
}
#endif

// The largest number that a thread has seen, and the 16 bytes with its first one: which begin at `at`.
template <class T> struct Best {
    computed<T> value = -infinity<computed<T>>();
    int at = 0;
    Words<T> words = Words<T>::repeated(T(-infinity<computed<T>>()));

    __device__ void look(Words<T> next, int from, bool smallest) {
        if (smallest) next = next.negated();
        const computed<T> here = next.largest();
        if (is_above(here, value)) value = here, at = from, words = next;
    }
    __device__ void look(T x, int from, bool smallest) {
        look(Words<T>::repeated(x), from, smallest);
    }
    __device__ int place() const {
        int k = Words<T>::N - 1;
#pragma unroll
        for (int i = Words<T>::N - 2; i >= 0; i--)
            if (words[i] == value || words[i] != words[i]) k = i;
        return at + k;
    }
};

// The first place of the largest number that any thread of the block has; -1 if that is -infinity or
// NaN and `or_none`.
template <class T> __device__ int first_of_block(const Best<T>& best, Int or_none) {
    typedef computed<T> A;
    const auto key = ordered(best.value), no_number = ordered(-infinity<A>());
    __shared__ decltype(ordered(A())) of_warp[32];
    __shared__ int first;
    const int lane = threadIdx.x % 32;
    const auto highest_of_warp = warp_max(key);
    if (lane == 0) of_warp[threadIdx.x / 32] = highest_of_warp;
    if (threadIdx.x == 0) first = 0x7fffffff;
    __syncthreads();
    const auto highest = warp_max(lane < blockDim.x / 32 ? of_warp[lane] : no_number);
    if (key == highest) atomicMin(&first, best.place());
    __syncthreads();
    return or_none && (highest == no_number || highest + 1 == 0) ? -1 : first;
}

// The best of one thread's part of `count` numbers, of which `head` precede a multiple of 16 bytes. A
// thread that is beyond the last 16 bytes sees these again.
template <class T> __device__ Best<T> best_of_thread(const T* x, int count, int head, bool smallest) {
    constexpr int N = Words<T>::N, MANY = sizeof(T) <= 4 ? 4 : AFTER_HOPPER ? 1 : 2;
    const int packs = (count - head) / N, step = blockDim.x;
    Best<T> best;
    for (int i = threadIdx.x; i < head; i += step) best.look(x[i], i, smallest);
    for (int i = threadIdx.x; i < packs; i += MANY * step) {
        Words<T> loaded[MANY];
        int from[MANY];
#pragma unroll
        for (int k = 0; k < MANY; k++) {
            from[k] = head + min(i + k * step, packs - 1) * N;
            loaded[k] = Words<T>::load(x + from[k]);
        }
#pragma unroll
        for (int k = 0; k < MANY; k++) best.look(loaded[k], from[k], smallest);
    }
    for (int i = head + packs * N + threadIdx.x; i < count; i += step) best.look(x[i], i, smallest);
    return best;
}

template <class T>
__device__ void argmax_rows(const T* x, Int* out, Int columns, Int of_part, Int parts, Int smallest,
                            Int or_none) {
    trigger_next_kernel();
    const unsigned row = blockIdx.x / unsigned(parts);
    const Int start = Int(blockIdx.x - row * unsigned(parts)) * of_part;
    x += row * columns + start;
    const int count = int(min(of_part, columns - start)), head = min(int(before_load(x)), count);
    if (head < 0) return;  // never, but the compiler has to compute all this before the wait
    wait_for_previous_kernel();
    const int first = first_of_block(best_of_thread(x, count, head, smallest), or_none && parts == 1);
    if (threadIdx.x == 0) out[blockIdx.x] = first < 0 ? -1 : start + first;
}

template <class T>
__device__ void argmax_of_parts(const T* x, const Int* places, Int* out, Int columns, Int parts,
                                Int smallest, Int or_none) {
    trigger_next_kernel();
    wait_for_previous_kernel();
    x += blockIdx.x * columns, places += blockIdx.x * parts;
    Best<T> best;
    for (int part = threadIdx.x; part < parts; part += blockDim.x)
        best.look(x[places[part]], part, smallest);
    const int first = first_of_block(best, or_none);
    if (threadIdx.x == 0) out[blockIdx.x] = first < 0 ? -1 : places[first];
}

template <class A> struct Place {
    A value;
    Int at;  // -1: no number above -infinity found
};

template <class A> __device__ inline Place<A> nowhere() { return {-infinity<A>(), -1}; }

template <class A> __device__ inline Place<A> first_of(Place<A> x, Place<A> y) {
    if (x.at < 0 || y.at < 0) return x.at < 0 ? y : x;
    if (is_above(x.value, y.value)) return x;
    if (is_above(y.value, x.value)) return y;
    return x.at < y.at ? x : y;
}

template <class A> __device__ inline void look(Place<A>& best, A value, Int at) {
    if (is_above(value, best.value)) best = {value, at};
}

constexpr int WIDTH = 32, TALL = 8;

template <class T>
__device__ void argmax_columns(const T* x, Int* out, Int lines, Int inner, Int smallest) {
    typedef computed<T> A;
    __shared__ A values[TALL][WIDTH];
    __shared__ Int places[TALL][WIDTH];
    const Int blocks = (inner + WIDTH - 1) / WIDTH, outer = blockIdx.x / blocks;
    const int lane = threadIdx.x % WIDTH, from = threadIdx.x / WIDTH;
    const Int column = blockIdx.x % blocks * WIDTH + lane;
    Place<A> best = nowhere<A>();
    if (column < inner)
        for (Int line = from; line < lines; line += TALL) {
            const A value = A(x[(outer * lines + line) * inner + column]);
            look(best, smallest ? -value : value, line);
        }
    values[from][lane] = best.value, places[from][lane] = best.at;
    __syncthreads();
    if (from || column >= inner) return;
    for (int k = 1; k < TALL; k++) best = first_of(best, Place<A>{values[k][lane], places[k][lane]});
    out[outer * inner + column] = max(best.at, Int(0));
}

#define EXPORT(NAME, T)                                                                           \
    ROW_KERNEL argmax_rows_##NAME(const T* x, Int* out, Int columns, Int of_part, Int parts,      \
                                  Int smallest, Int or_none) {                                    \
        argmax_rows(x, out, columns, of_part, parts, smallest, or_none);                          \
    }                                                                                             \
    ROW_KERNEL argmax_of_parts_##NAME(const T* x, const Int* places, Int* out, Int columns,       \
                                      Int parts, Int smallest, Int or_none) {                     \
        argmax_of_parts(x, places, out, columns, parts, smallest, or_none);                       \
    }                                                                                             \
    ROW_KERNEL argmax_columns_##NAME(const T* x, Int* out, Int lines, Int inner, Int smallest) {  \
        argmax_columns(x, out, lines, inner, smallest);                                           \
    }
FOR_EACH_FLOAT(EXPORT)
