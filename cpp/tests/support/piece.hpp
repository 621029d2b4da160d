// The memory of a segment, which counts its releases.
#pragma once

#include <string>
#include <utility>

#include "zloop/write_queue.hpp"

namespace zloop::test {

struct Piece {
  Piece() = default;
  explicit Piece(std::string with_bytes) : bytes(std::move(with_bytes)) {}

  Segment segment() { return {.data = bytes.data(), .size = bytes.size(), .reference = this}; }
  static void release(void* piece) noexcept { ++static_cast<Piece*>(piece)->releases; }

  std::string bytes;
  int releases = 0;
};

}  // namespace zloop::test
