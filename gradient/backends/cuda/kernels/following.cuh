// Kernels of which one begins before the one that was queued before it has ended ("programmatic
// dependent launch", from sm_90 on; before, and where the launch does not ask for it, these do nothing).
//
// Until a kernel has waited it writes nothing, and reads only what no kernel before it in its graph has
// written: weights. All its threads wait, so that it ends after all that was queued before it, and the
// one behind it has but to wait for it. Nothing can wait for ever: a kernel's first block begins when all
// blocks of the one before have begun, and so need no room any more.
#pragma once

// Wait until the kernel queued before has ended, and what it wrote is there.
__device__ inline void wait_for_the_one_before() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Let the kernel queued next begin as soon as all blocks have come here and it finds room.
__device__ inline void let_the_next_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}
