// Add rows to those of an array, or replace them, at an index that may select a row many times.
//
//     x[o, row, c] += sum of value[o, i, c] over all i with row_of[i] = row        x (outer, rows, inner)
//     x[o, row, c] = value[o, i, c] of the last i with row_of[i] = row
//
//     index_rows  the row of each item of an index. An axis of the rows is indexed by an array, or by
//                 the items' own positions along other axes. An index out of range sets the fault, and
//                 its row is `none()`. `last`, initially zeros, optionally receives the last item of each
//                 row. Grid: one thread per item.
//     put_rows    writes the last item of each row, by `last` or `order`, as words of 1 to 16 bytes.
//                 Without either, rows must be distinct. Grid: threads for (outer, items, words).
//     add_runs    `order` is a stable argsort of the rows; null: rows are distinct. So the items of
//                 one row are a run. A thread sums a part of the order, for a pack of columns, and writes
//                 the sums of runs that begin and end within it. The sums of a run that continues in other
//                 parts are stored in `open`, two per part: of the run at its start, and of the run at
//                 its end. Grid: threads for (outer, parts, packs).
//     add_parts   the same for the sums in `open`, repeated until there is one part.
//
// So sums are deterministic, unlike with atomic additions. 16-bit floats are summed in float32 and
// rounded once. Bytes: each value is read once, each selected row of x is read and written once,
// and the open sums of long runs are written and read once: 2 numbers per part. A thread has four
// packs in flight.
#include "rows.cuh"

constexpr int MOST_AXES = 8, MOST_ARRAYS = 8, IN_FLIGHT = 4;

// The items' axes, from the fastest on, and the int64 arrays that index rows.
struct Index {
    int axes, arrays;
    Divisor size[MOST_AXES];
    Int start;                              // added to all rows
    Int steps[MOST_AXES];                   // strides of rows along the items' axes
    Int strides[MOST_ARRAYS][MOST_AXES];    // strides of each array, in elements
    Int least[MOST_ARRAYS], size_of[MOST_ARRAYS], step_of[MOST_ARRAYS];
    const Int* at[MOST_ARRAYS];             // from least to size - 1; negative ones count from the end
};

// Row numbers of 32 or 64 bits.
struct Rows {
    void* at;
    Int wide;
    __device__ Int operator[](Int i) const {
        return wide ? static_cast<const Int*>(at)[i] : Int(static_cast<const unsigned*>(at)[i]);
    }
    __device__ Int none() const { return wide ? ~0ull >> 1 : 0xffffffffu; }
    __device__ void set(Int i, Int row) const {
        if (wide) static_cast<Int*>(at)[i] = row;
        else static_cast<unsigned*>(at)[i] = unsigned(row);
    }
};

__device__ inline Int along(const Index& index, const Int* steps, unsigned item) {
    Int at = 0;
    for (int axis = 0; axis < index.axes; axis++) {
        const unsigned rest = index.size[axis].divide(item);
        at += Int(item - rest * index.size[axis].by) * steps[axis];
        item = rest;
    }
    return at;
}

__device__ inline void index_rows(const Index& index, Rows out, int* last, Int count, int* fault) {
    const unsigned item = blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= count) return;
    Int row = index.start + along(index, index.steps, item);
    for (int k = 0; k < index.arrays; k++) {
        const Int size = index.size_of[k], found = index.at[k][along(index, index.strides[k], item)];
        if (found < index.least[k] || found >= size) {
            *fault = 1;
            out.set(item, out.none());
            return;
        }
        row += (found < 0 ? found + size : found) * index.step_of[k];
    }
    out.set(item, row);
    if (last) atomicMax(&last[row], int(item));
}

struct Sizes { Int outer, count, rows, inner, of_part; };

// A thread's work: `item` of `items` and `column` of `columns`, consecutive within one o.
struct Place { Int o, item, column; };

__device__ inline Place place_of(Int thread, Int items, Int columns) {
    if (((thread | items | columns) >> 32) == 0) {  // 32-bit division takes a fifth of the time
        const unsigned n = unsigned(thread), rest = n / unsigned(columns), o = rest / unsigned(items);
        return {o, rest - o * unsigned(items), n - rest * unsigned(columns)};
    }
    const Int rest = thread / columns, o = rest / items;
    return {o, rest - o * items, thread - rest * columns};
}

template <class Word>
__device__ void put_rows(const void* value, Rows rows, const int* last, const Int* order, void* x,
                         const Sizes& sizes) {
    const Int thread = Int(blockIdx.x) * blockDim.x + threadIdx.x;
    const Place at = place_of(thread, sizes.count, sizes.inner);
    if (at.o >= sizes.outer) return;
    const Int item = order ? order[at.item] : at.item, row = rows[item];
    if (row >= sizes.rows || (last && last[row] != item)) return;
    if (order && at.item + 1 < sizes.count && rows[order[at.item + 1]] == row) return;
    static_cast<Word*>(x)[(at.o * sizes.rows + row) * sizes.inner + at.column] =
        static_cast<const Word*>(value)[(at.o * sizes.count + item) * sizes.inner + at.column];
}

// N sums of a run, in the compute type.
template <class A, int N> struct Sum {
    A values[N];
    __device__ void clear() {
#pragma unroll
        for (int k = 0; k < N; k++) values[k] = A(-0.0f);  // the neutral element: keeps -0
    }
    template <class V> __device__ void add(const Pack<V, N>& pack) {
#pragma unroll
        for (int k = 0; k < N; k++) values[k] += A(pack.values[k]);
    }
    template <class T> __device__ void store(T* to) const {
        Pack<T, N> pack;
#pragma unroll
        for (int k = 0; k < N; k++) pack.values[k] = T(values[k]);
        *reinterpret_cast<Pack<T, N>*>(to) = pack;
    }
};

template <int N, class V, class T>
__device__ void add_runs(const V* value, Rows rows, const Int* order, T* x, computed<T>* open,
                         Rows open_rows, const Sizes& sizes, bool adds) {
    typedef computed<T> A;
    const Int parts = (sizes.count + sizes.of_part - 1) / sizes.of_part;
    const Place at = place_of(Int(blockIdx.x) * blockDim.x + threadIdx.x, parts, sizes.inner / N);
    const Int o = at.o, part = at.item, column = at.column * N;
    if (o >= sizes.outer) return;
    value += o * sizes.count * sizes.inner + column, x += o * sizes.rows * sizes.inner + column;
    const Int left = 2 * (o * parts + part) * sizes.inner + column;
    const Int begin = part * sizes.of_part, end = min(begin + sizes.of_part, sizes.count);

    Int row = rows[order ? order[begin] : begin], first = rows.none(), last = rows.none();
    bool is_open = row < sizes.rows && begin > 0 && rows[order ? order[begin - 1] : begin - 1] == row;
    Sum<A, N> sum;
    sum.clear();
    auto end_run = [&]() {
        if (is_open) {
            sum.store(open + left), first = row;
        } else if (row < sizes.rows) {
            if (adds) sum.add(load_pack<N>(x + row * sizes.inner));
            sum.store(x + row * sizes.inner);
        }
    };
    for (Int i = begin; i < end; i += IN_FLIGHT) {
        Pack<V, N> given[IN_FLIGHT];
        Int row_of[IN_FLIGHT];
#pragma unroll
        for (int j = 0; j < IN_FLIGHT; j++) {
            if (i + j >= end) continue;
            const Int item = order ? order[i + j] : i + j;
            row_of[j] = rows[item], given[j] = load_pack<N>(value + item * sizes.inner);
        }
#pragma unroll
        for (int j = 0; j < IN_FLIGHT; j++) {
            if (i + j >= end) continue;
            if (row_of[j] != row) {
                end_run();
                row = row_of[j], is_open = false;
                sum.clear();
            }
            sum.add(given[j]);
        }
    }
    if (row >= sizes.rows || end == sizes.count || rows[order ? order[end] : end] != row) {
        end_run();
    } else {  // if one run fills the part, its second sum is zero
        if (is_open) {
            end_run();
            sum.clear();
        }
        sum.store(open + left + sizes.inner), last = row;
    }
    if (open && o == 0 && column == 0)
        open_rows.set(2 * part, first), open_rows.set(2 * part + 1, last);
}

template <class V, class T>
__device__ void add_runs(const V* value, Rows rows, const Int* order, T* x, computed<T>* open,
                         Rows open_rows, const Sizes& sizes, Int adds, Int in_packs) {
    constexpr int N = 16 / sizeof(V);
    if (in_packs) add_runs<N>(value, rows, order, x, open, open_rows, sizes, adds);
    else add_runs<1>(value, rows, order, x, open, open_rows, sizes, adds);
}

#define EXPORT_RUNS(NAME, DTYPE, V, T)                                                             \
    extern "C" __global__ void __launch_bounds__(256, 2) add_##NAME##_##DTYPE(                     \
        const V* value, void* rows, const Int* order, T* x, computed<T>* open, void* open_rows,    \
        Int wide, Int outer, Int count, Int rows_of_x, Int inner, Int of_part, Int adds,           \
        Int in_packs) {                                                                            \
        add_runs(value, Rows{rows, wide}, order, x, open, Rows{open_rows, wide},                   \
                 Sizes{outer, count, rows_of_x, inner, of_part}, adds, in_packs);                  \
    }
#define EXPORT(NAME, T)                                                                            \
    extern "C" __global__ void __launch_bounds__(256) index_rows_##NAME(                           \
        const __grid_constant__ Index index, void* rows, int* last, Int wide, Int count,           \
        int* fault) {                                                                              \
        index_rows(index, Rows{rows, wide}, last, count, fault);                                   \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(256) put_rows_##NAME(                             \
        const void* value, void* rows, const int* last, const Int* order, void* x, Int wide,       \
        Int outer, Int count, Int rows_of_x, Int words, Int bytes) {                               \
        const Sizes sizes = {outer, count, rows_of_x, words, 1};                                   \
        const Rows row_of = {rows, wide};                                                          \
        if (bytes == 16) put_rows<uint4>(value, row_of, last, order, x, sizes);                    \
        else if (bytes == 8) put_rows<uint2>(value, row_of, last, order, x, sizes);                \
        else if (bytes == 4) put_rows<unsigned>(value, row_of, last, order, x, sizes);             \
        else if (bytes == 2) put_rows<unsigned short>(value, row_of, last, order, x, sizes);       \
        else put_rows<unsigned char>(value, row_of, last, order, x, sizes);                        \
    }                                                                                              \
    EXPORT_RUNS(runs, NAME, T, T)
#define EXPORT_PARTS(NAME, T) EXPORT_RUNS(parts, NAME, float, T)
FOR_EACH_FLOAT(EXPORT)
FOR_EACH_NARROW(EXPORT_PARTS)
