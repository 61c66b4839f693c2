// kernels/tensor_cores.cuh on the CPU: registers are exchanged between a warp's lanes as the PTX ISA
// lays them out, and what the GPU leaves undefined is reported.
//
// A copy in the background is done at the latest moment allowed, its wait; in falling order at the
// earliest, at once. So a missing wait shows in two orders of the warps, and a copy over numbers that
// others still read in the third.
#pragma once
#include "numbers.cuh"

// Other functions are compiled by -O1.
#define VECTORISED __attribute__((optimize("O3")))

namespace emulator {

struct Operands {
    unsigned a[4], b[2];
    float d[4];
};

template <class T> float number(unsigned both, int which) {
    T of[2];
    memcpy(of, &both, 4);
    return of[which];
}

// D += A B of the whole warp: A (16, 16) and B (16, 8) are put together, multiplied and handed out.
template <class T> VECTORISED void multiply(Published<Operands> of_lane) {
    float a[16][16], b[16][8];
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++) {
            const int lane = row % 8 * 4 + k % 8 / 2, piece = row / 8 + 2 * (k / 8);
            a[row][k] = number<T>(of_lane[lane].a[piece], k % 2);
        }
    for (int k = 0; k < 16; k++)
        for (int column = 0; column < 8; column++)
            b[k][column] = number<T>(of_lane[column * 4 + k % 8 / 2].b[k / 8], k % 2);
    for (int row = 0; row < 16; row++) {
        float sums[8];
        for (int column = 0; column < 8; column++)
            sums[column] = of_lane[row % 8 * 4 + column / 2].d[row / 8 * 2 + column % 2];
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++) sums[column] += a[row][k] * b[k][column];
        for (int column = 0; column < 8; column++)
            of_lane[row % 8 * 4 + column / 2].d[row / 8 * 2 + column % 2] = sums[column];
    }
}

struct Integers {
    unsigned a[4], b[2];
    int d[4];
};

// The same of A (16, 32) and B (32, 8), four signed bytes in each register.
VECTORISED inline void multiply_bytes(Published<Integers> of_lane) {
    int8_t a[16][32], b[8][32];
    for (int lane = 0; lane < 32; lane++)
        for (int half = 0; half < 2; half++) {
            const int k = half * 16 + lane % 4 * 4;
            for (int i = 0; i < 2; i++) memcpy(&a[lane / 4 + 8 * i][k], &of_lane[lane].a[i + 2 * half], 4);
            memcpy(&b[lane / 4][k], &of_lane[lane].b[half], 4);
        }
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 8; column++) {
            int sum = 0;
            for (int k = 0; k < 32; k++) sum += a[row][k] * b[column][k];
            of_lane[row % 8 * 4 + column / 2].d[row / 8 * 2 + column % 2] += sum;
        }
}

inline bool is_whole_warp(const char* instruction) {
    if (state.running->warp->barrier.members == 32) return true;
    return report(instruction), false;
}

template <int N, bool TRANSPOSED> void read_matrices(unsigned (&to)[N], const void* row) {
    if (!is_whole_warp("runs ldmatrix in a warp of less than 32 threads")) return;
    const int g = state.running->lane / 4, c = state.running->lane % 4 * 2;
    const auto rows = gather(static_cast<const uint16_t*>(row), [](auto) {});
    for (int i = 0; i < N; i++) {
        unsigned groups = 0;
        for (int j = 0; j < 8; j++) {
            const uintptr_t address = uintptr_t(rows[8 * i + j]);
            if (address % 16) return report("has a row for ldmatrix that is not aligned to 16 bytes");
            groups |= 1u << address / 16 % 8;
        }
        if (state.running->lane == 0 && groups != 0xff) state.bank_conflicts++;
        const unsigned first = TRANSPOSED ? rows[8 * i + c][g] : rows[8 * i + g][c];
        const unsigned second = TRANSPOSED ? rows[8 * i + c + 1][g] : rows[8 * i + g][c + 1];
        to[i] = first | second << 16;
    }
}

}  // namespace emulator

template <class T> T* in_register(T* shared) { return shared; }
template <class T> void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    using namespace emulator;
    if (!is_whole_warp("runs mma in a warp of less than 32 threads")) return;
    const Operands mine{a[0], a[1], a[2], a[3], b[0], b[1], d[0], d[1], d[2], d[3]};
    memcpy(d, gather(mine, multiply<T>)[state.running->lane].d, sizeof d);
}
inline void mma_m16n8k32(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    using namespace emulator;
    if (!is_whole_warp("runs mma in a warp of less than 32 threads")) return;
    const Integers mine{a[0], a[1], a[2], a[3], b[0], b[1], d[0], d[1], d[2], d[3]};
    memcpy(d, gather(mine, multiply_bytes)[state.running->lane].d, sizeof d);
}
template <int N> void ldmatrix(unsigned (&to)[N], const void* row) {
    emulator::read_matrices<N, false>(to, row);
}
template <int N> void ldmatrix_trans(unsigned (&to)[N], const void* row) {
    emulator::read_matrices<N, true>(to, row);
}

namespace emulator {
inline void begin_copy(void* to, const void* from, int bytes, int size) {
    if ((uintptr_t(to) | uintptr_t(from)) % size)
        return report(size == 16 ? "has a copy in the background that is not aligned to 16 bytes"
                                 : "has a copy in the background that is not aligned to 4 bytes");
    state.running->copied = true;
    const Copy copy{to, from, bytes, 0, size};
    if (state.copies_at_once) return copy.run();
    copy.watch_target();  // from here until its wait it may be written
    state.running->copies.push_back(copy);
}
}  // namespace emulator
inline void cp_async(void* to, const void* from, int bytes = 16) { emulator::begin_copy(to, from, bytes, 16); }
inline void cp_async_cached(void* to, const void* from, int bytes = 16) { cp_async(to, from, bytes); }
inline void cp_async_word(void* to, const void* from) { emulator::begin_copy(to, from, 4, 4); }
inline void cp_async_commit() {
    for (emulator::Copy& copy : emulator::state.running->copies) copy.age++;
}
template <int N> void cp_async_wait() {
    auto& copies = emulator::state.running->copies;
    emulator::state.running->unfenced |= emulator::state.running->copied;
    emulator::state.running->copied = false;
    for (const emulator::Copy& copy : copies)
        if (copy.age > N) copy.run();
    copies.erase(std::remove_if(copies.begin(), copies.end(), [](auto& copy) { return copy.age > N; }),
                 copies.end());
}

template <class T> unsigned two(float first, float second) {
    const T of[2] = {T(first), T(second)};
    unsigned both;
    memcpy(&both, of, 4);
    return both;
}

inline float power_of_two(float x) { return std::exp2(x); }
