// What a fuzzer calls with each input: libFuzzer (-DZLOOP_FUZZER=ON, with Clang), or else standalone.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

// Aborts if something does not hold. Always returns 0; the name and the type are libFuzzer's.
// NOLINTNEXTLINE(readability-identifier-naming)
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
