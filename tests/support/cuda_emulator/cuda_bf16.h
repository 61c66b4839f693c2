// __nv_bfloat16 for the emulator: the upper half of a float, rounded to nearest even.
#pragma once
#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
    uint16_t bits;
    constexpr __nv_bfloat16() : bits() {}  // constexpr: arrays of them are static without a guard
    __nv_bfloat16(float x) {
        uint32_t word;
        memcpy(&word, &x, 4);
        bits = x != x ? 0x7fc0 | (word >> 16 & 0x8000) : (word + 0x7fff + (word >> 16 & 1)) >> 16;
    }
    __nv_bfloat16(double x) : __nv_bfloat16(static_cast<float>(x)) {}
    explicit __nv_bfloat16(int x) : __nv_bfloat16(static_cast<float>(x)) {}
    operator float() const {
        uint32_t word = static_cast<uint32_t>(bits) << 16;
        float x;
        memcpy(&x, &word, 4);
        return x;
    }
};
struct __nv_bfloat162 { __nv_bfloat16 x, y; };
inline float __bfloat162float(__nv_bfloat16 x) { return x; }
inline __nv_bfloat16 __float2bfloat16(float x) { return x; }
// As of __half.
inline __nv_bfloat16 __hmax_nan(__nv_bfloat16 x, __nv_bfloat16 y) {
    if (x != x || y != y) {
        x.bits = 0x7fff;
        return x;
    }
    return x < y || (x == y && std::signbit(float(x))) ? y : x;
}
inline __nv_bfloat162 __hmax2_nan(__nv_bfloat162 x, __nv_bfloat162 y) {
    return {__hmax_nan(x.x, y.x), __hmax_nan(x.y, y.y)};
}
