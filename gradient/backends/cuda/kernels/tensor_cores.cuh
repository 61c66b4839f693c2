// PTX instructions without a CUDA C++ function: products of small matrices by tensor cores
// (mma.sync), loads of their operands from shared memory (ldmatrix), and asynchronous copies to
// shared memory (cp.async). PTX ISA, sections "Matrix multiply-accumulate" and "cp.async"; sm_80
// on.
//
// All 32 lanes of a warp call an mma or ldmatrix together. A register holds two neighbouring 16-bit
// floats, the first in its lower half. With g = lane / 4 and c = 2 (lane % 4), lane holds
//
//     A (16, 16)  a[0]: row g,     columns c, c + 1        a[1]: row g + 8, columns c, c + 1
//                 a[2]: row g,     columns c + 8, c + 9    a[3]: row g + 8, columns c + 8, c + 9
//     B (16, 8)   b[0]: rows c, c + 1 of column g          b[1]: rows c + 8, c + 9 of column g
//     D (16, 8)   d[0], d[1]: row g, columns c, c + 1      d[2], d[3]: row g + 8, columns c, c + 1
//
// so two adjacent D, rounded, are an A. Of 8-bit integers a register holds four, the first in its
// lowest byte. With e = 4 (lane % 4), and the same D,
//
//     A (16, 32)  a[0]: row g,     columns e to e + 3      a[1]: row g + 8, columns e to e + 3
//                 a[2]: row g,     columns e + 16 on       a[3]: row g + 8, columns e + 16 on
//     B (32, 8)   b[0]: rows e to e + 3 of column g        b[1]: rows e + 16 on of column g
//
// A 16-byte piece of a row is in one of 8 groups of 4 banks: an ldmatrix has no conflicts if the 8
// rows of each matrix start in 8 different groups.
//
// Tests put a file of the same name first on the include path, which does the same on the CPU:
// include it as <tensor_cores.cuh>.
#pragma once
#include "numbers.cuh"

__device__ inline unsigned shared_address(const void* at) {
    return static_cast<unsigned>(__cvta_generic_to_shared(at));
}

// The same shared memory, whose address is computed here, once: the compiler would do it again for
// every use, by slow instructions.
template <class T> __device__ T* in_register(T* shared) {
    unsigned at = shared_address(shared);
    asm volatile("" : "+r"(at));
    return static_cast<T*>(__cvta_shared_to_generic(at));
}

// D += A B: products of 16-bit floats, summed in float32.
template <class T> __device__ void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);
template <>
__device__ inline void mma_m16n8k16<__half>(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ inline void mma_m16n8k16<__nv_bfloat16>(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// D += A B: products of signed 8-bit integers, summed in 32 bits.
__device__ inline void mma_m16n8k32(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Loads N (1, 2 or 4) matrices of 8 rows of 16 bytes from shared memory. Lane i passes the address
// of row i % 8 of matrix i / 8 (lanes from 8 N on: any address), and gets columns c, c + 1 of row g
// of each matrix.
template <int N> __device__ void ldmatrix(unsigned (&to)[N], const void* row);
template <> __device__ inline void ldmatrix<1>(unsigned (&to)[1], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(to[0]) : "r"(shared_address(row)) : "memory");
}
template <> __device__ inline void ldmatrix<2>(unsigned (&to)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1]) : "r"(shared_address(row)) : "memory");
}
template <> __device__ inline void ldmatrix<4>(unsigned (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row)) : "memory");
}

// The same, each matrix transposed: a lane gets rows c, c + 1 of column g.
template <int N> __device__ void ldmatrix_trans(unsigned (&to)[N], const void* row);
template <> __device__ inline void ldmatrix_trans<1>(unsigned (&to)[1], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(to[0]) : "r"(shared_address(row)) : "memory");
}
template <> __device__ inline void ldmatrix_trans<2>(unsigned (&to)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1]) : "r"(shared_address(row)) : "memory");
}
template <> __device__ inline void ldmatrix_trans<4>(unsigned (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row)) : "memory");
}

// Starts copying 16 bytes from global to shared memory; only the first `bytes` are read, and the
// others become zeros. Both addresses are multiples of 16.
__device__ inline void cp_async(void* to, const void* from, int bytes = 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(bytes) : "memory");
}
// The same, kept in the L1 cache.
__device__ inline void cp_async_cached(void* to, const void* from, int bytes = 16) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(bytes) : "memory");
}
// Starts copying 4 bytes.
__device__ inline void cp_async_word(void* to, const void* from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(to)), "l"(from) : "memory");
}
// Commits the thread's copies as a group.
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most N of the thread's groups are pending. Other threads' copies need a barrier,
// too.
template <int N> __device__ inline void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Two numbers in a register, rounded to T.
template <class T> __device__ unsigned two(float first, float second);
template <> __device__ inline unsigned two<__half>(float first, float second) {
    const __half2 both = __floats2half2_rn(first, second);
    return *reinterpret_cast<const unsigned*>(&both);
}
template <> __device__ inline unsigned two<__nv_bfloat16>(float first, float second) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<const unsigned*>(&both);
}

// 2^x, accurate to 22 bits; 0 for -infinity and below 2^-126.
__device__ inline float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
