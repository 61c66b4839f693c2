// Python's operators, comparisons, `maximum`, `minimum` and `where` on operands that broadcast.
//
//     y = a + b      an operand is an array, or a number of the host (its address is null)
//
// Each has two kernels. `add` takes arrays without gaps, of y's shape, in packs of 16 bytes; `add_strided`
// any strides along few axes, which the host has merged, in packs along the last axis if all operands
// allow it. Each element is read and written once. 16-bit floats are computed in float32 and rounded
// once, to what arithmetic in 16 bits gives. y may be a or b. Grid: any number of blocks.
#include "rows.cuh"

constexpr int MOST_AXES = 4, MOST_OPERANDS = 3;

// Items of y in row-major order: the sizes of axes, the fastest first, and the operands' strides along
// them, in elements.
struct Strides {
    int axes, unused;
    Divisor size[MOST_AXES];
    Int of[MOST_OPERANDS][MOST_AXES];
};

template <class V, int N> struct Values { V of[N]; };

// Operand number I, whose elements are computed as V.
template <int I, class T, class V = computed<T>> struct Operand {
    static constexpr int INDEX = I;
    const T* at;
    V number;
    template <int N> __device__ bool is_aligned_by() const { return is_aligned<N>(at); }
    // N elements side by side, or one of them N times.
    template <int N> __device__ Values<V, N> load(Int i, bool side_by_side) const {
        Values<V, N> values;
        if (at && side_by_side) {
            const Pack<T, N> pack = load_pack<N>(at + i);
#pragma unroll
            for (int k = 0; k < N; k++) values.of[k] = V(pack.values[k]);
        } else {
            const V value = at ? V(at[i]) : number;
#pragma unroll
            for (int k = 0; k < N; k++) values.of[k] = value;
        }
        return values;
    }
};

template <int N, class Y, class F, class... V>
__device__ inline void store(Y* y, F f, const Values<V, N>&... values) {
    Pack<Y, N> made;
#pragma unroll
    for (int k = 0; k < N; k++) made.values[k] = Y(f(values.of[k]...));
    *reinterpret_cast<Pack<Y, N>*>(y) = made;
}

template <int N, class Y, class F, class... Operands>
__device__ void over_elements(Y* y, Int count, F f, Operands... operands) {
    const Int first = Int(blockIdx.x) * blockDim.x + threadIdx.x, step = Int(gridDim.x) * blockDim.x;
    Int done = 0;
    if (is_aligned<N>(y) && (operands.template is_aligned_by<N>() && ... && true)) {
        done = count / N * N;
        for (Int i = first * N; i < done; i += step * N)
            store<N>(y + i, f, operands.template load<N>(i, true)...);
    }
#pragma unroll 1
    for (Int i = done + first; i < count; i += step) store<1>(y + i, f, operands.template load<1>(i, true)...);
}

// Bit I of `sides`: operand I has the elements of an item side by side.
template <int N, class Y, class F, class... Operands>
__device__ void over_items(Y* y, unsigned items, const Strides& strides, Int sides, F f, Operands... operands) {
    const unsigned step = gridDim.x * blockDim.x;
    for (unsigned item = blockIdx.x * blockDim.x + threadIdx.x; item < items; item += step) {
        Int at[MOST_OPERANDS] = {};
        unsigned rest = item;
#pragma unroll
        for (int axis = 0; axis < MOST_AXES; axis++) {
            if (axis == strides.axes) break;
            const unsigned next = strides.size[axis].divide(rest), here = rest - next * strides.size[axis].by;
#pragma unroll
            for (int i = 0; i < int(sizeof...(Operands)); i++) at[i] += here * strides.of[i][axis];
            rest = next;
        }
        store<N>(y + Int(item) * N, f,
                 operands.template load<N>(at[Operands::INDEX], sides >> Operands::INDEX & 1)...);
    }
}

// `sides` is negative if items are single elements.
template <int N, class Y, class F, class... Operands>
__device__ void over_strides(Y* y, Int items, const Strides& strides, Int sides, F f, Operands... operands) {
    if (sides < 0) over_items<1>(y, unsigned(items), strides, 0, f, operands...);
    else over_items<N>(y, unsigned(items), strides, sides, f, operands...);
}

#define KERNEL extern "C" __global__ void __launch_bounds__(256)

// A function of a and b, given by an expression; its result is RESULT, computed as R.
#define OPERATOR(FUNCTION, RESULT, R, EXPRESSION, NAME, T)                                             \
    KERNEL FUNCTION##_##NAME(const T* a, computed<T> number_a, const T* b, computed<T> number_b,       \
                             RESULT* y, Int count) {                                                   \
        typedef computed<T> A;                                                                         \
        over_elements<16 / sizeof(T)>(y, count, [](A a, A b) -> R { return EXPRESSION; },              \
                                      Operand<0, T>{a, number_a}, Operand<1, T>{b, number_b});         \
    }                                                                                                  \
    KERNEL FUNCTION##_strided_##NAME(const T* a, computed<T> number_a, const T* b,                     \
                                     computed<T> number_b, RESULT* y,                                  \
                                     const __grid_constant__ Strides strides, Int sides, Int items) {  \
        typedef computed<T> A;                                                                         \
        over_strides<16 / sizeof(T)>(y, items, strides, sides,                                         \
                                     [](A a, A b) -> R { return EXPRESSION; },                         \
                                     Operand<0, T>{a, number_a}, Operand<1, T>{b, number_b});          \
    }

#define EXPORT(NAME, T)                                                                                \
    OPERATOR(add, T, A, a + b, NAME, T)                                                                \
    OPERATOR(sub, T, A, a - b, NAME, T)                                                                \
    OPERATOR(mul, T, A, a * b, NAME, T)                                                                \
    OPERATOR(truediv, T, A, a / b, NAME, T)                                                            \
    OPERATOR(maximum, T, A, larger(a, b), NAME, T)                                                     \
    OPERATOR(minimum, T, A, smaller(a, b), NAME, T)                                                    \
    OPERATOR(lt, bool, bool, a < b, NAME, T)                                                           \
    OPERATOR(le, bool, bool, a <= b, NAME, T)                                                          \
    OPERATOR(eq, bool, bool, a == b, NAME, T)                                                          \
    OPERATOR(ne, bool, bool, a != b, NAME, T)                                                          \
    KERNEL where_##NAME(const bool* condition, const T* a, computed<T> number_a, const T* b,           \
                        computed<T> number_b, T* y, Int count) {                                       \
        typedef computed<T> A;                                                                         \
        over_elements<16 / sizeof(T)>(y, count, [](bool c, A a, A b) -> A { return c ? a : b; },       \
                                      Operand<0, bool, bool>{condition, false},                        \
                                      Operand<1, T>{a, number_a}, Operand<2, T>{b, number_b});         \
    }                                                                                                  \
    KERNEL where_strided_##NAME(const bool* condition, const T* a, computed<T> number_a, const T* b,   \
                                computed<T> number_b, T* y,                                            \
                                const __grid_constant__ Strides strides, Int sides, Int items) {       \
        typedef computed<T> A;                                                                         \
        over_strides<16 / sizeof(T)>(y, items, strides, sides,                                         \
                                     [](bool c, A a, A b) -> A { return c ? a : b; },                  \
                                     Operand<0, bool, bool>{condition, false},                         \
                                     Operand<1, T>{a, number_a}, Operand<2, T>{b, number_b});          \
    }                                                                                                  \
    KERNEL fill_##NAME(computed<T> number, T* y, Int count) {                                          \
        typedef computed<T> A;                                                                         \
        over_elements<16 / sizeof(T)>(y, count, [](A x) -> A { return x; },                            \
                                      Operand<0, T>{nullptr, number});                                 \
    }                                                                                                  \
    KERNEL from_bool_##NAME(const bool* x, T* y, Int count) {                                          \
        typedef computed<T> A;                                                                         \
        over_elements<16 / sizeof(T)>(y, count, [](bool x) -> A { return x; },                         \
                                      Operand<0, bool, bool>{x, false});                               \
    }
FOR_EACH_FLOAT(EXPORT)
