// Update the loss scale after a step (Micikevicius et al. 2018, section 3.2) on the device, so that the
// host need not wait to read whether a gradient was infinite. A few bytes, read and written once.
#include "numbers.cuh"

// scale *= backoff if found_inf is not 0; scale *= growth after `interval` steps with 0, which
// `tracker` counts. Computed in float64 and rounded; a scale that would become infinite is not raised.
// By a single thread.
__device__ inline void update_scale(float* scale, int* tracker, const float* found_inf, double growth,
                                    double backoff, Int interval) {
    if (threadIdx.x != 0) return;
    if (*found_inf != 0) {
        *scale = float(*scale * backoff), *tracker = 0;
    } else if (*tracker + 1 == interval) {
        const float grown = float(*scale * growth);
        if (grown < infinity<float>()) *scale = grown;
        *tracker = 0;
    } else {
        ++*tracker;
    }
}

// A scale is float32, whatever the gradients are.
#define EXPORT(NAME, T)                                                                            \
    extern "C" __global__ void update_scale_##NAME(float* scale, int* tracker,                     \
                                                   const float* found_inf, double growth,          \
                                                   double backoff, Int interval) {                 \
        update_scale(scale, tracker, found_inf, growth, backoff, interval);                        \
    }
#ifdef DTYPE
FOR_EACH_FLOAT(EXPORT)
#else
EXPORT(float32, float)
#endif
