// kernels/following.cuh on the CPU, where a kernel runs when the one before has ended. A test may have
// threads end where they would wait: what they have read and written by then is what they do too early.
#pragma once

inline void wait_for_the_one_before() {
    emulator::state.waits++;
    if (emulator::state.ends_at_waits) emulator::end_thread();
}
inline void let_the_next_begin() {}
