// The gradient of an embedding: rows of g (n, columns), added up by their index, in their order.
//
//     out[v] = sum of g[i] over all i with index[i] = v
//
// `order` sorts the indices, and keeps those that are equal in order: a block takes the first of a
// run of equal ones and adds up the run in float32, so that the sum never depends on chance, as it
// would by atomic additions. Each row of g is read once, each row of out that has one written once;
// the others are zeros already; an index that comes n times costs its block n rows one after the other.
// Grid: one block an index.
#include "numbers.cuh"

template <class T>
__device__ void embedding_grad(const T* g, const Int* index, const Int* order, T* out, Int count,
                               Int columns, Int rows, int* fault) {
    typedef computed<T> A;
    const Int first = blockIdx.x, row = index[order[first]];
    if (first > 0 && index[order[first - 1]] == row) return;
    if (row < 0 || row >= rows) {
        if (threadIdx.x == 0) *fault = 1;
        return;
    }
    Int end = first + 1;
    while (end < count && index[order[end]] == row) end++;
    for (Int column = threadIdx.x; column < columns; column += blockDim.x) {
        A sum = 0;
        for (Int i = first; i < end; i++) sum += A(g[order[i] * columns + column]);
        out[row * columns + column] = T(sum);
    }
}

#define EXPORT(NAME, T)                                                                          \
    extern "C" __global__ void embedding_grad_##NAME(const T* g, const Int* index,               \
                                                     const Int* order, T* out, Int count,        \
                                                     Int columns, Int rows, int* fault) {        \
        embedding_grad(g, index, order, out, count, columns, rows, fault);                       \
    }
FOR_EACH_FLOAT(EXPORT)
