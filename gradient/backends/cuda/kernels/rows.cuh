// How threads divide the elements of arrays, and how the threads of a block sum their results.
#pragma once
#include "numbers.cuh"

// A kernel with a block for each row, of up to 1024 threads (`block_of`), so at most 64 registers per
// thread.
#define ROW_KERNEL extern "C" __global__ void __launch_bounds__(1024, 1)

template <int N, class T> __device__ inline Pack<T, N> load_pack(const T* at) {
    return *reinterpret_cast<const Pack<T, N>*>(at);
}

template <int N, class T> __device__ inline bool is_aligned(const T* row) {
    return reinterpret_cast<unsigned long long>(row) % (N * sizeof(T)) == 0;
}

// A row, or null, which stands for `otherwise` in each column. It is loaded like other rows.
template <class T> struct Or {
    const T* at;
    T otherwise;
    __device__ Or operator+(Int i) const { return {at ? at + i : at, otherwise}; }
    __device__ T operator[](Int i) const { return at ? at[i] : otherwise; }
};

template <int N, class T> __device__ inline Pack<T, N> load_pack(Or<T> row) {
    if (row.at) return load_pack<N>(row.at);
    Pack<T, N> pack;
#pragma unroll
    for (int k = 0; k < N; k++) pack.values[k] = row.otherwise;
    return pack;
}

template <int N, class T> __device__ inline bool is_aligned(Or<T> row) {
    return is_aligned<N>(row.at);  // as null is
}

// f(index, value, ...) for each element of the packs at `first`. (A separate function, because
// NVRTC 13.0 takes a generic lambda in a template for host code.)
template <class T, int N, class F, class... Packs>
__device__ inline void each_in_packs(Int first, F f, const Packs&... packs) {
#pragma unroll
    for (int k = 0; k < N; k++) f(first + k, computed<T>(packs.values[k])...);
}

template <class T, int N, class F, class... Packs>
__device__ inline Pack<T, N> map_packs(Int first, F f, const Packs&... packs) {
    Pack<T, N> made;
#pragma unroll
    for (int k = 0; k < N; k++) made.values[k] = T(f(first + k, computed<T>(packs.values[k])...));
    return made;
}

// How many numbers precede the next multiple of 16 bytes.
template <class T> __device__ inline Int before_load(const T* at) {
    return (16 - reinterpret_cast<unsigned long long>(at) % 16) % 16 / sizeof(T);
}

// Calls f(index, value, ...) for this thread's elements of the arrays: it is thread `first` of
// `step` threads that divide `count` elements. Loads have 16 bytes if all arrays are aligned alike;
// with one array, up to four of them are in flight.
template <class F, class T, class... More>
__device__ void each_element(Int first, Int step, Int count, F f, const T* x, More... more) {
    constexpr int N = 16 / sizeof(T);
    const Int head = min(before_load(x), count);
    Int done = 0;
    if ((is_aligned<N>(more + head) && ... && true)) {
        for (Int i = first; i < head; i += step) f(i, computed<T>(x[i]), computed<T>(more[i])...);
        done = head + (count - head) / N * N;
        Int i = head + first * N;
        if constexpr (sizeof...(More) == 0) {
            constexpr int MANY = sizeof(T) <= 4 ? 4 : AFTER_HOPPER ? 1 : 2;
            for (; i + (MANY - 1) * step * N < done; i += MANY * step * N) {
                Pack<T, N> packs[MANY];
#pragma unroll
                for (int k = 0; k < MANY; k++) packs[k] = load_pack<N>(x + i + k * step * N);
#pragma unroll
                for (int k = 0; k < MANY; k++) each_in_packs<T, N>(i + k * step * N, f, packs[k]);
            }
        }
        for (; i < done; i += step * N)
            each_in_packs<T, N>(i, f, load_pack<N>(x + i), load_pack<N>(more + i)...);
    }
    for (Int i = done + first; i < count; i += step)
        f(i, computed<T>(x[i]), computed<T>(more[i])...);
}

// out[index] = f(index, value, ...), rounded once, for this thread's elements.
template <class F, class T, class... More>
__device__ void map_elements(Int first, Int step, Int count, T* out, F f, const T* x,
                             More... more) {
    constexpr int N = 16 / sizeof(T);
    const Int head = min(before_load(out), count);
    Int done = 0;
    if (is_aligned<N>(x + head) && (is_aligned<N>(more + head) && ... && true)) {
        for (Int i = first; i < head; i += step)
            out[i] = T(f(i, computed<T>(x[i]), computed<T>(more[i])...));
        done = head + (count - head) / N * N;
        Int i = head + first * N;
        if constexpr (sizeof...(More) == 0 && !(AFTER_HOPPER && sizeof(T) > 4)) {
            for (; i + step * N < done; i += 2 * step * N) {
                const Pack<T, N> a = load_pack<N>(x + i), b = load_pack<N>(x + i + step * N);
                *reinterpret_cast<Pack<T, N>*>(out + i) = map_packs<T, N>(i, f, a);
                *reinterpret_cast<Pack<T, N>*>(out + i + step * N) = map_packs<T, N>(i + step * N, f, b);
            }
        }
        for (; i < done; i += step * N)
            *reinterpret_cast<Pack<T, N>*>(out + i) =
                map_packs<T, N>(i, f, load_pack<N>(x + i), load_pack<N>(more + i)...);
    }
    for (Int i = done + first; i < count; i += step)
        out[i] = T(f(i, computed<T>(x[i]), computed<T>(more[i])...));
}

// The same for the columns of a row that one block computes.
template <class F, class T, class... More>
__device__ void each_column(Int columns, F f, const T* row, More... more) {
    each_element(threadIdx.x, blockDim.x, columns, f, row, more...);
}

template <class F, class T, class... More>
__device__ void map_columns(Int columns, T* out, F f, const T* row, More... more) {
    map_elements(threadIdx.x, blockDim.x, columns, out, f, row, more...);
}

// How kernels pass over a row several times. ByCache reads it again, for rows of any length.
struct ByCache {
    template <class T> static __device__ const T* hold(const T* row, Int) { return row; }
    template <class F, class... Rows> static __device__ void each(Int columns, F f, Rows... rows) {
        each_column(columns, f, rows...);
    }
    template <class F, class T, class... Rows>
    static __device__ void map(Int columns, T* out, F f, Rows... rows) {
        map_columns(columns, out, f, rows...);
    }
};

// ByRegisters loads a thread's packs once and keeps HELD of them: blocks of up to 512 threads, of
// 128 registers, take rows of up to 2048 packs of 16 bytes, aligned at both ends.
constexpr int HELD = 4;
#define HELD_ROW_KERNEL extern "C" __global__ void __launch_bounds__(512, 1)
template <class T> struct Held {
    static constexpr int N = 16 / sizeof(T);
    Pack<T, N> packs[HELD];
    static __device__ int place(int i) { return (threadIdx.x + i * blockDim.x) * N; }
};

template <class T> __device__ inline Pack<T, 16 / sizeof(T)> pack_of(const Held<T>& row, int i) {
    return row.packs[i];
}
template <class T> __device__ inline Pack<T, 16 / sizeof(T)> pack_of(Or<T> row, int i) {
    return load_pack<16 / sizeof(T)>(row + Held<T>::place(i));
}

struct ByRegisters {
    template <class T> static __device__ Held<T> hold(const T* row, Int columns) {
        Held<T> held;
#pragma unroll
        for (int i = 0; i < HELD; i++)
            if (Held<T>::place(i) < columns) held.packs[i] = load_pack<Held<T>::N>(row + Held<T>::place(i));
        return held;
    }
    template <class F, class T, class... Rows>
    static __device__ void each(Int columns, F f, const Held<T>& row, const Rows&... rows) {
#pragma unroll
        for (int i = 0; i < HELD; i++)
            if (Held<T>::place(i) < columns)
                each_in_packs<T, Held<T>::N>(Held<T>::place(i), f, row.packs[i], pack_of(rows, i)...);
    }
    template <class F, class T, class... Rows>
    static __device__ void map(Int columns, T* out, F f, const Rows&... rows) {
#pragma unroll
        for (int i = 0; i < HELD; i++)
            if (Held<T>::place(i) < columns)
                *reinterpret_cast<Pack<T, Held<T>::N>*>(out + Held<T>::place(i)) =
                    map_packs<T, Held<T>::N>(Held<T>::place(i), f, pack_of(rows, i)...);
    }
};

// The reduction of all threads' `value` in the block; every thread gets the result. The block has
// whole warps. `identity` stands for missing warps.
template <class V, class F> __device__ V block_reduce(V value, V identity, F combine) {
    __shared__ V of_warp[32];
    const unsigned all = 0xffffffffu;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int distance = 16; distance > 0; distance /= 2)
        value = combine(value, value.from_lane_xor(all, distance));
    if (lane == 0) of_warp[warp] = value;
    __syncthreads();
    value = lane < warps ? of_warp[lane] : identity;
    for (int distance = 16; distance > 0; distance /= 2)
        value = combine(value, value.from_lane_xor(all, distance));
    __syncthreads();  // of_warp may be overwritten
    return value;
}

// One or two numbers that are summed together.
template <class A> struct Sums {
    A a, b;
    __device__ Sums from_lane_xor(unsigned mask, int distance) const {
        return {__shfl_xor_sync(mask, a, distance), __shfl_xor_sync(mask, b, distance)};
    }
};

template <class A> __device__ Sums<A> block_sums(A a, A b) {
    return block_reduce(Sums<A>{a, b}, Sums<A>{0, 0},
                        [](Sums<A> x, Sums<A> y) { return Sums<A>{x.a + y.a, x.b + y.b}; });
}

template <class A> __device__ A block_sum(A value) { return block_sums(value, A(0)).a; }

// A block's maximum or minimum; NaN counts as both.
template <class A> struct Extreme {
    A of;
    __device__ Extreme from_lane_xor(unsigned mask, int distance) const {
        return {__shfl_xor_sync(mask, of, distance)};
    }
};

template <class A> __device__ A larger(A x, A y) { return x > y || x != x ? x : y; }
template <class A> __device__ A smaller(A x, A y) { return x < y || x != x ? x : y; }

template <class A> __device__ A block_max(A value) {
    typedef Extreme<A> E;
    return block_reduce(E{value}, E{-infinity<A>()}, [](E x, E y) { return E{larger(x.of, y.of)}; }).of;
}

template <class A> __device__ A block_min(A value) {
    typedef Extreme<A> E;
    return block_reduce(E{value}, E{infinity<A>()}, [](E x, E y) { return E{smaller(x.of, y.of)}; }).of;
}
