// feed_back: what the next run of a graph reads, of the results of this one.
//
//     given = result, results[run] = result, row = rows[run + 1], run += 1, counts += by
//
// A number beyond the last row of `results` or `rows` begins anew at the first. Arrays are copied as
// words of 32 bits.
// Bytes: those of the arrays, some hundred; it takes as long as a launch and two loads in sequence.
// Grid: one block.
#include <following.cuh>

#include "numbers.cuh"

struct Sizes { Int words, runs, row_words, rows, counts, by; };

__device__ inline void feed_back(const unsigned* result, unsigned* given, unsigned* results, Int* run,
                                 const unsigned* rows, unsigned* row, Int* counts, Sizes of) {
    trigger_next_kernel();
    wait_for_previous_kernel();
    const unsigned now = unsigned(*run);
    unsigned* of_run = results + now % unsigned(of.runs) * of.words;
    const unsigned* next = rows + (now + 1) % unsigned(of.rows) * of.row_words;
    for (Int i = threadIdx.x; i < of.words; i += blockDim.x) of_run[i] = given[i] = result[i];
    for (Int i = threadIdx.x; i < of.row_words; i += blockDim.x) row[i] = next[i];
    for (Int i = threadIdx.x; i < of.counts; i += blockDim.x) counts[i] += of.by;
    __syncthreads();  // every thread has read `run`
    if (threadIdx.x == 0) *run += 1;
}

// The same for every dtype, so that it is in a module which is compiled anyway (`compiled_dtype`).
#define EXPORT(NAME, T)                                                                           \
    extern "C" __global__ void __launch_bounds__(128, 1) feed_back_##NAME(                        \
        const unsigned* result, unsigned* given, unsigned* results, Int* run,                     \
        const unsigned* rows, unsigned* row, Int* counts, Int words, Int runs, Int row_words,     \
        Int of_rows, Int size, Int by) {                                                          \
        feed_back(result, given, results, run, rows, row, counts,                                 \
                  Sizes{words, runs, row_words, of_rows, size, by});                              \
    }
#ifdef DTYPE
FOR_EACH_FLOAT(EXPORT)
#else
EXPORT(float32, float)
#endif
