// Decides when the writer to a buffer is paused: above the high-water mark, until the buffer has drained to the
// low-water mark.
#pragma once

#include <cassert>
#include <cstddef>
#include <limits>

namespace zloop {

class FlowControl final {
 public:
  // The largest mark, in bytes. Larger values are reduced to it.
  static constexpr std::size_t mark_max = std::numeric_limits<std::size_t>::max() >> 1U;

  [[nodiscard]] std::size_t high_water() const noexcept { return high_; }
  [[nodiscard]] std::size_t low_water() const noexcept { return low_; }
  [[nodiscard]] bool paused() const noexcept { return paused_ != 0; }

  // For a buffer that replaces another one.
  void set_paused(bool paused) noexcept { paused_ = paused ? 1 : 0; }

  void set_limits(std::size_t high, std::size_t low) noexcept {
    assert(low <= high);
    high_ = (high < mark_max ? high : mark_max) & mark_max;
    low_ = low < mark_max ? low : mark_max;
  }

  // True if the writer has to pause, now that the buffer holds `size` bytes. Each pause and each resumption is reported
  // once.
  [[nodiscard]] bool pauses_at(std::size_t size) noexcept {
    if (paused() || size <= high_) return false;
    paused_ = 1;
    return true;
  }

  // As pauses_at(), by the rule that asyncio.sslproto has for both directions of TLS: it pauses at the high-water mark
  // itself, and never where the writer would resume at once.
  [[nodiscard]] bool pauses_from(std::size_t size) noexcept {
    if (paused() || size < high_ || size <= low_) return false;
    paused_ = 1;
    return true;
  }

  // True if the writer has to resume, now that the buffer holds `size` bytes.
  [[nodiscard]] bool resumes_at(std::size_t size) noexcept {
    if (!paused() || size > low_) return false;
    paused_ = 0;
    return true;
  }

 private:
  // Two words, because each connection has a FlowControl. The default marks are asyncio's for writing.
  std::size_t high_ : std::numeric_limits<std::size_t>::digits - 1 = std::size_t{64} * 1024;
  std::size_t paused_ : 1 = 0;
  std::size_t low_ = std::size_t{16} * 1024;
};

}  // namespace zloop
