// __half for the emulator: g++'s _Float16, which rounds to nearest even as the GPU does.
#pragma once
#include <cstdint>
#include <cstring>

struct __half {
    _Float16 value;
    constexpr __half() : value() {}
    __half(float x) : value(static_cast<_Float16>(x)) {}
    __half(double x) : value(static_cast<_Float16>(x)) {}
    explicit __half(int x) : value(static_cast<_Float16>(x)) {}
    operator float() const { return static_cast<float>(value); }
};
typedef __half half;
struct __half2 { __half x, y; };
typedef __half2 half2;
inline float __half2float(__half x) { return x; }
inline __half __float2half(float x) { return x; }
inline float2 __half22float2(__half2 v) { return {float(v.x), float(v.y)}; }
inline __half2 __hadd2(__half2 a, __half2 b) { return {float(a.x) + float(b.x), float(a.y) + float(b.y)}; }
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
    return {double(a.x) * b.x + c.x, double(a.y) * b.y + c.y};
}
// Of the two zeros +0 is the larger one; NaN is the canonical one, 0x7fff.
inline __half __hmax_nan(__half x, __half y) {
    if (x != x || y != y) {
        const uint16_t bits = 0x7fff;
        memcpy(&x, &bits, 2);
        return x;
    }
    return x < y || (x == y && std::signbit(float(x))) ? y : x;
}
inline __half2 __hmax2_nan(__half2 x, __half2 y) { return {__hmax_nan(x.x, y.x), __hmax_nan(x.y, y.y)}; }
