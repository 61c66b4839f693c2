// feed_back: what the next run of a graph reads, of the results of this one.
//
//     given = result, results[run] = result, run = (run + 1) % runs, row = rows[run], counts += by
//
// Arrays are copied as words of 32 bits.
// Bytes: those of the arrays, some hundred; it takes as long as a launch, a load and a store.
// Grid: one block.
#include <following.cuh>

#include "numbers.cuh"

struct Sizes { Int runs, words, row_words, counts, by; };

__device__ inline void feed_back(const unsigned* result, unsigned* given, unsigned* results, Int* run,
                                 const unsigned* rows, unsigned* row, Int* counts, Sizes of) {
    trigger_next_kernel();
    const Int now = *run, next = now + 1 < of.runs ? now + 1 : 0;  // no other kernel of the graph writes it
    results += now * of.words, rows += next * of.row_words;
    wait_for_previous_kernel();
    for (Int i = threadIdx.x; i < of.words; i += blockDim.x) results[i] = given[i] = result[i];
    for (Int i = threadIdx.x; i < of.row_words; i += blockDim.x) row[i] = rows[i];
    for (Int i = threadIdx.x; i < of.counts; i += blockDim.x) counts[i] += of.by;
    __syncthreads();  // every thread has read `run`
    if (threadIdx.x == 0) *run = next;
}

// The same for every dtype, so that it is in a module which is compiled anyway (`compiled_dtype`).
#define EXPORT(NAME, T)                                                                           \
    extern "C" __global__ void __launch_bounds__(128, 1) feed_back_##NAME(                        \
        const unsigned* result, unsigned* given, unsigned* results, Int* run,                     \
        const unsigned* rows, unsigned* row, Int* counts, Int runs, Int words, Int row_words,     \
        Int size, Int by) {                                                                       \
        feed_back(result, given, results, run, rows, row, counts,                                 \
                  Sizes{runs, words, row_words, size, by});                                       \
    }
#ifdef DTYPE
FOR_EACH_FLOAT(EXPORT)
#else
EXPORT(float32, float)
#endif
