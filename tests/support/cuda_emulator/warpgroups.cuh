// kernels/warpgroups.cuh on the CPU. A thread computes its numbers of D by itself: what it lacks of A in
// registers the warp's other lanes give it when the product begins; shared memory is read, and D
// written, at the latest moment allowed, the wait, and in falling order of the warps at the earliest,
// as copies are done (tensor_cores.cuh).
#pragma once
#include <tensor_cores.cuh>

// Rows of 128 bytes: of those whose address differs in its bits 7 to 9 alone, the pieces of 16 bytes
// (bits 4 to 6) are exchanged.
struct Panels {
    const char* start;
    int leading;
    explicit Panels(const void* start, int leading = 16)
        : start(static_cast<const char*>(start)), leading(leading) {}
    Panels after(int bytes) const {
        Panels moved = *this;
        moved.start += bytes;
        return moved;
    }
    template <class T> float at(size_t offset) const {
        const uintptr_t address = uintptr_t(start) + offset;
        return *reinterpret_cast<const T*>(address ^ (address >> 7 & 7) << 4);
    }
    // Row `row`, of 16 that `k` runs along: groups of 8 rows lie 1024 bytes apart.
    template <class T> float along(int row, int k) const {
        return at<T>(row / 8 * 1024 + row % 8 * 128 + k * 2);
    }
    // Of 16 rows that `k` runs over.
    template <class T> float over(int k, int column) const {
        return at<T>(column / 64 * leading + k / 8 * 1024 + k % 8 * 128 + column % 64 * 2);
    }
};

namespace emulator {

struct RowsOfA {
    float of[2][16];  // those with the numbers of this thread's rows of D
};

// D (+)= A B of one thread: rows g and g + 8 of its warp's 16, columns 8 n + c and 8 n + c + 1.
template <class F>
void begin_product(float (*d)[4], int columns, bool add, F product) {
    if (state.block_size.x % 128) return report("runs wgmma in a block that is not of warpgroups");
    if (!is_whole_warp("runs wgmma in a warp of less than 32 threads")) return;
    wait(state.running->warp->barrier);
    if (state.running->unfenced) return report("runs wgmma on what was copied before a fence_shared");
    auto run = [=] {
        for (int n = 0; n < columns / 8; n++)
            for (int i = 0; i < 4; i++) {
                const int column = 8 * n + state.running->lane % 4 * 2 + i % 2;
                d[n][i] = product(i / 2, column, add ? d[n][i] : 0.f);
            }
    };
    if (state.copies_at_once) return run();
    state.running->products.push_back({run, 0});
}

}  // namespace emulator

template <class T, int N> void wgmma(float (&d)[N][4], Panels a, Panels b, bool add) {
    if ((uintptr_t(a.start) | uintptr_t(b.start)) % 1024 >= 128)
        return emulator::report("runs wgmma on a panel that does not begin at a multiple of 1024");
    emulator::begin_product(d, 8 * N, add, [=](int half, int column, float sum) {
        const int row = emulator::state.running->index.x / 32 % 4 * 16 +
                        emulator::state.running->lane / 4 + 8 * half;
        for (int k = 0; k < 16; k++) sum += a.along<T>(row, k) * b.along<T>(column, k);
        return sum;
    });
}
template <class T, int N> void wgmma_held(float (&d)[N][4], const unsigned (&a)[4], Panels b) {
    using namespace emulator;
    if (uintptr_t(b.start) % 1024 || b.leading % 1024)
        return report("runs wgmma on a panel that does not begin at a multiple of 1024");
    struct Held {
        unsigned of[4];
    };
    const auto of_lane = gather(Held{a[0], a[1], a[2], a[3]}, [](auto) {});
    RowsOfA rows;
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < 16; k++) {
            const Held& held = of_lane[state.running->lane / 4 * 4 + k % 8 / 2];
            rows.of[half][k] = number<T>(held.of[half + 2 * (k / 8)], k % 2);
        }
    begin_product(d, 8 * N, true, [=](int half, int column, float sum) {
        for (int k = 0; k < 16; k++) sum += rows.of[half][k] * b.over<T>(k, column);
        return sum;
    });
}

inline void warpgroup_begin() {}
inline void warpgroup_commit() {
    for (emulator::Product& product : emulator::state.running->products) product.age++;
}
template <int PENDING> void warpgroup_wait() {
    auto& products = emulator::state.running->products;
    size_t done = 0;
    for (; done < products.size() && products[done].age > PENDING; done++) products[done].run();
    products.erase(products.begin(), products.begin() + done);
}
template <int N> void arrived(float (&)[N][4]) {}
inline void fence_shared() { emulator::state.running->unfenced = false; }
