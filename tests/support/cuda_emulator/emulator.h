// Runs CUDA C++ kernels on the CPU, so that tests can compare them where there is no GPU.
//
// A block's threads are fibers (each with a stack of its own) that switch only where CUDA threads
// wait for one another: at __syncthreads, __syncwarp, the shuffles and what tensor cores do
// (tensor_cores.cuh). One warp runs as far as it
// can before the next one starts, in one of three orders, in which they go on after a barrier, too. So
// what a missing __syncthreads lets one warp do too early or too late, to another's number, shows in one
// of them; shared memory that a kernel asks for at the launch starts as
// NaN; a barrier that some threads never reach is reported, and so is a load or a store of more bytes
// than its address is a multiple of, which ends a GPU's program. Blocks run one after the other. With
// RACES defined, races between threads and between blocks are found as well (races.h).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <algorithm>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>
#include <ucontext.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __shared__ static
#define __constant__ static const
#define __grid_constant__

struct uint3 { unsigned x, y, z; };
typedef uint3 dim3;
struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emulator {

inline void watch(const void* address, size_t size, bool writes);

// Where to go on, for g++'s own setjmp and longjmp: libc's took a sixth of the time.
typedef void* Position[5];

// Threads that wait for one another. Those that have ended count as arrived, as on the GPU.
struct Barrier {
    int members = 0, arrived = 0;
    unsigned generation = 0;
    void open_if_all_arrived() {
        if (members > 0 && arrived == members) arrived = 0, generation++;
    }
};

struct Warp {
    Barrier barrier;
    // By parity of the generation: the next exchange may begin early.
    struct alignas(16) Slot { char bytes[48]; } published[2][32];
};

// 16 bytes on their way to shared memory, of which `bytes` are read and the others are zeros; since
// its issue `age` groups were ended.
struct Copy {
    void* to;
    const void* from;
    int bytes, age, size = 16;  // `size` bytes are written: zeros after those that are copied
    void watch_target() const { watch(to, size, true); }
    void run() const {
        watch(from, bytes, false);
        watch_target();
        memcpy(to, from, bytes);
        memset(static_cast<char*>(to) + bytes, 0, size - bytes);
    }
};

// A product that a warpgroup has begun, as one thread does it.
struct Product {
    std::function<void()> run;
    int age;
};

struct Thread {
    uint3 index;
    int lane;
    Warp* warp;
    bool has_fiber = false, done;
    const Barrier* waits_at;
    unsigned generation;
    unsigned barriers, warp_barriers;  // how many it has come to
    Position position;
    char* stack;
    std::vector<Copy> copies;
    std::vector<Product> products;
    bool copied, unfenced;  // in the background; and waited for that, which wgmma does not see yet
};

constexpr size_t STACK = (128 << 10) + 832;  // not a power of two: stacks share no cache sets

inline struct {
    uint3 block_index, block_size, grid_size;
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<char> dynamic_shared;
    Barrier barrier;
    Thread* running;
    Position scheduler;
    ucontext_t context;  // where a thread begins; not in `Thread`: those of a block should be cached
    void (*body)(void*);
    void* arguments;
    const char* fault;        // what the GPU would not do, or do anything with
    long long bank_conflicts, waits, fetches;
    bool copies_at_once, stopped, ends_at_waits;
    int atomics;  // 1 within an atomic operation
} state;

inline void report(const char* fault) { state.fault = fault; }

// Reports a fault after which the GPU would not go on: the block ends.
[[noreturn]] inline void stop(const char* fault) {
    report(fault);
    state.stopped = true;
    __builtin_longjmp(state.scheduler, 1);
}

}  // namespace emulator

// Called by what g++ makes of kernels (-fsanitize=alignment), in place of its library's function.
extern "C" __attribute__((used, visibility("hidden"))) void __ubsan_handle_type_mismatch_v1(
    void*, uintptr_t) {
    emulator::stop("loads or stores at an address that is not aligned to the size");
}

namespace emulator {

inline void to_scheduler() {
    if (__builtin_setjmp(state.running->position) == 0) __builtin_longjmp(state.scheduler, 1);
}

inline void wait(Barrier& barrier) {
    unsigned generation = barrier.generation;
    barrier.arrived++;
    barrier.open_if_all_arrived();
    state.running->waits_at = &barrier;
    state.running->generation = generation;
    to_scheduler();  // the last to arrive, too: the order says who goes on first
}

inline void leave_barriers() {
    Thread* thread = state.running;
    thread->done = true;
    for (Barrier* barrier : {&thread->warp->barrier, &state.barrier}) {
        barrier->members--;
        barrier->open_if_all_arrived();
    }
}

// Ends the running thread where it is; the next block begins its fiber anew.
inline void end_thread() {
    leave_barriers();
    state.running->has_fiber = false;
    __builtin_longjmp(state.scheduler, 1);
}

// A fiber goes on with the next block, for making one takes calls of the operating system.
inline void thread_main() {
    for (;;) {
        state.body(state.arguments);
        leave_barriers();
        to_scheduler();
    }
}

inline void run_until_it_waits(Thread& thread) {
    state.running = &thread;
    thread.waits_at = nullptr;
    if (__builtin_setjmp(state.scheduler)) return;
    if (thread.has_fiber) __builtin_longjmp(thread.position, 1);
    thread.has_fiber = true;
    getcontext(&state.context);
    state.context.uc_stack.ss_sp = thread.stack;
    state.context.uc_stack.ss_size = STACK;
    state.context.uc_link = nullptr;
    makecontext(&state.context, thread_main, 0);
    setcontext(&state.context);
}

inline bool can_run(const Thread& thread) {
    return !thread.done && !(thread.waits_at && thread.waits_at->generation == thread.generation);
}

// The threads that have not ended never go on: the next block begins theirs anew.
inline bool leave_threads(int count) {
    for (int i = 0; i < count; i++) state.threads[i].has_fiber &= state.threads[i].done;
    return false;
}

// Runs the threads of one block; false if all that are left wait for one another, or at a fault.
inline bool run_block(int order) {
    int count = state.block_size.x * state.block_size.y * state.block_size.z;
    int warps = (count + 31) / 32;
    state.barrier = Barrier{count};
    for (int w = 0; w < warps; w++) {
        memset(state.warps[w].published, 0xff, sizeof state.warps[w].published);
        state.warps[w].barrier = Barrier{std::min(32, count - 32 * w)};
    }
    memset(state.dynamic_shared.data(), 0xff, state.dynamic_shared.size());
    for (int i = 0; i < count; i++) {
        Thread& thread = state.threads[i];
        unsigned x = state.block_size.x, y = state.block_size.y, n = i;
        thread.index = {n % x, n / x % y, n / x / y};
        thread.lane = i % 32;
        thread.warp = &state.warps[i / 32];
        thread.done = false;
        thread.waits_at = nullptr;
        thread.barriers = thread.warp_barriers = 0;
        thread.copies.clear();
        thread.products.clear();
        thread.copied = thread.unfenced = false;
    }
    for (int left = count; left > 0;) {
        int before = left;
        bool ran = false;
        const unsigned generation = state.barrier.generation;
        for (int step = 0; step < warps && state.barrier.generation == generation; step++) {
            int w = order == 0 ? step : order == 1 ? warps - 1 - step : (step * 5 + 3) % warps;
            if (order == 2 && warps % 5 == 0) w = step;  // 5 must have no divisor in common with it
            for (bool again = true; again;) {
                again = false;
                int first = 32 * w, last = std::min(count, first + 32) - 1;
                const unsigned of_warp = state.warps[w].barrier.generation;
                for (int i = first; i <= last; i++) {
                    Thread& thread = state.threads[order == 1 ? first + last - i : i];
                    if (!can_run(thread)) continue;
                    run_until_it_waits(thread);
                    if (state.stopped) return leave_threads(count);
                    again = ran = true;
                    left -= thread.done;
                    if (state.warps[w].barrier.generation != of_warp) break;
                    if (state.barrier.generation != generation) break;
                }
                if (state.barrier.generation != generation) break;
            }
        }
        if (!ran && left == before) return leave_threads(count);
    }
    return true;
}

template <class T> constexpr char code() {
    if (std::is_pointer<T>::value) return 'P';
    if (std::is_class<T>::value) return 's';
    if (std::is_same<T, float>::value) return 'f';
    if (std::is_same<T, double>::value) return 'd';
    if (std::is_integral<T>::value) return sizeof(T) == 8 ? 'q' : sizeof(T) == 4 ? 'i' : '?';
    return '?';
}

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_const_t<A>*>(arguments[I])...);
}

inline void begin_block(bool is_first);
inline void* dynamic_shared();

// Whether the last block wrote to a place behind the shared memory that the launch gives.
inline bool wrote_behind(size_t shared) {
    const char* const stop = state.dynamic_shared.data() + state.dynamic_shared.size();
    for (const char* at = static_cast<char*>(dynamic_shared()) + shared; at < stop; at++)
        if (*at != char(0xff)) return true;
    return false;
}

// Runs kernel<<<grid, block, shared>>>(arguments...); `types` are the codes of the arguments that
// came. Returns what is wrong, or null.
template <class... A>
const char* launch(void (*kernel)(A...), const unsigned* grid, const unsigned* block, size_t shared,
                   int order, const char* types, void** arguments) {
    const char expected[] = {code<A>()..., 0};
    if (strcmp(expected, types)) {
        static char text[256];
        snprintf(text, sizeof text, "takes arguments %s, got %s", expected, types);
        return text;
    }
    size_t count = size_t(block[0]) * block[1] * block[2];
    if (count == 0 || count > 1024) return "takes blocks of 1 to 1024 threads";
    if (!grid[0] || !grid[1] || !grid[2]) return "takes grids of at least one block";
    if (grid[1] > 65535 || grid[2] > 65535) return "takes at most 65535 blocks along y and z";
    if (shared > (227 << 10)) return "asks for more than 227 KiB of shared memory";
    state.block_size = {block[0], block[1], block[2]};
    state.grid_size = {grid[0], grid[1], grid[2]};
    state.dynamic_shared.resize(shared + 2 * 1024);  // to begin aligned, and to see writes behind the end
    state.copies_at_once = order == 1;
    state.fault = nullptr, state.stopped = false;
    while (state.threads.size() < count) {
        state.threads.emplace_back();
        state.threads.back().stack = static_cast<char*>(malloc(STACK));
    }
    state.warps.resize(std::max(state.warps.size(), (count + 31) / 32));
    auto body = [&] { call(kernel, arguments, std::index_sequence_for<A...>{}); };
    state.arguments = &body;
    state.body = [](void* of) { (*static_cast<decltype(body)*>(of))(); };
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                state.block_index = {x, y, z};
                begin_block(x + y + z == 0);
                const bool ended = run_block(order);
                state.running = nullptr;
                if (state.fault) return state.fault;
                if (!ended) return "has threads that wait where others never come";
                if (wrote_behind(shared)) return "writes behind its shared memory";
            }
    return nullptr;
}

inline void* dynamic_shared() {
    return reinterpret_cast<void*>((uintptr_t(state.dynamic_shared.data()) + 1023) & ~uintptr_t(1023));
}

}  // namespace emulator
#include "races.h"
namespace emulator {

// All lanes publish a value; the last one to come may `work` on all of them. Then every lane sees
// them, until it gives the one after the next.
template <class T> struct Published {
    Warp::Slot* slots;
    T& operator[](int lane) const { return *reinterpret_cast<T*>(slots[lane].bytes); }
};
template <class T, class F> Published<T> gather(T value, F work) {
    static_assert(sizeof(T) <= sizeof(Warp::Slot), "a lane publishes at most 48 bytes");
    Warp* warp = state.running->warp;
    Published<T> all{warp->published[warp->barrier.generation % 2]};
    all[state.running->lane] = value;
    if (warp->barrier.arrived + 1 == warp->barrier.members) work(all);
    wait(warp->barrier);
    return all;
}

// Each reads that of lane `source`.
template <class T> T exchange(T value, int source) {
    return gather(value, [](auto) {})[source];
}

template <class Out, class In> Out bits_as(In x) {
    static_assert(sizeof(Out) == sizeof(In), "the same bits");
    Out out;
    memcpy(&out, &x, sizeof out);
    return out;
}

}  // namespace emulator

#define threadIdx (emulator::state.running->index)
#define blockIdx (emulator::state.block_index)
#define blockDim (emulator::state.block_size)
#define gridDim (emulator::state.grid_size)

inline void __syncthreads() {
    emulator::state.running->barriers++;
    emulator::wait(emulator::state.barrier);
}
inline void __syncwarp(unsigned = ~0u) {
    emulator::state.running->warp_barriers++;
    emulator::wait(emulator::state.running->warp->barrier);
}
inline void __threadfence() {}

template <class T> T __shfl_sync(unsigned, T value, int source, int width = 32) {
    int lane = emulator::state.running->lane;
    return emulator::exchange(value, (lane & ~(width - 1)) + (source & (width - 1)));
}
template <class T> T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
    return emulator::exchange(value, emulator::state.running->lane ^ mask);
}
template <class T> T __shfl_down_sync(unsigned, T value, unsigned distance, int width = 32) {
    int lane = emulator::state.running->lane;
    bool inside = (lane & (width - 1)) + int(distance) < width;
    return emulator::exchange(value, inside ? lane + int(distance) : lane);
}

template <class T> T __shfl_up_sync(unsigned, T value, unsigned distance, int width = 32) {
    int lane = emulator::state.running->lane;
    bool inside = (lane & (width - 1)) >= int(distance);
    return emulator::exchange(value, inside ? lane - int(distance) : lane);
}
inline unsigned __match_any_sync(unsigned, int value) {
    auto all = emulator::gather(value, [](auto) {});
    unsigned equal = 0;
    for (int lane = 0; lane < 32; lane++) equal |= unsigned(all[lane] == value) << lane;
    return equal;
}
inline int __any_sync(unsigned, int value) {
    auto all = emulator::gather(value, [](auto) {});
    bool any = false;
    for (int lane = 0; lane < 32; lane++) any |= all[lane] != 0;
    return any;
}
inline unsigned __umulhi(unsigned x, unsigned y) { return uint64_t(x) * y >> 32; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }

template <class T, class F> T atomic(T* at, F result) {
    emulator::state.atomics = 1;
    const T before = *at;
    *at = result(before);
    emulator::state.atomics = 0;
    return before;
}
inline unsigned __reduce_max_sync(unsigned, unsigned value) {
    unsigned most = value;
    for (int lane = 0; lane < 32; lane++) most = std::max(most, __shfl_sync(~0u, value, lane));
    return most;
}
template <class T> T atomicAdd(T* at, T value) {
    return atomic(at, [=](T before) { return before + value; });
}
template <class T> T atomicMin(T* at, T value) {
    return atomic(at, [=](T before) { return std::min(before, value); });
}
template <class T> T atomicMax(T* at, T value) {
    return atomic(at, [=](T before) { return std::max(before, value); });
}
template <class T> T __ldg(const T* at) { return *at; }
template <class T> T __ldcs(const T* at) { return *at; }

inline float __int_as_float(int x) { return emulator::bits_as<float>(x); }
inline int __float_as_int(float x) { return emulator::bits_as<int>(x); }
inline float __uint_as_float(unsigned x) { return emulator::bits_as<float>(x); }
inline unsigned __float_as_uint(float x) { return emulator::bits_as<unsigned>(x); }
inline double __longlong_as_double(long long x) { return emulator::bits_as<double>(x); }
inline long long __double_as_longlong(double x) { return emulator::bits_as<long long>(x); }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
inline float rsqrt(float x) { return 1 / std::sqrt(x); }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __dadd_rn(double x, double y) { return x + y; }
inline float __fdividef(float x, float y) { return x / y; }
inline float __expf(float x) { return std::exp(x); }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline unsigned __vmaxu2(unsigned x, unsigned y) {
    return std::max(x & 0xffffu, y & 0xffffu) | std::max(x & 0xffff0000u, y & 0xffff0000u);
}
// Bytes 0 to 3 of x and 4 to 7 of y, by the last three bits of the selector's halves of bytes.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    unsigned made = 0;
    for (int i = 0; i < 4; i++)
        made |= unsigned((uint64_t(y) << 32 | x) >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return made;
}
inline int __dp4a(int a, int b, int c) {
    for (int k = 0; k < 4; k++) c += int(int8_t(a >> 8 * k)) * int(int8_t(b >> 8 * k));
    return c;
}
using std::abs, std::ceil, std::cos, std::erf, std::exp, std::expm1, std::floor, std::fma, std::log;
using std::log1p, std::max, std::min, std::sin, std::sqrt, std::tan, std::tanh;
