// Functions of each element, and the gradients of activations. Each element is read and written
// once. Grid: any number of blocks, which divide the elements.
#include "functions.cuh"
#include "rows.cuh"

// UNARY(name, expression of x), BINARY(name, expression of g and x)
#define FOR_EACH_FUNCTION(UNARY, BINARY, NAME, T)                                              \
    UNARY(neg, -x, NAME, T)                                                                    \
    UNARY(abs, abs(x), NAME, T)                                                                \
    UNARY(exp, exp(x), NAME, T)                                                                \
    UNARY(log, log(x), NAME, T)                                                                \
    UNARY(sqrt, sqrt(x), NAME, T)                                                              \
    UNARY(sin, sin(x), NAME, T)                                                                \
    UNARY(cos, cos(x), NAME, T)                                                                \
    UNARY(tan, tan(x), NAME, T)                                                                \
    UNARY(tanh, tanh(x), NAME, T)                                                              \
    UNARY(expm1, expm1(x), NAME, T)                                                            \
    UNARY(log1p, log1p(x), NAME, T)                                                            \
    UNARY(floor, floor(x), NAME, T)                                                            \
    UNARY(ceil, ceil(x), NAME, T)                                                              \
    UNARY(erf, erf(x), NAME, T)                                                                \
    UNARY(sigmoid, sigmoid(x), NAME, T)                                                        \
    UNARY(logsigmoid, (x < 0 ? x : A(0)) - log1p(exp(-abs(x))), NAME, T)                       \
    UNARY(relu, x <= 0 ? A(0) : x, NAME, T)                                                    \
    UNARY(silu, x * sigmoid(x), NAME, T)                                                       \
    UNARY(gelu, x * normal_cdf(x), NAME, T)                                                    \
    UNARY(gelu_tanh, A(0.5) * x * (1 + tanh(gelu_angle(x))), NAME, T)                          \
    BINARY(relu_grad, x <= 0 ? A(0) : g, NAME, T)                                              \
    BINARY(silu_grad, g * (sigmoid(x) * (1 + x * (1 - sigmoid(x)))), NAME, T)                  \
    BINARY(gelu_grad, g * (normal_cdf(x) + x * normal_density(x)), NAME, T)                    \
    BINARY(gelu_tanh_grad,                                                                     \
           g * (A(0.5) * (1 + tanh(gelu_angle(x))) +                                           \
                A(0.5) * x * (1 - tanh(gelu_angle(x)) * tanh(gelu_angle(x))) *                 \
                    gelu_angle_slope(x)),                                                      \
           NAME, T)

#define UNARY(FUNCTION, EXPRESSION, NAME, T)                                                   \
    extern "C" __global__ void FUNCTION##_##NAME(const T* x, T* out, Int count) {              \
        typedef computed<T> A;                                                                 \
        map_elements(Int(blockIdx.x) * blockDim.x + threadIdx.x, Int(gridDim.x) * blockDim.x,  \
                     count, out, [](Int, A x) -> A { return EXPRESSION; }, x);                 \
    }

#define BINARY(FUNCTION, EXPRESSION, NAME, T)                                                  \
    extern "C" __global__ void FUNCTION##_##NAME(const T* g, const T* x, T* out, Int count) {  \
        typedef computed<T> A;                                                                 \
        map_elements(Int(blockIdx.x) * blockDim.x + threadIdx.x, Int(gridDim.x) * blockDim.x,  \
                     count, out, [](Int, A g, A x) -> A { return EXPRESSION; }, g, x);         \
    }

#define EXPORT(NAME, T) FOR_EACH_FUNCTION(UNARY, BINARY, NAME, T)
FOR_EACH_FLOAT(EXPORT)
