// PTX instructions of an H100 without a CUDA C++ function: matrix products by warpgroups of 4
// warps, which read their operands from shared memory and run asynchronously (wgmma; PTX ISA,
// section "Asynchronous warpgroup level matrix instructions"; sm_90a alone).
//
// D (64, N) += A (64, 16) B (16, N). Warp w of a group holds rows 16 w to 16 w + 15 of D, and of A
// if that is in registers: eight columns of D, or 16 of A, in the layout of mma.sync
// (tensor_cores.cuh). A thread's D is d[N / 8][4]. Operands in shared memory have rows of 128 bytes
// (64 numbers), 8 consecutive ones from a multiple of 1024 on. They are swizzled: of the 8 pieces
// of 16 bytes of row r, piece p is in the place of p ^ r % 8. So 8 rows of a column are in
// different banks, as are 8 columns of a row. Such a panel can be read in two ways:
//
//     K x 64    its rows are columns of B (or rows of A): k is along them, 32 bytes per step
//     64 x N    its rows are rows of B: k is across them, 2048 bytes per step, and the next 64 columns
//               are in the panel `leading` bytes later
//
// wgmma sees what a thread copied or wrote there after `fence_shared`. Between `warpgroup_begin`
// and `warpgroup_wait` nothing may touch the registers of D and A.
//
// Tests put a file of the same name before this one, as for tensor_cores.cuh.
#pragma once
#include <tensor_cores.cuh>

// A matrix in shared memory, from address `start` on.
struct Panels {
    unsigned long long bits;
    __device__ explicit Panels(const void* start, int leading = 16)
        : bits((shared_address(start) & 0x3ffff) >> 4 | (unsigned long long)(leading >> 4) << 16 |
               64ull << 32 | 1ull << 62) {}
    __device__ Panels after(int bytes) const {
        Panels moved = *this;
        moved.bits += bytes >> 4;
        return moved;
    }
};

#define FOUR(d, n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define SIXTEEN(d, n) FOUR(d, n), FOUR(d, n + 1), FOUR(d, n + 2), FOUR(d, n + 3)
#define NUMBERS_64(d) SIXTEEN(d, 0), SIXTEEN(d, 4)
#define NUMBERS_128(d) NUMBERS_64(d), SIXTEEN(d, 8), SIXTEEN(d, 12)
#define NAMES_32                                                                                \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
    "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_64                                                                                \
    NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
             "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
// `T` is a PTX number type; OPERANDS follow a thread's numbers of D.
#define WGMMA(N, T, NAMES, OPERANDS, GIVEN, ...)                                                     \
    asm volatile("{ .reg .pred adds; setp.ne.b32 adds, " GIVEN ", 0;\n"                               \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." T "." T " {" NAMES "}, " OPERANDS "; }" \
                 : NUMBERS_##N(d) : __VA_ARGS__)
#define WGMMA_OF(NUMBER, T)                                                                          \
    template <> __device__ inline void wgmma<NUMBER>(float (&d)[8][4], Panels a, Panels b, bool add) { \
        WGMMA(64, T, NAMES_32, "%32, %33, adds, 1, 1, 0, 0", "%34", "l"(a.bits), "l"(b.bits), "r"(int(add))); \
    }                                                                                                \
    template <> __device__ inline void wgmma<NUMBER>(float (&d)[16][4], Panels a, Panels b, bool add) { \
        WGMMA(128, T, NAMES_64, "%64, %65, adds, 1, 1, 0, 0", "%66", "l"(a.bits), "l"(b.bits), "r"(int(add))); \
    }                                                                                                \
    template <>                                                                                      \
    __device__ inline void wgmma_held<NUMBER>(float (&d)[8][4], const unsigned (&a)[4], Panels b) {  \
        WGMMA(64, T, NAMES_32, "{%32, %33, %34, %35}, %36, adds, 1, 1, 1", "%37", "r"(a[0]), "r"(a[1]), \
              "r"(a[2]), "r"(a[3]), "l"(b.bits), "r"(1));                                            \
    }                                                                                                \
    template <>                                                                                      \
    __device__ inline void wgmma_held<NUMBER>(float (&d)[16][4], const unsigned (&a)[4], Panels b) { \
        WGMMA(128, T, NAMES_64, "{%64, %65, %66, %67}, %68, adds, 1, 1, 1", "%69", "r"(a[0]), "r"(a[1]), \
              "r"(a[2]), "r"(a[3]), "l"(b.bits), "r"(1));                                            \
    }

// D = A B, or D += A B: both K x 64.
template <class T, int N> __device__ void wgmma(float (&d)[N][4], Panels a, Panels b, bool add);
// D += A B, A in registers, B 64 x N.
template <class T, int N> __device__ void wgmma_held(float (&d)[N][4], const unsigned (&a)[4], Panels b);
WGMMA_OF(__half, "f16")
WGMMA_OF(__nv_bfloat16, "bf16")

// Before the first product of a group: earlier writes to its registers are visible.
__device__ inline void warpgroup_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Commits a group of products.
__device__ inline void warpgroup_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most PENDING groups are pending.
template <int PENDING> __device__ inline void warpgroup_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
// After the wait: keeps the compiler from reading `d` earlier.
template <int N> __device__ inline void arrived(float (&d)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) asm volatile("" : "+f"(d[n][i])::"memory");
}
// Makes this thread's writes and completed copies to shared memory visible to wgmma.
__device__ inline void fence_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
