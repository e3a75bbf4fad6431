// Element types of the bitstream. Codes: docs/format.md#element-types
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/error.hpp"

namespace nncodec {

enum class DType : std::uint8_t {
    float64 = 1,
    float32 = 2,
    float16 = 3,
    bfloat16 = 4,
    float8_e4m3fn = 5,
    float8_e5m2 = 6,
    float8_e4m3fnuz = 7,
    float8_e5m2fnuz = 8,
    float8_e8m0fnu = 9,
    float4_e2m1fn_x2 = 10,
    int64 = 16,
    int32 = 17,
    int16 = 18,
    int8 = 19,
    uint64 = 20,
    uint32 = 21,
    uint16 = 22,
    uint8 = 23,
    bool8 = 32,
    complex128 = 48,
    complex64 = 49,
    complex32 = 50,
};

// How a number lies in memory. A complex element is two numbers of half its size.
struct NumberFormat {
    unsigned bytes = 0;          // of one number (not of one complex element)
    unsigned numbers = 1;        // per element: 2 for complex, else 1
    unsigned exponent_bits = 0;  // 0: not a float (or one whose byte is best seen whole)
    unsigned mantissa_bits = 0;
};

// Throws DecodeError for a code that the format does not define.
inline NumberFormat number_format(std::uint8_t code) {
    switch (static_cast<DType>(code)) {
        case DType::float64:
            return {8, 1, 11, 52};
        case DType::float32:
            return {4, 1, 8, 23};
        case DType::float16:
            return {2, 1, 5, 10};
        case DType::bfloat16:
            return {2, 1, 8, 7};
        case DType::complex128:
            return {8, 2, 11, 52};
        case DType::complex64:
            return {4, 2, 8, 23};
        case DType::complex32:
            return {2, 2, 5, 10};
        case DType::float8_e4m3fn:
        case DType::float8_e5m2:
        case DType::float8_e4m3fnuz:
        case DType::float8_e5m2fnuz:
        case DType::float8_e8m0fnu:
        case DType::float4_e2m1fn_x2:
        case DType::int8:
        case DType::uint8:
        case DType::bool8:
            return {1, 1, 0, 0};
        case DType::int64:
        case DType::uint64:
            return {8, 1, 0, 0};
        case DType::int32:
        case DType::uint32:
            return {4, 1, 0, 0};
        case DType::int16:
        case DType::uint16:
            return {2, 1, 0, 0};
    }
    throw DecodeError("element type " + std::to_string(code) + " is not defined");
}

}  // namespace nncodec
