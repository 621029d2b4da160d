// A radix sort: by one byte of the key after the other, from the lowest on.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace zloop {

// Sorts by key_of(item), a std::int64_t, and leaves items of one key in the order they had. Takes one pass for each
// byte in which the keys may differ. Throws std::bad_alloc, having changed nothing.
template <typename T, typename KeyOf>
void radix_sort(std::vector<T>& items, KeyOf key_of) {
  if (items.empty()) return;
  const auto unsigned_key_of = [&](const T& item) { return static_cast<std::uint64_t>(key_of(item)); };
  std::int64_t lowest = key_of(items.front());
  std::int64_t highest = lowest;
  for (const T& item : items) {
    lowest = std::min(lowest, key_of(item));
    highest = std::max(highest, key_of(item));
  }
  const auto least = static_cast<std::uint64_t>(lowest);
  const std::uint64_t range = static_cast<std::uint64_t>(highest) - least;
  std::vector<T> sorted = items;  // of that size; each pass writes all of it
  for (unsigned shift = 0; shift < 64 && range >> shift != 0; shift += 8) {
    const auto byte_of = [&](const T& item) { return ((unsigned_key_of(item) - least) >> shift) & 0xff; };
    std::array<std::size_t, 257> next{};  // by byte: the index of the next item that has it
    for (const T& item : items) ++next[byte_of(item) + 1];
    std::partial_sum(next.begin(), next.end(), next.begin());
    for (const T& item : items) sorted[next[byte_of(item)]++] = item;
    items.swap(sorted);
  }
}

}  // namespace zloop
