// Finds races: two threads that access the same byte, one of them writing, with no barrier between.
//
// g++ (-fsanitize=thread) calls the functions at the end of this file before each load and store of a
// kernel. Each byte of shared memory and of the arrays of a launch has a record of its last write and
// its last reads: by which thread, after how many barriers. An access is ordered after an earlier one
// of the same thread, of a thread of its block before the last __syncthreads, and of a lane of its warp
// before the last __syncwarp (shuffles and matrix instructions order no memory: PTX ISA, memory
// consistency model). Nothing orders blocks. Atomic operations race only with others. That is FastTrack
// (Flanagan and Freund, PLDI 2009), whose clocks are counters here, as all threads wait for all.
// A load from shared memory that no thread of the block has written is reported, too.
#pragma once

#ifndef RACES

namespace emulator {
inline void watch(const void*, size_t, bool) {}
inline void begin_block(bool) {}
}  // namespace emulator

#else

namespace emulator {

struct Access {
    unsigned block, barriers, warp_barriers;
    unsigned short thread;
    bool atomic;
};

struct Byte {
    Access written, read;
    // Whether reads after the barrier of `read` were of several threads, warps, blocks.
    bool by_threads, by_warps, by_blocks;
};

struct Range {
    uintptr_t start, stop;
    Byte* bytes;
};

inline struct {
    unsigned first_block = 1, block = 0;  // numbered through all launches: older records do not count
    const Thread* threads;
    uintptr_t dynamic_start;
    size_t dynamic_size;
    Byte *of_dynamic, *of_static, *of_arrays;
    size_t dynamic_held, arrays_held;
    Range* arrays;
    int array_count;
    char text[256];
} races;

extern "C" __attribute__((visibility("hidden"))) char __bss_start[], _end[];

#define NOT_WATCHED __attribute__((no_sanitize("thread")))

NOT_WATCHED inline Access this_access() {
    const Thread& t = *state.running;
    return {races.block, t.barriers, t.warp_barriers, static_cast<unsigned short>(&t - races.threads),
            state.atomics > 0};
}

NOT_WATCHED inline bool is_ordered(const Access& before, const Access& now) {
    if (before.block != now.block) return false;
    if (before.thread == now.thread || before.barriers < now.barriers) return true;
    return before.thread / 32 == now.thread / 32 && before.warp_barriers < now.warp_barriers;
}

NOT_WATCHED inline bool are_ordered(const Byte& byte, const Access& now) {
    if (byte.by_blocks) return false;
    if (byte.read.block == now.block && byte.read.barriers == now.barriers) {
        if (byte.by_warps) return false;
        if (byte.by_threads && byte.read.warp_barriers == now.warp_barriers) return false;
    }
    return is_ordered(byte.read, now);
}

[[noreturn]] NOT_WATCHED inline void report_race(const char* what, const Access& before, const Access& now,
                                                 const char* where, size_t offset) {
    snprintf(races.text, sizeof races.text,
             "has a race: thread %u of block %u %s thread %u of block %u %s, at byte %zu of %s", now.thread,
             now.block - races.first_block, what, before.thread, before.block - races.first_block,
             "without a barrier between", offset, where);
    stop(races.text);
}

NOT_WATCHED inline void access(Byte& byte, bool writes, bool is_shared, size_t offset, const char* where) {
    const Access now = this_access();
    const unsigned oldest = is_shared ? races.block : races.first_block;
    const bool was_written = byte.written.block >= oldest, was_read = byte.read.block >= oldest;
    if (was_written && !is_ordered(byte.written, now) && !(now.atomic && byte.written.atomic))
        report_race(writes ? "writes after" : "reads what was written by", byte.written, now, where, offset);
    if (writes) {
        if (was_read && !are_ordered(byte, now) && !(now.atomic && byte.read.atomic))
            report_race("writes what was read by", byte.read, now, where, offset);
        byte.written = now;
        byte.read.block = 0;
        return;
    }
    if (is_shared && !was_written) {
        snprintf(races.text, sizeof races.text, "reads byte %zu of %s, which no thread of the block had written",
                 offset, where);
        stop(races.text);
    }
    if (!was_read || byte.read.block == now.block && byte.read.barriers < now.barriers) {
        byte = {byte.written, now, false, false, false};
    } else if (byte.read.block != now.block) {
        byte.by_blocks = true;
    } else if (byte.read.thread / 32 != now.thread / 32) {
        byte.by_warps = true;
    } else if (byte.read.warp_barriers < now.warp_barriers) {
        byte.read = now, byte.by_threads = false;
    } else if (byte.read.thread != now.thread) {
        byte.by_threads = true;
    }
    byte.read.atomic &= now.atomic;
}

NOT_WATCHED inline void watch(const void* address, size_t size, bool writes) {
    if (!state.running) return;
    const uintptr_t at = uintptr_t(address);
    if (at - races.dynamic_start < races.dynamic_size) {
        const size_t offset = at - races.dynamic_start;
        for (size_t i = offset; i < offset + size; i++)
            access(races.of_dynamic[i], writes, true, i, "dynamic shared memory");
        return;
    }
    if (at - uintptr_t(__bss_start) < size_t(_end - __bss_start)) {
        if (at - uintptr_t(&state) < sizeof state) return;
        const size_t offset = at - uintptr_t(__bss_start);
        for (size_t i = offset; i < offset + size; i++)
            access(races.of_static[i], writes, true, i, "static shared memory");
        return;
    }
    for (int n = 0; n < races.array_count; n++) {
        const Range& range = races.arrays[n];
        if (at - range.start >= range.stop - range.start) continue;
        const size_t offset = at - range.start;
        for (size_t i = offset; i < offset + size; i++)
            access(range.bytes[i], writes, false, i, "an array");
        return;
    }
}

// At least `count` records, none of which counts.
NOT_WATCHED inline void make_room(Byte*& bytes, size_t& held, size_t count) {
    if (held >= count) return;
    free(bytes);
    bytes = static_cast<Byte*>(calloc(held = count, sizeof(Byte)));
}

inline void begin_block(bool is_first) {
    races.block++;
    if (is_first) races.first_block = races.block;
    races.threads = state.threads.data();
    races.dynamic_start = uintptr_t(dynamic_shared());
    races.dynamic_size = state.dynamic_shared.size() - 1024;
    make_room(races.of_dynamic, races.dynamic_held, races.dynamic_size);
}

// The arrays of the next launch: disjoint, each from `starts` to `stops`.
inline void watch_arrays(int count, const uintptr_t* starts, const uintptr_t* stops) {
    size_t size = 0, done = 0, held = 0;
    for (int i = 0; i < count; i++) size += stops[i] - starts[i];
    make_room(races.of_arrays, races.arrays_held, size);
    if (!races.of_static) make_room(races.of_static, held, _end - __bss_start);
    races.arrays = static_cast<Range*>(realloc(races.arrays, (count + 1) * sizeof(Range)));
    races.array_count = count;
    for (int i = 0; i < count; i++) {
        races.arrays[i] = {starts[i], stops[i], races.of_arrays + done};
        done += stops[i] - starts[i];
    }
}

}  // namespace emulator

#define HOOK(NAME, SIZE, WRITES)                                                  \
    extern "C" NOT_WATCHED __attribute__((visibility("hidden"), used)) void NAME( \
        void* address) {                                                          \
        emulator::watch(address, SIZE, WRITES);                                   \
    }
#define HOOKS(SIZE)                                     \
    HOOK(__tsan_read##SIZE, SIZE, false)                \
    HOOK(__tsan_write##SIZE, SIZE, true)                \
    HOOK(__tsan_unaligned_read##SIZE, SIZE, false)      \
    HOOK(__tsan_unaligned_write##SIZE, SIZE, true)      \
    HOOK(__tsan_volatile_read##SIZE, SIZE, false)       \
    HOOK(__tsan_volatile_write##SIZE, SIZE, true)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
#undef HOOKS
#undef HOOK
extern "C" NOT_WATCHED __attribute__((visibility("hidden"), used)) void __tsan_read_range(void* address,
                                                                                         long size) {
    emulator::watch(address, size, false);
}
extern "C" NOT_WATCHED __attribute__((visibility("hidden"), used)) void __tsan_write_range(void* address,
                                                                                          long size) {
    emulator::watch(address, size, true);
}
extern "C" NOT_WATCHED __attribute__((visibility("hidden"), used)) void __tsan_init() {}
extern "C" NOT_WATCHED __attribute__((visibility("hidden"), used)) void __tsan_vptr_update(void*, void*) {}

#endif
