// kernels/following.cuh on the CPU, where a kernel runs when the previous one has ended. With
// `ends_at_waits`, threads end where they would wait, so a test sees what they access before that.
#pragma once

inline void wait_for_previous_kernel() {
    emulator::state.waits++;
    if (emulator::state.ends_at_waits) emulator::end_thread();
}
inline void trigger_next_kernel() {}
inline void fetch_to_l2(const void*) { emulator::state.fetches++; }
template <class T> void compute_now(T&) {}
