// Programmatic dependent launch: a kernel starts before its predecessor in the stream has ended (from
// sm_90 on; on older GPUs, and without the launch attribute, these functions do nothing).
//
// Before it has waited, a kernel writes nothing, and reads only memory that no earlier kernel of
// its graph writes: weights. It does not end before a thread has waited, so it ends after all earlier
// work, and its successor has to wait only for it. There is no deadlock: a kernel's first block starts only when
// all blocks of its predecessor have started, so none of these waits for room.
#pragma once

// Wait until the predecessor has ended and its writes are visible.
__device__ inline void wait_for_previous_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Have the cache line of `at` in the L2 cache. This reads nothing, so it may come before the wait.
__device__ inline void fetch_to_l2(const void* at) {
#if defined(__CUDA_ARCH__)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
#endif
}

// Have x computed before this, and what follows from it after: the compiler may otherwise move
// either, and wait for a load of x too early, or compute it only after a wait.
#if defined(__CUDA_ARCH__)
__device__ inline void compute_now(int& x) { asm volatile("" : "+r"(x)); }
__device__ inline void compute_now(unsigned& x) { asm volatile("" : "+r"(x)); }
template <class T> __device__ void compute_now(T*& x) { asm volatile("" : "+l"(x)); }
#else
template <class T> __device__ void compute_now(T&) {}
#endif

// Let the successor start as soon as all blocks have called this and there is room.
__device__ inline void trigger_next_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}
