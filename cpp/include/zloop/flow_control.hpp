// When the writer to a buffer is paused: above a high-water mark, until the buffer has drained to the low one.
#pragma once

#include <cassert>
#include <cstddef>
#include <limits>

namespace zloop {

class FlowControl final {
 public:
  // A mark is a number of bytes. Larger ones count as this.
  static constexpr std::size_t mark_max = std::numeric_limits<std::size_t>::max() >> 1U;

  [[nodiscard]] std::size_t high_water() const noexcept { return high_; }
  [[nodiscard]] std::size_t low_water() const noexcept { return low_; }
  [[nodiscard]] bool paused() const noexcept { return paused_ != 0; }

  // For a buffer that takes over from another one.
  void set_paused(bool paused) noexcept { paused_ = paused ? 1 : 0; }

  void set_limits(std::size_t high, std::size_t low) noexcept {
    assert(low <= high);
    high_ = (high < mark_max ? high : mark_max) & mark_max;
    low_ = low < mark_max ? low : mark_max;
  }

  // True if the writer has to pause now that the buffer holds `size` bytes. Each is asked for once.
  [[nodiscard]] bool pauses_at(std::size_t size) noexcept {
    if (paused() || size <= high_) return false;
    paused_ = 1;
    return true;
  }

  // The same for a rule that pauses at the high-water mark itself, and never where the writer would resume at once.
  // asyncio.sslproto has it, for both directions of TLS.
  [[nodiscard]] bool pauses_from(std::size_t size) noexcept {
    if (paused() || size < high_ || size <= low_) return false;
    paused_ = 1;
    return true;
  }

  // True if the writer has to resume.
  [[nodiscard]] bool resumes_at(std::size_t size) noexcept {
    if (!paused() || size > low_) return false;
    paused_ = 0;
    return true;
  }

 private:
  // Two words: each connection has one. The marks are asyncio's, for what is written.
  std::size_t high_ : std::numeric_limits<std::size_t>::digits - 1 = std::size_t{64} * 1024;
  std::size_t paused_ : 1 = 0;
  std::size_t low_ = std::size_t{16} * 1024;
};

}  // namespace zloop
