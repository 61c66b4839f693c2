// argsort of the columns of each row, and top-k: stable indices, computed only on the device.
//
// Numbers are compared by keys, unsigned words of their size in the same order:
//
//     floats    NaN is the largest word and -0 equals 0; else the bits, with all bits inverted if
//               negative, and only the sign if not (Knuth 1998, section 5.2.5)
//     integers  the bits, for signed ones with the sign inverted
//
// For descending order, the key's bits are inverted. 16-, 32- and 64-bit integers are sorted by the
// kernels of float16, float32 and float64; `kind` says what the bits are.
//
//     sort_rows    up to 4096 columns: Batcher's bitonic network (1968) over (key, place) in shared
//                  memory. A row is read once, its order written once. Grid: one block per row.
//     radix_count, radix_offsets, radix_move
//                  any number of columns: a pass per 8 bits from the lowest (LSD radix sort;
//                  Satish, Harris and Garland 2009, section 4). A pass counts the digits of each tile
//                  of TILE columns, computes by a prefix sum where each digit starts, and moves keys and
//                  places there in order. It reads and writes (key, place) once and reads keys once more:
//                  for float32 4 passes of 20 bytes per element. Grid: one block per tile; for the
//                  offsets, one per row.
//     top_rows     k <= 1024 of any number of columns: finds the k-th best key digit by digit, from the
//                  highest (radix select; Alabi et al. 2012, section 3), then collects the better keys,
//                  and the first of those equal to it, and sorts them as above. A row is read once per
//                  digit and once or twice more, mostly from the cache. Grid: one block per part of a
//                  row, which finds the part's k best; another launch finds the k best of these.
#include "scans.cuh"

constexpr int DIGITS = 256, TILE = 2048, WARPS = 8;
constexpr unsigned ALL = 0xffffffffu;
constexpr Int FLOATS = 0, SIGNED = 1;  // kinds; 2 is unsigned

template <class T> struct Bits { typedef unsigned word; static constexpr word infinity = 0x7f800000u; };
template <> struct Bits<double> {
    typedef unsigned long long word;
    static constexpr word infinity = 0x7ff0000000000000ull;
};
template <> struct Bits<__half> {
    typedef unsigned short word;
    static constexpr word infinity = 0x7c00u;
};
template <> struct Bits<__nv_bfloat16> {
    typedef unsigned short word;
    static constexpr word infinity = 0x7f80u;
};
template <class T> using word_of = typename Bits<T>::word;

// The type of the numbers, and the direction of the order.
struct Order { Int kind, largest; };

template <class T> __device__ word_of<T> key_of(const T* x, Int i, Order order) {
    typedef word_of<T> Word;
    constexpr Word sign = Word(Word(1) << (8 * sizeof(Word) - 1));
    const Word bits = reinterpret_cast<const Word*>(x)[i], size = bits & Word(~sign);
    Word key = bits;
    if (order.kind == FLOATS)
        key = size > Bits<T>::infinity ? Word(~Word(0)) : size == 0 ? sign
              : bits & sign ? Word(~bits) : Word(bits | sign);
    else if (order.kind == SIGNED)
        key = bits ^ sign;
    return order.largest ? Word(~key) : key;
}

// A key with its original place, which breaks ties.
template <class Word> struct Item {
    Word key;
    unsigned place;
    __device__ bool operator<(const Item& other) const {
        return key < other.key || (key == other.key && place < other.place);
    }
};

// Sorts `width` items, a power of two, by all threads of the block.
template <class Word> __device__ void sort_items(Item<Word>* items, int width) {
    for (int size = 2; size <= width; size *= 2)
        for (int stride = size / 2; stride > 0; stride /= 2) {
            __syncthreads();
            for (int pair = threadIdx.x; pair < width / 2; pair += blockDim.x) {
                const int i = 2 * pair - (pair & (stride - 1)), j = i + stride;
                const Item<Word> a = items[i], b = items[j];
                if ((b < a) == ((i & size) == 0)) items[i] = b, items[j] = a;
            }
        }
    __syncthreads();
}

template <class T>
__device__ void sort_rows(const T* x, Int* places, Int columns, Int taken, Int width, Order order) {
    typedef word_of<T> Word;
    extern __shared__ uint4 memory[];
    Item<Word>* items = reinterpret_cast<Item<Word>*>(memory);
    x += blockIdx.x * columns, places += blockIdx.x * taken;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        items[i] = {i < columns ? key_of(x, i, order) : Word(~Word(0)), unsigned(i)};
    sort_items(items, int(width));
    for (Int i = threadIdx.x; i < taken; i += blockDim.x) places[i] = items[i].place;
}

template <class Word> __device__ int digit_of(Word key, Int shift) {
    return int(key >> shift) & (DIGITS - 1);
}

// The lanes of this warp with the same digit, and whether this lane is the first of them.
struct Peers {
    unsigned lanes;
    bool is_first;
    __device__ Peers(int digit)
        : lanes(__match_any_sync(ALL, digit)),
          is_first((lanes & ((1u << threadIdx.x % 32) - 1)) == 0) {}
};

// Counts a digit; all lanes of a warp call it, those without a digit with DIGITS.
__device__ inline void count_digit(unsigned* counts, int digit) {
    const Peers peers(digit);
    if (digit < DIGITS && peers.is_first) atomicAdd(&counts[digit], unsigned(__popc(peers.lanes)));
}

// An element between passes: from `keys` and `places` or, in the first pass, from x.
template <class T> struct Moving {
    const T* x;
    const word_of<T>* keys;
    const unsigned* places;
    Order order;
    __device__ word_of<T> key(Int i) const { return keys ? keys[i] : key_of(x, i, order); }
};

// counts[row][digit][tile]
template <class T>
__device__ void radix_count(const T* x, const word_of<T>* keys, unsigned* counts, Int columns,
                            Int tiles, Int shift, Order order) {
    __shared__ unsigned of_digit[DIGITS];
    const Int row = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    const Moving<T> row_of_x = {x + row * columns, keys ? keys + row * columns : keys, nullptr, order};
    of_digit[threadIdx.x] = 0;
    __syncthreads();
    for (Int i = tile * TILE + threadIdx.x; i < (tile + 1) * TILE; i += DIGITS)
        count_digit(of_digit, i < columns ? digit_of(row_of_x.key(i), shift) : DIGITS);
    __syncthreads();
    counts[(row * DIGITS + threadIdx.x) * tiles + tile] = of_digit[threadIdx.x];
}

// Exclusive prefix sums of a row's counts. A thread takes 16 consecutive counts, so a row of a
// million elements waits 16 times for memory, not 256.
__device__ inline void radix_offsets(unsigned* counts, Int size) {
    constexpr int MANY = 4;
    uint4* packs = reinterpret_cast<uint4*>(counts + blockIdx.x * size);
    unsigned before = 0;
    for (Int first = 0; first < size / 4; first += blockDim.x * MANY) {
        const Int i = first + threadIdx.x * MANY;  // a thread's counts exist all or none: a tile has 256
        uint4 pack[MANY];
        unsigned total = 0;
#pragma unroll
        for (int k = 0; k < MANY; k++) {
            pack[k] = i < size / 4 ? packs[i + k] : uint4{0, 0, 0, 0};
            total += pack[k].x + pack[k].y + pack[k].z + pack[k].w;
        }
        const Scanned<unsigned> sums = block_scan(total);
        unsigned at = before + sums.before;
#pragma unroll
        for (int k = 0; k < MANY; k++) {
            const uint4 count = pack[k];
            pack[k] = {at, at + count.x, at + count.x + count.y, at + count.x + count.y + count.z};
            at = pack[k].w + count.w;
            if (i < size / 4) packs[i + k] = pack[k];
        }
        before += sums.total;
    }
}

// Moves each element of a tile to the next free place of its digit. A warp's elements are
// consecutive, and it takes 32 at a time, so equal ones stay in order.
template <class T>
__device__ void radix_move(const T* x, const word_of<T>* keys, const unsigned* places,
                           const unsigned* offsets, word_of<T>* keys_out, unsigned* places_out,
                           Int* sorted, Int columns, Int tiles, Int shift, Order order) {
    __shared__ unsigned next[WARPS][DIGITS];
    const Int row = blockIdx.x / tiles, tile = blockIdx.x % tiles, start = row * columns;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const Moving<T> from = {x + start, keys ? keys + start : keys, places ? places + start : places, order};
    for (int w = 0; w < WARPS; w++) next[w][threadIdx.x] = 0;
    __syncthreads();
    const Int first = tile * TILE + warp * (TILE / WARPS) + lane, end = first + TILE / WARPS;
    for (Int i = first; i < end; i += 32)
        count_digit(next[warp], i < columns ? digit_of(from.key(i), shift) : DIGITS);
    __syncthreads();
    unsigned to = offsets[(row * DIGITS + threadIdx.x) * tiles + tile];
    for (int w = 0; w < WARPS; w++) {
        const unsigned count = next[w][threadIdx.x];
        next[w][threadIdx.x] = to;
        to += count;
    }
    __syncthreads();
    for (Int i = first; i < end; i += 32) {
        const bool inside = i < columns;
        const word_of<T> key = inside ? from.key(i) : word_of<T>(0);
        const int digit = inside ? digit_of(key, shift) : DIGITS;
        const Peers peers(digit);
        const Int at = inside ? start + next[warp][digit] + __popc(peers.lanes & ((1u << lane) - 1)) : 0;
        __syncwarp();
        if (inside && peers.is_first) next[warp][digit] += __popc(peers.lanes);
        __syncwarp();
        if (!inside) continue;
        const unsigned place = from.places ? from.places[i] : unsigned(i);
        if (sorted) sorted[at] = place;
        else keys_out[at] = key, places_out[at] = place;
    }
}

// For each part of a row: `of_part` columns, or the rest in the last part.
template <class T>
__device__ void top_rows(const T* x, Int* places, Int columns, Int of_part, Int k, Int width, Order order) {
    typedef word_of<T> Word;
    extern __shared__ uint4 memory[];
    Item<Word>* best = reinterpret_cast<Item<Word>*>(memory);
    __shared__ unsigned counts[DIGITS], digit, before, taken;
    const unsigned parts = unsigned((columns + of_part - 1) / of_part);
    const Int start = blockIdx.x % parts * of_part;
    x += blockIdx.x / parts * columns + start, places += blockIdx.x * k;
    columns = min(of_part, columns - start);

    // The k-th best key has the bits of `prefix` in all positions of `known`. Of the keys with
    // these bits, the `left` best are among the k.
    Word prefix = 0, known = 0;
    unsigned left = unsigned(k), equal;
    for (int shift = 8 * sizeof(Word) - 8;; shift -= 8) {
        if (threadIdx.x < DIGITS) counts[threadIdx.x] = 0;
        __syncthreads();
        for (Int first = 0; first < columns; first += blockDim.x) {
            const Int i = first + threadIdx.x;
            const Word key = i < columns ? key_of(x, i, order) : Word(0);
            const bool is_in = i < columns && (key & known) == prefix;
            count_digit(counts, is_in ? digit_of(key, shift) : DIGITS);
        }
        __syncthreads();
        const unsigned count = threadIdx.x < DIGITS ? counts[threadIdx.x] : 0;
        const unsigned better = block_scan(count).before;
        if (better < left && left <= better + count) digit = threadIdx.x, before = better;
        __syncthreads();
        prefix |= Word(Word(digit) << shift), known |= Word(Word(DIGITS - 1) << shift);
        left -= before, equal = counts[digit];
        __syncthreads();  // counts and digit may be overwritten
        if (equal == left || shift == 0) break;
    }

    if (threadIdx.x == 0) taken = 0;
    for (Int i = k + threadIdx.x; i < width; i += blockDim.x) best[i] = {Word(~Word(0)), ALL};
    __syncthreads();
    for (Int i = threadIdx.x; i < columns; i += blockDim.x) {
        const Word key = key_of(x, i, order), part = key & known;
        if (part < prefix || (part == prefix && equal == left))
            best[atomicAdd(&taken, 1u)] = {key, unsigned(i)};
    }
    // Take the first of those that are equal to the k-th best, if there are more than needed.
    unsigned found = equal == left ? left : 0;
    for (Int first = 0; found < left; first += blockDim.x) {
        const Int i = first + threadIdx.x;
        const bool is_equal = i < columns && key_of(x, i, order) == prefix;
        const Scanned<unsigned> sums = block_scan(unsigned(is_equal));
        const unsigned number = found + sums.before;
        if (is_equal && number < left) best[k - left + number] = {prefix, unsigned(i)};
        found += sums.total;
    }
    sort_items(best, int(width));
    for (Int i = threadIdx.x; i < k; i += blockDim.x) places[i] = start + best[i].place;
}

#define EXPORT(NAME, T)                                                                            \
    extern "C" __global__ void __launch_bounds__(512) sort_rows_##NAME(                            \
        const T* x, Int* places, Int columns, Int taken, Int width, Int kind, Int largest) {       \
        sort_rows(x, places, columns, taken, width, Order{kind, largest});                         \
    }                                                                                              \
    extern "C" __global__ void radix_count_##NAME(const T* x, const word_of<T>* keys,              \
                                                  unsigned* counts, Int columns, Int tiles,        \
                                                  Int shift, Int kind, Int largest) {              \
        radix_count(x, keys, counts, columns, tiles, shift, Order{kind, largest});                 \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(512) radix_offsets_##NAME(unsigned* counts,       \
                                                                           Int size) {             \
        radix_offsets(counts, size);                                                               \
    }                                                                                              \
    extern "C" __global__ void radix_move_##NAME(                                                  \
        const T* x, const word_of<T>* keys, const unsigned* places, const unsigned* offsets,       \
        word_of<T>* keys_out, unsigned* places_out, Int* sorted, Int columns, Int tiles,           \
        Int shift, Int kind, Int largest) {                                                        \
        radix_move(x, keys, places, offsets, keys_out, places_out, sorted, columns, tiles, shift,  \
                   Order{kind, largest});                                                          \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(512) top_rows_##NAME(                             \
        const T* x, Int* places, Int columns, Int of_part, Int k, Int width, Int kind,             \
        Int largest) {                                                                             \
        top_rows(x, places, columns, of_part, k, width, Order{kind, largest});                     \
    }
FOR_EACH_FLOAT(EXPORT)
