// Cumulative sums along the columns of each row, and sampling of a column in proportion to its
// weight.
//
//     cumsum       out[j] = x[0] + ... + x[j]
//     categorical  the first column whose cumulative sum reaches (1 - u) of the row's sum, u in [0, 1);
//                  -1 if the sum is NaN or not above 0
//
// A block computes a row, PER columns per thread at a time, and carries the sum on in a fixed
// order. Only columns of positive weight are candidates, so rounding never selects a column of
// weight 0. If the sums of the second pass end below those of the first, the last candidate is
// chosen. For a long row, such as a vocabulary, part_sums has one block per `of_part` columns, and
// categorical reads only the part with the drawn column again.
// Bytes: cumsum reads and writes each number once, categorical reads it twice, the second time mostly
// from the cache. Grid: one block per row; for part_sums, one per part.
#include "rows.cuh"
#include "scans.cuh"

constexpr int PER = 4;

// Calls f(first column of a thread, its columns' running sums, the numbers) for the chunks of a row
// until f returns true (the same in all threads). Returns the sum of the chunks.
template <class T, class F> __device__ computed<T> each_chunk(const T* x, Int columns, F f) {
    typedef computed<T> A;
    A carry = 0;
    for (Int start = 0; start < columns; start += Int(blockDim.x) * PER) {
        const Int first = start + Int(threadIdx.x) * PER;
        A numbers[PER], sums[PER], sum = 0;
#pragma unroll
        for (int k = 0; k < PER; k++) {
            numbers[k] = first + k < columns ? A(x[first + k]) : A(0);
            sums[k] = sum += numbers[k];
        }
        const Scanned<A> of_threads = block_scan(sum);
#pragma unroll
        for (int k = 0; k < PER; k++) sums[k] = carry + (of_threads.before + sums[k]);
        carry += of_threads.total;
        if (f(first, sums, numbers)) break;
    }
    return carry;
}

template <class T> __device__ void cumsum(const T* x, T* out, Int columns) {
    typedef computed<T> A;
    x += blockIdx.x * columns, out += blockIdx.x * columns;
    each_chunk(x, columns, [&](Int first, const A* sums, const A*) {
#pragma unroll
        for (int k = 0; k < PER; k++)
            if (first + k < columns) out[first + k] = T(sums[k]);
        return false;
    });
}

template <class T> __device__ computed<T> sum_of(const T* x, Int columns) {
    typedef computed<T> A;
    return each_chunk(x, columns, [](Int, const A*, const A*) { return false; });
}

// sums[row][part]
template <class T>
__device__ void part_sums(const T* weights, computed<T>* sums, Int columns, Int of_part) {
    const Int parts = (columns + of_part - 1) / of_part, start = blockIdx.x % parts * of_part;
    const T* from = weights + blockIdx.x / parts * columns + start;
    const computed<T> sum = sum_of(from, min(of_part, columns - start));
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// `part_sum` is null if a row is one part.
template <class T>
__device__ void categorical(const T* weights, const T* uniform, const computed<T>* part_sum, Int* out,
                            Int columns, Int of_part) {
    typedef computed<T> A;
    constexpr Int NONE = 0x7fffffffffffffff;
    __shared__ Int reached, last;
    const Int parts = (columns + of_part - 1) / of_part;
    weights += blockIdx.x * columns;
    if (threadIdx.x == 0) reached = NONE, last = -1;
    A total = 0, before = 0;
    if (!part_sum) total = sum_of(weights, columns);
    else
        for (Int part = 0; part < parts; part++) total += part_sum[blockIdx.x * parts + part];
    const A share = (1 - A(uniform[blockIdx.x])) * total;
    Int start = 0;
    if (part_sum && total > 0)  // the first part with weights whose cumulative sum reaches the share
        for (Int part = 0; part < parts; part++) {
            const A sum = part_sum[blockIdx.x * parts + part];
            start = part * of_part;
            if (sum > 0 && before + sum >= share) break;
            before += sum;
        }
    if (total > 0)
        each_chunk(weights + start, min(of_part, columns - start),
                   [&](Int first, const A* sums, const A* numbers) {
            Int mine = NONE, positive = -1;
#pragma unroll
            for (int k = PER - 1; k >= 0; k--) {
                if (!(numbers[k] > 0)) continue;
                if (positive < 0) positive = first + k;
                if (before + sums[k] >= share) mine = first + k;
            }
            if (mine != NONE) atomicMin(&reached, mine);
            if (positive >= 0) atomicMax(&last, positive);
            __syncthreads();
            return reached != NONE;
        });
    if (threadIdx.x != 0) return;
    const Int found = reached != NONE ? reached : last;
    out[blockIdx.x] = found < 0 ? found : start + found;
}

#define EXPORT(NAME, T)                                                                           \
    ROW_KERNEL cumsum_##NAME(const T* x, T* out, Int columns) { cumsum(x, out, columns); }
FOR_EACH_FLOAT(EXPORT)

#define EXPORT_CATEGORICAL(NAME, T)                                                               \
    ROW_KERNEL part_sums_##NAME(const T* weights, computed<T>* sums, Int columns, Int of_part) {  \
        part_sums(weights, sums, columns, of_part);                                               \
    }                                                                                             \
    ROW_KERNEL categorical_##NAME(const T* weights, const T* uniform, const computed<T>* sums,    \
                                  Int* out, Int columns, Int of_part) {                           \
        categorical(weights, uniform, sums, out, columns, of_part);                               \
    }
FOR_EACH_WIDE(EXPORT_CATEGORICAL)
