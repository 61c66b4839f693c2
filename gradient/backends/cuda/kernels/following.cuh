// Programmatic dependent launch: a kernel starts before its predecessor in the stream has ended (from
// sm_90 on; on older GPUs, and without the launch attribute, these functions do nothing).
//
// Before a kernel has waited, it writes nothing, and reads only memory that no earlier kernel of its graph
// writes: weights. All its threads wait, so it ends after all earlier work, and its successor only has to
// wait for it. There is no deadlock: a kernel's first block starts when all blocks of its predecessor have
// started, so these need no more room.
#pragma once

// Wait until the predecessor has ended and its writes are visible.
__device__ inline void wait_for_the_one_before() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Let the successor start as soon as all blocks have come here and there is room.
__device__ inline void let_the_next_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}
