// How the engine says that input is bad.
//
// Parsing code throws DecodeError; hot loops return Status and their caller throws. Nothing below cpp/python
// knows Python; cpp/python/convert.hpp is the one place that turns these into Python exceptions.
#pragma once

#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace nncodec {

enum class [[nodiscard]] Status : std::uint8_t { ok, truncated, corrupt };

// Input bytes are damaged, truncated or hostile. The message names field, value and allowed range.
struct DecodeError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A caller's argument is wrong (becomes ValueError).
struct ArgumentError : std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

// A number in a message, with as many digits as help.
inline std::string shown(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value);
    return text;
}

inline void check(Status status, const char* what) {
    if (status == Status::ok) return;
    throw DecodeError(std::string(what) + (status == Status::truncated ? ": truncated" : ": corrupt"));
}

}  // namespace nncodec
